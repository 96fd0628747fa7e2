"""Hospitals' bad files through the commands: each is told by one line with its place, the others go
on, and no cell is in what is printed, sent to the server or left behind."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from wardround.common.errors import DataError
from wardround.common.process.main import app

CANARY = "Kanarienvogel"
HEAD = "patient,age,ward,died"
ROWS = [f"{CANARY}{n // 2},{50 + n * 7 % 40}.5,{'abc'[n % 3]},{n * 5 % 3 % 2}" for n in range(40)]
STUDY = """
[federation]
rounds = 1
[data]
path = "h"
[task.columns]
target = "died"
numeric = ["age"]
categorical = ["ward"]
patient_id = "patient"
[simulation]
baselines = false
executor = "sequential"
"""


def lines(*rows: str, head: str = HEAD) -> bytes:
    return ("\n".join([head, *rows]) + "\n").encode()


def with_age(cell: str) -> bytes:
    return lines(*ROWS[:3], f"{CANARY},{cell},a,1", *ROWS[3:])


def _packed() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("x.csv", lines(*ROWS))
    return packed.getvalue()


def _excel() -> bytes:
    book, packed = openpyxl.Workbook(), io.BytesIO()
    for row in (HEAD, *ROWS):
        book.active.append(row.split(","))
    book.active["B4"] = f'="{CANARY}"&"1"'
    book.save(packed)
    return packed.getvalue()


def _nested() -> bytes:
    packed = io.BytesIO()
    columns = {"who": [{"name": CANARY}] * 4, "age": [1.0] * 4, "ward": ["a"] * 4, "died": [0] * 4}
    pq.write_table(pa.table(columns), packed)
    return packed.getvalue()


BAD: dict[str, tuple[bytes, str]] = {
    "empty.csv": (b"", "there are no rows"),
    "header.csv": (lines(), "there are no rows"),
    "twice.csv": (lines(*ROWS, head="patient,age,age,died"), "column 'age' stands twice"),
    "case.csv": (lines(*ROWS, head="patient,age,Age,died"), "differ in the case of letters"),
    "ragged.csv": (lines(*ROWS, f"{CANARY},1"), "ragged.csv:42: 2 cells"),
    "nul.csv": (lines(*ROWS, f"{CANARY}\0,1,a,0"), "nul.csv:42: a NUL byte"),
    "quote.csv": (lines(f'"{CANARY},1,a,0', *ROWS), "quote.csv:2: not readable as CSV"),
    "zip.csv": (_packed(), "no CSV, but a zip archive"),
    "picture.csv": (b"\x89PNG\r\n\x1a\n" + CANARY.encode(), "no CSV, but a picture"),
    "json.csv": (f'[{{"patient": "{CANARY}", "age": 1}}]'.encode(), "no CSV, but JSON"),
    "target.csv": (lines(*(r[:-2] for r in ROWS), head=HEAD[:-5]), "there is no column 'died'"),
    "text.csv": (with_age(CANARY), "text.csv:5: column 'age': not a finite number"),
    "endless.csv": (with_age("inf"), "endless.csv:5: column 'age': not a finite number"),
    "large.csv": (with_age("1e400"), "large.csv:5: column 'age': not a finite number"),
    "arabic.csv": (with_age("\u0666\u0662"), "arabic.csv:5: column 'age': digits"),
    "exact.csv": (with_age("9007199254740993"), "exact.csv:5: column 'age': "),
    "old.csv": (with_age("1850-01-31"), "old.csv:5: column 'age': not a finite number"),
    "formula.xlsx": (_excel(), "formula.xlsx: a formula without a stored value at B4"),
    "nested.parquet": (_nested(), "column 'who': of type struct"),
    "no.parquet": (lines(*ROWS), "not readable as Parquet"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hospitals that can take part, and one for each bad file."""
    folder = tmp_path_factory.mktemp("bad")
    for where in ("h", "good"):
        (folder / where).mkdir()
        for name in ("north", "south", "west"):
            (folder / where / f"{name}.csv").write_bytes(lines(*ROWS))
    for name, (content, _) in BAD.items():
        (folder / "h" / name).write_bytes(content)
    (folder / "h" / "folder.csv").mkdir()
    (folder / "federation.toml").write_text(STUDY)
    return folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module", params=["simulate", "analyse"])
def asked(place: Path, request: pytest.FixtureRequest) -> tuple[Result, Path]:
    """What a command printed, and its runs' folder."""
    runs = place / request.param
    more = ("--set", 'procedure.name="describe"') if request.param == "analyse" else ()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "400")
        file = place / "federation.toml"
        return run(request.param, file, "--set", f'federation.runs="{runs}"', *more), runs


def test_who_can_read_goes_on_and_who_cannot_is_told(asked: tuple[Result, Path]) -> None:
    found, runs = asked
    assert found.exit_code == 0, (found.output, found.exception)
    told = {
        line.partition(" can't take part")[0]: line
        for line in found.output.splitlines()
        if " can't take part" in line
    }
    assert set(told) == {*(Path(name).stem for name in BAD), "folder.csv"}
    for name, (_, said) in BAD.items():
        assert said in told[Path(name).stem], name
    assert CANARY not in found.output
    left = [path for path in runs.rglob("*") if path.is_file()]
    assert len(left) > 4 and all(CANARY.encode() not in path.read_bytes() for path in left)


def test_a_file_is_looked_at_with_all_of_the_others(place: Path) -> None:
    """What no setting can mend ends without a file, all of it at once."""
    found = run("init", place / "made.toml", "--data", place / "h", "--target", "died")
    assert isinstance(found.exception, DataError) and not (place / "made.toml").exists()
    said = str(found.exception)
    for name in ("empty.csv", "twice.csv", "ragged.csv", "zip.csv", "nested.parquet", "no.parquet"):
        assert f"h/{name}" in said, name
    assert CANARY not in said + found.output


def test_no_prediction_comes_of_a_bad_file(place: Path, tmp_path: Path) -> None:
    good = place / "federation.toml"
    made = run(
        "simulate", good, "--set", f'federation.runs="{tmp_path}"', "--set", 'data.path="good"'
    )
    assert made.exit_code == 0, made.exception
    (model,) = tmp_path.glob("*/model")
    for name in BAD:
        found = run("predict", model, "--data", place / "h" / name, "--out", tmp_path / "p.csv")
        said = str(found.exception) + found.output
        assert CANARY not in said, name
        if name != "target.csv":  # rows to predict need none
            assert isinstance(found.exception, DataError) and name in said, name
            assert not (tmp_path / "p.csv").exists(), name
        (tmp_path / "p.csv").unlink(missing_ok=True)
