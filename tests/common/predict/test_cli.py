"""``wardround predict``: a table to standard output or a file, or one line and a code."""

from __future__ import annotations

import io
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from wardround.common.calibration.calibration import Calibration
from wardround.common.predict import Predictor
from wardround.common.process import main as cli
from wardround.common.tasks.tabular_rows import TabularRows
from wardround.common.trust import pki
from wardround.common.trust.calibrations import sign_calibration
from wardround.common.trust.identity import Identity


def run_it(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, bytes, str]:
    monkeypatch.setattr(sys, "argv", ["wardround", "predict", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsysbinary.readouterr()
    return int(ended.value.code or 0), out, err.decode()


@pytest.fixture
def rows(run: Path) -> Path:
    return run.parent.parent / "data" / "north.csv"


def test_the_commands_table_is_that_of_python(
    run: Path,
    model: Predictor,
    rows: Path,
    tmp_path: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = model.predict(rows)
    asked = (run, "--data", rows, "--keep", "died", "--threshold", 0.5)
    code, out, err = run_it(capsysbinary, monkeypatch, *asked)
    found = arrow_csv.read_csv(io.BytesIO(out))
    assert (code, err) == (0, "")
    assert found.column_names == ["row", "mrn", "died", "probability", "positive"]
    assert found.column("probability").to_pylist() == expected["probability"].tolist()
    reached = [int(one >= 0.5) for one in expected["probability"]]
    assert found.column("positive").to_pylist() == reached and 0 < sum(reached) < len(reached)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(rows.read_bytes())))
    code, streamed, _ = run_it(capsysbinary, monkeypatch, run, "--data", "-", *asked[3:])
    assert (code, streamed) == (0, out)

    for ending in ("csv", "parquet", "jsonl"):
        code, nothing, _ = run_it(
            capsysbinary, monkeypatch, *asked, "--out", tmp_path / f"out.{ending}"
        )
        assert (code, nothing) == (0, b"")
    assert (tmp_path / "out.csv").read_bytes() == out
    assert (tmp_path / "out.csv").stat().st_mode & 0o777 == 0o600  # whose they are stands in it
    for found in (pq.read_table(tmp_path / "out.parquet").to_pandas(), pd.read_json(
        tmp_path / "out.jsonl", lines=True, dtype={"mrn": str}, precise_float=True
    )):  # fmt: skip
        assert found["probability"].tolist() == expected["probability"].tolist()
        assert found["mrn"][7] == "00007"


def test_what_is_wrong_behind_the_first_part_leaves_no_file(
    run: Path,
    tmp_path: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = [f"{n},{50 + n},1.5,a,yes" for n in range(200)]
    lines[120] = "120,SECRET,1.5,a,yes"
    lines[150] = "150,51,SECRET,a,yes"
    data, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    data.write_text("mrn,age,crp,ward,smoker\n" + "\n".join(lines) + "\n")
    out.write_text("of before")
    monkeypatch.setattr(TabularRows, "part_bytes", 400)
    code, nothing, err = run_it(capsysbinary, monkeypatch, run, "--data", data, "--out", out)
    assert (code, nothing) == (3, b"") and "SECRET" not in err and "Traceback" not in err
    assert "rows.csv:122: column 'age'" in err and "rows.csv:152: column 'crp'" in err
    assert out.read_text() == "of before" and sorted(tmp_path.iterdir()) == [out, data]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--data", "nowhere.csv"), 2, "no such file or folder"),
        (("--data", "{rows}", "--out", "here.txt"), 2, "written as .csv, .jsonl, .parquet"),
        (("--data", "{rows}", "--keep", "bed"), 3, "there is no column 'bed'"),
        (("--data", "{rows}", "--keep", "row"), 3, "column 'row' can't be kept"),
    ],
)
def test_a_mistake_is_one_line(
    run: Path,
    rows: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    asked = [one.format(rows=rows) for one in arguments]
    ended, out, err = run_it(capsysbinary, monkeypatch, run, *asked)
    assert (ended, out) == (code, b"") and said in err and err.count("\n") == 1


def test_a_folder_that_was_altered_or_is_past_its_last_day_is_refused(
    run: Path,
    rows: Path,
    tmp_path: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(run / "model", folder)
    with monkeypatch.context() as later:
        later.setattr(pki, "now_utc", lambda: datetime(2100, 1, 1, tzinfo=UTC))
        code, out, err = run_it(capsysbinary, monkeypatch, folder, "--data", rows)
        assert (code, out) == (17, b"") and "good until" in err
        code, out, _ = run_it(capsysbinary, monkeypatch, folder, "--data", rows, "--expired-ok")
        assert code == 0 and out.count(b"\n") == 61
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    code, out, err = run_it(capsysbinary, monkeypatch, folder, "--data", rows)
    assert (code, out) == (17, b"") and "'model.safetensors' was altered" in err


def test_a_calibration_of_this_model_is_applied_and_of_another_refused(
    run: Path,
    model: Predictor,
    rows: Path,
    tmp_path: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Calibration(
        model=model.folder.digest,
        run="r",
        kind="binary",
        method="logistic",
        intercept=-0.5,
        slope=2.0,
    )
    file, asked = tmp_path / "calibration.json", (run, "--data", rows, "--calibration")
    file.write_bytes(sign_calibration(made, Identity.generate()).to_bytes())
    code, out, _ = run_it(capsysbinary, monkeypatch, *asked, file)
    found = np.array(arrow_csv.read_csv(io.BytesIO(out)).column("probability"))
    logits = np.log(model.predict(rows)["probability"] / (1 - model.predict(rows)["probability"]))
    assert code == 0 and np.allclose(found, 1 / (1 + np.exp(0.5 - 2.0 * logits)), rtol=1e-9)
    file.write_bytes(replace(made, model="0f" * 32).to_bytes())
    code, out, err = run_it(capsysbinary, monkeypatch, *asked, file)
    assert (code, out) != (0, b"") and "of another model than this one" in err
