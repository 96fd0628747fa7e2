"""``wardround client monitor``: rows and counts against a hospital's own reference."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.client.models.kits import AtHome, at_home, write_rows
from wardround.common.drift.field import fields_of
from wardround.common.drift.metrics import metrics_text
from wardround.common.drift.recent import Recent
from wardround.common.drift.reference import REFERENCE, Reference
from wardround.common.errors import DataError
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.monitor.report import DRIFTED
from wardround.common.monitor.rows import read_rows
from wardround.common.monitor.watch import reference_of, score
from wardround.common.predict.load import load_model
from wardround.common.predict.predictor import Predictor
from wardround.common.process.main import app


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> AtHome:
    """A kit with results, and the reference that its client would have kept."""
    made = at_home(tmp_path_factory.mktemp("kit"))
    write_rows(made.data.parent / "before.csv", "binary", 500, 11)
    predictor = Predictor(ModelFolder.open(made.model))
    raw = read_rows(predictor.task, made.data.parent / "before.csv")
    own = made.model.parent / "own"
    own.mkdir(mode=0o700)
    kept = reference_of(predictor.folder, score(predictor, raw), "north")
    (own / REFERENCE).write_text(kept.to_text())
    return made


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, ["client", "monitor", *map(str, words)])


def rows(home: AtHome, name: str, change: Any = None, n: int = 200) -> Path:
    """Rows as those of before, changed line by line."""
    path = home.data.parent / name
    write_rows(path, "binary", n, 23)
    if change is not None:
        head, *lines = path.read_text().splitlines()
        cells = [change(dict(zip(head.split(","), line.split(","), strict=True))) for line in lines]
        path.write_text("\n".join([",".join(cells[0]), *(",".join(x.values()) for x in cells)]))
    return path


def test_a_share_of_what_the_model_says_is_held_against_its_history(home: AtHome) -> None:
    """By the command, with windows of rows: scores of the last one are all of one class."""
    schema = ModelFolder.open(home.model).schema
    kit, wanted = home.kit.folder, f"{schema.target}={schema.classes[1]}"
    path = rows(home, "stream.csv", n=300)
    quiet = run(kit, "--data", path, "--window", 50, "--surge", wanted)
    assert f"share of {schema.target} = {schema.classes[1]} in 2 windows" in quiet.output
    values = json.loads((home.model.parent / "own" / "monitor.json").read_text())
    assert {one["group"] for one in values["shares"]} == {"all rows"}
    assert values["rule"] == {"column": schema.target, "value": schema.classes[1], "per": ""}
    head, *lines = path.read_text().splitlines()
    scored = load_model(home.model).predict(path)["probability"]
    most = [lines[place] for place in np.argsort(scored)[::-1][:50]]
    path.write_text("\n".join([head, *lines[:250], *most]))
    found = run(kit, "--data", path, "--window", 50, "--surge", wanted)
    assert found.exit_code == DRIFTED and "SURGE all rows, rows 251 to 300" in found.output
    assert "SURGE" in (home.model.parent / "own" / "monitor.html").read_text()
    wrong = run(kit, "--data", path, "--surge", schema.target)
    assert wrong.exit_code == 1 and "write COLUMN=VALUE" in str(wrong.output) + str(wrong.exception)


def test_clean_rows_are_no_drift_and_a_wrong_unit_is_an_alarm_that_says_where(home: AtHome) -> None:
    kit = home.kit.folder
    clean = run(kit, "--data", rows(home, "clean.csv"))
    assert clean.exit_code == 0, clean.output
    assert "500 rows of north" in clean.output and "auc" in clean.output

    def wrong(row: dict[str, str]) -> dict[str, str]:
        return row | {"z": str(38.67 * float(row["z"]))}

    found = run(kit, "--data", rows(home, "unit.csv", wrong))
    assert found.exit_code == DRIFTED and "DRIFT input 'z'" in found.output
    written = home.model.parent / "own"
    values = json.loads((written / "monitor.json").read_text())
    alarms = {one["field"] for one in values["windows"][0]["fields"] if one["drifted"]}
    assert values["drifted"] and "z" in alarms and "x" not in alarms
    page = (written / "monitor.html").read_text()
    assert "<script" not in page and "DRIFT" in page
    for name in ("monitor.json", "monitor.html"):
        assert (written / name).stat().st_mode & 0o777 == 0o600
        text = (written / name).read_text()
        assert "P23-" not in text and str(home.data.parent) not in text  # nobody, no path


def test_a_missing_column_odd_cells_and_no_outcomes_are_seen_and_end_nothing(home: AtHome) -> None:
    def without(row: dict[str, str]) -> dict[str, str]:
        row.pop("out")
        row["x"] = (
            "?" if row["who"].endswith("3") else "seven" if row["who"][-1] in "24" else row["x"]
        )
        return {key: value for key, value in row.items() if key != "z"}

    found = run(home.kit.folder, "--data", rows(home, "odd.csv", without))
    assert found.exit_code == DRIFTED, found.output
    assert "input 'z' is not among the columns" in found.output
    assert "DRIFT input 'z': missing: 100.0% of rows" in found.output
    assert "DRIFT input 'x': no number" in found.output
    assert "auc" not in found.output and "seven" not in found.output


def test_windows_by_date_and_size_and_a_second_model(home: AtHome) -> None:
    def dated(row: dict[str, str]) -> dict[str, str]:
        month = 1 + int(row["who"].split("-")[1]) // 34
        late = month == 3
        return row | {"z": str(float(row["z"]) + 40 * late), "day": f"2026-{month:02}-09"}

    path = rows(home, "dated.csv", dated)
    found = run(home.kit.folder, "--data", path, "--by", "day")
    assert found.exit_code == DRIFTED
    lines = [line for line in found.output.splitlines() if line.startswith("2026-")]
    assert [line.split(":")[1] for line in lines] == [
        " no drift",
        " no drift",
        lines[2].split(":")[1],
    ]
    assert "alarm" in lines[2]
    sized = run(home.kit.folder, "--data", path, "--window", "80", "--shadow", home.model)
    assert "rows 161 to 200 (40 rows)" in sized.output
    assert (
        "differs by +0.0000 on average" in sized.output
        and "100.0% on the same side" in sized.output
    )
    wrong = run(home.kit.folder, "--data", path, "--by", "who")
    assert isinstance(wrong.exception, DataError) and "no date" in str(wrong.exception)
    assert "P23" not in str(wrong.exception)


def test_counts_of_a_server_give_what_its_rows_would_have(home: AtHome, tmp_path: Path) -> None:
    predictor = Predictor(ModelFolder.open(home.model))
    schema, kit = predictor.schema, home.kit.folder
    fields = fields_of(schema)
    raw = read_rows(predictor.task, rows(home, "served.csv"))
    columns = {
        key: one for key, one in score(predictor, raw).columns.items() if "outcome" not in key
    }
    recent = Recent(fields)
    for _ in range(2):
        recent.add(columns)
        (tmp_path / f"{len(list(tmp_path.iterdir()))}.txt").write_text(metrics_text(recent.state()))
    found = run(kit, "--from", tmp_path / "0.txt", "--out", tmp_path / "served")
    assert found.exit_code == 0, found.output
    run(kit, "--data", home.data.parent / "served.csv", "--out", tmp_path / "rows")
    one, other = (
        {
            f["field"]: f
            for f in json.loads((tmp_path / name / "monitor.json").read_text())["windows"][0][
                "fields"
            ]
            if f["role"] != "outcome"
        }
        for name in ("served", "rows")
    )
    assert one == other and set(one) == {"x", "z", "probability"}
    between = run(kit, "--from", tmp_path / "1.txt", "--since", tmp_path / "0.txt")
    assert "(200 rows)" in between.output and between.exit_code == 0
    turned = run(kit, "--from", tmp_path / "0.txt", "--since", tmp_path / "1.txt")
    assert "no part of the later ones" in str(turned.exception)


def test_metrics_are_fetched_from_an_address_and_its_refusals_are_a_line(home: AtHome) -> None:
    predictor = Predictor(ModelFolder.open(home.model))
    recent = Recent(fields_of(predictor.schema))
    raw = read_rows(predictor.task, rows(home, "asked.csv"))
    recent.add(score(predictor, raw).columns)
    body = metrics_text(recent.state()).encode()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers.get("Authorization") == "Bearer word"
            self.send_response(200 if allowed else 401)
            self.end_headers()
            self.wfile.write(body if allowed else b"")

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/metrics"
        word = home.data.parent / "word"
        word.write_text("word\n")
        word.chmod(0o600)
        assert run(home.kit.folder, "--from", address, "--token-file", word).exit_code == 0
        refused = run(home.kit.folder, "--from", address)
        assert "answers with 401" in str(refused.exception)
        server.shutdown()
    gone = run(home.kit.folder, "--from", address)
    assert "gives no answer" in str(gone.exception)
    both = run(home.kit.folder, "--from", address, "--window", "9")
    assert isinstance(both.exception, DataError)


def test_without_a_reference_it_says_what_helps(home: AtHome, tmp_path: Path) -> None:
    own = home.model.parent / "own" / REFERENCE
    text = own.read_text()
    own.unlink()
    path = rows(home, "none.csv")
    unlisted = home.model / REFERENCE  # no part of the model, whoever has put it there
    unlisted.write_text(text)
    found = run(home.kit.folder, "--data", path)
    unlisted.unlink()
    assert "--reference" in str(found.exception)
    given = run(home.kit.folder, "--data", path, "--reference", home.data.parent / "before.csv")
    assert given.exit_code == 0, given.output
    other = Reference.read(_kept(tmp_path, text), fields_of(ModelFolder.open(home.model).schema))
    assert other.whose == "north" and np.isclose(other.figures[1].value, other.figures[1].value)
    wrong = _kept(tmp_path, text.replace(other.model, "ab" * 32))
    refused = run(home.kit.folder, "--data", path, "--reference", wrong)
    assert "of another model" in str(refused.exception)
    own.write_text(text)


def _kept(folder: Path, text: str) -> Path:
    path = folder / "kept.json"
    path.write_text(text)
    return path
