"""What bad files get: one line for each problem, with its place and a mend, and no cell of them."""

from __future__ import annotations

import traceback
import zipfile
from decimal import Decimal
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.common.tasks.data.reading.kinds import KINDS, write
from wardround.common.errors import DataError
from wardround.common.tasks.data.tables import read_table
from wardround.common.tasks.tabular import TabularTask

SECRET = "Canary"
TASK_OF_ILL = TabularTask(columns={"target": "ill"})
TASK = TabularTask(columns={"target": "ill", "categorical": ["ward"], "binary": ["smoker"]})


def refused(path: Path, task: TabularTask = TASK) -> str:
    """The message, without the path; nothing of a cell is in it, or in what a log would show."""
    with pytest.raises(DataError) as caught:
        task.load(path)
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown.replace("test_bad.py", "") and str(path.parent) in str(caught.value)
    return str(caught.value).replace(f"{path.parent}/", "")


CSV = {
    "empty": ("", "x.csv: there are no rows; check"),
    "header only": ("age,ill\n", "x.csv: there are no rows; check"),
    "headers twice": (
        "age,age,ill\n1,2,0\n",
        "column 'age' stands twice in the header, as columns 1",
    ),
    "headers of another case": ("age,Age,ill\n1,2,0\n", "columns 1 and 2 differ in the case"),
    "headers of another form": (
        "größe,gro\u0308ße,ill\n1,2,0\n",
        "stands twice in the header, but for blanks or form, as columns 1 and 2; rename one",
    ),
    "a header without a name": ("age,,ill\n1,2,0\n", "x.csv: column 2 has no name in the header"),
    "a header with an unseen letter": (
        "age,a\u202eb,ill\n1,2,0\n",
        "of column 2 has an unseen",
    ),
    "ragged": ("age,ill\n1,0\nCanary,1,2\n", "x.csv:3: 3 cells, but there are 2 columns; quote"),
    "NUL": (f"age,ill\n1,0\n{SECRET}\0,1\n", "x.csv:3: a NUL byte"),
    "a quote left open": (f'age,ill\n1,0\n"{SECRET},1\n2,0\n', "x.csv:3: not readable as CSV"),
    "a quote within": (f'age,ill\n1,0\n"{SECRET}"x,1\n', "x.csv:3: not readable as CSV"),
    "no target": ("age,sick\n1,0\n", "there is no column 'ill'; it has age, sick"),
    "an Arabic digit": (
        "age,ill\n1,0\n\u0662,1\n",
        "x.csv:3: column 'age': digits that",
    ),
    "inf": ("age,ill\n1,0\ninf,1\n", "x.csv:3: column 'age': not a finite number"),
    "1e400": ("age,ill\n1e400,0\n2,1\n", "x.csv:2: column 'age': not a finite number"),
    "a date": ("age,ill\n1850-01-31,0\n", "x.csv:2: column 'age': a date, which is no number"),
    "beyond 2^53": (
        "age,ill\n9007199254740993,0\n",
        "x.csv:2: column 'age': a whole number",
    ),
    "beyond what sums hold": ("age,ill\n20000000000000,0\n", "x.csv:2: column 'age': not a fin"),
    "a comma": ('age,ill\n"1,234",0\n', "x.csv:2: column 'age': a comma, which is a mark"),
    "a right-to-left name": ("عمر,ill\nCanary,0\n", "x.csv:2: column 'عمر': not a finite number"),
    "a cell of another kind": (
        f"age,ill\n{SECRET},0\n1,1\n",
        "x.csv:2: column 'age': not a",
    ),
    "two values and a third": ("age,ill\n1,0\n2,Canary\n", "x.csv:3: column 'ill': not 0/1"),
}


@pytest.mark.parametrize("case", CSV)
def test_a_bad_csv(tmp_path: Path, case: str) -> None:
    content, expected = CSV[case]
    path = tmp_path / "x.csv"
    path.write_bytes(content.encode())
    assert expected in (message := refused(path, TASK_OF_ILL)) and "\n" not in message


def test_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b,ill\n" + "1,2\n" * 30 + "1,2,0\n")
    lines = refused(path).split("\n")
    assert lines[0] == "x.csv: 30 problems" and lines[-1] == "  and 10 more" and len(lines) == 22
    path.write_text("a,b,c,ill\n1,Canary,2,0\nCanary,1,x,1\n1,1,y,Canary\n")
    message = refused(path, TASK_OF_ILL)
    for place in ("3: column 'a'", "2: column 'b'", "3: column 'c'", "4: column 'ill'"):
        assert f"x.csv:{place}: not " in message
    assert "(also line 4)" in message


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_is_named_by_its_row_in_any_kind_of_file(tmp_path: Path, kind: str) -> None:
    rows = {"age": [1, 2, SECRET], "ward": ["a", None, "a"], "smoker": [0, 1, 1], "ill": [0, 1, 0]}
    line = 3 if kind == "parquet" else 4
    message = refused(write(tmp_path, kind, rows))
    assert f"x.{kind}:{line}: column 'age': not a finite number" in message


@pytest.mark.parametrize("kind", ["parquet", "xlsx"])
def test_a_wrong_beginning_and_a_torn_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    for content in (b"", b"a,b\nCanary,1\n", b"PAR1Canary", b"PK\x03\x04Canary"):
        path.write_bytes(content)
        assert f"x.{kind}: not readable as" in refused(path) or "no sheet" in refused(path)
    whole = write(tmp_path, kind, {"age": [SECRET] * 50, "ill": [0] * 50}, "y").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert f"x.{kind}: " in refused(path)


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("x.csv", b"PK\x03\x04Canary", "no CSV, but a zip archive: unpack it"),
        ("x.csv", b"PAR1Canary", "no CSV, but a Parquet file"),
        ("x.csv", b"\xd0\xcf\x11\xe0Canary", "no CSV, but an old Excel or Office file: save it as"),
        ("x.csv", b"\x1f\x8bCanary", "no CSV, but packed by gzip"),
        ("x.csv", b"\x89PNG\r\n\x1a\nCanary", "no CSV, but a picture: export the table"),
        ("x.csv", b'[\n {"name": "Canary", "ill": 1}]', "no CSV, but JSON: export the table"),
        ("x.csv", b'{"Canary": "Canary", "ill": 1}\n', "no CSV, but JSON: export the table"),
        ("x.csv", b"<!DOCTYPE html><td>Canary", "no CSV, but a web page or XML: export"),
        ("x.xlsx", b"%PDF-1.7 Canary", "not readable as .xlsx: it rather is a PDF: export"),
        ("x.xlsx", b"Canary,1\n", "not readable as .xlsx: begins as no such; check its ending"),
        ("x.parquet", b"PK\x03\x04Canary", "not readable as Parquet: it rather is a zip archive"),
        ("x.parquet", b"", "not readable as Parquet: an empty file"),
        ("x.xls", b"\xd0\xcf\x11\xe0Canary", "an old Excel file; save it as .xlsx or CSV"),
        ("x.xlsx", b"\xd0\xcf\x11\xe0Canary", "an old or encrypted Excel file; save it as"),
        ("x.zip", b"PK\x03\x04Canary", "a zip archive; unpack it"),
    ],
)
def test_another_kind_of_file_says_what_it_is(tmp_path: Path, name: str, head, said: str) -> None:
    (tmp_path / name).write_bytes(head)
    assert said in refused(tmp_path / name)


def test_a_zip_that_is_no_excel_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.xlsx", "w") as packed:
        packed.writestr("x.csv", "a,b\nCanary,1\n")
    assert "a zip archive without a sheet" in refused(tmp_path / "x.xlsx")


def test_a_folder_named_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.csv").mkdir()
    assert "x.csv: no file to read here" in refused(tmp_path / "x.csv")


def test_an_endless_line(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"age,ill\n" + b"Canary" * 3_000_000)
    assert "x.csv:2: a line of more than 16 MiB" in refused(path)
    path.write_bytes(b"Canary" * 3_000_000)
    assert "x.csv:1: a line of more than 16 MiB" in refused(path)


def test_a_table_that_lies_there_twice(tmp_path: Path) -> None:
    rows = {"age": [1, 2], "ill": [0, 1]}
    for kind in ("csv", "xlsx"):
        write(tmp_path, kind, rows)
    assert "x.xlsx: the same name as x.csv beside it" in refused(tmp_path)
    (tmp_path / "x.xlsx").unlink()
    write(tmp_path, "csv", rows, "copy of x")
    assert TASK_OF_ILL.warnings(TASK_OF_ILL.load(tmp_path)) == [
        "1 of 2 files are copies of others: rows count twice"
    ]
    write(tmp_path, "csv", {"age": [1, 2], "well": [0, 1]}, "y")
    (tmp_path / "copy of x.csv").unlink()
    assert "y.csv: its columns differ from those of" in refused(tmp_path)


def test_types_of_parquet_that_no_column_has(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    nested = pa.array([{"name": SECRET}, None], pa.struct([("name", pa.string())]))
    columns = {
        "ill": pa.array([0, 1]),
        "who": nested,
        "list": pa.array([[SECRET], []]),
        "raw": pa.array([SECRET.encode(), b""]),
        "big": pa.array([2**64 - 1, 1], pa.uint64()),
    }
    pq.write_table(pa.table(columns), path)
    message = refused(path)
    for name, kind in (("who", "struct"), ("list", "list"), ("raw", "binary"), ("big", "uint64")):
        assert f"x.parquet: column '{name}': of type {kind}" in message
    kept = {"n": pa.array([Decimal("1.50"), None]), "day": pa.array([1, 2], pa.date64())}
    pq.write_table(pa.table(columns | kept).select(["ill", "n", "day"]), path)
    assert read_table(path).data.schema.types == [pa.int64(), pa.float64(), pa.date32()]


def test_what_excel_has_that_a_table_has_not(tmp_path: Path) -> None:
    path = tmp_path / "x.xlsx"
    book = openpyxl.Workbook()
    book.active.append(["age", "ill"])
    for row in ([1, 0], [SECRET, 1], ["=A2+1", 1], [4, 0]):
        book.active.append(row)
    book.active.merge_cells("B4:B5")
    book.active["D3"] = SECRET
    book.save(path)
    message = refused(path)
    assert "x.xlsx: merged cells B4:B5; unmerge them" in message
    assert "a formula without a stored value at A4; open the file in Excel" in message
    book.active.unmerge_cells("B4:B5")
    book.active["A4"] = 3
    book.save(path)
    assert "x.xlsx: a value at D3, under no name; name the column" in refused(path)
    book.active["D3"] = None
    book.create_sheet("second").append(["age", "ill"])
    book.save(path)
    assert "several sheets hold rows ('Sheet', 'second'); say which in task" in refused(path)
    task = TabularTask(columns={"target": "ill"}, dialect={"sheet": "Sheet"})
    assert "x.xlsx:3: column 'age': not a finite number" in refused(path, task)
    gone = TabularTask(columns={"target": "ill"}, dialect={"sheet": "third"})
    assert "there is no sheet 'third' with rows, but 'Sheet', 'second'" in refused(path, gone)


def test_a_title_above_the_header_is_one_problem(tmp_path: Path) -> None:
    said = "1 filled cell, most have 3; if it is a title, delete all above the header"
    lines = ["id;age;ill", *(f"{SECRET};{n},5;1" for n in range(9))]
    for front in ("Patients of 2009\n\n", "Patients of 2009;;\n;;\n"):
        path = tmp_path / "x.csv"
        path.write_text(front + "\n".join(lines))
        assert refused(path).startswith(f"x.csv: line 1 has {said} (line 3, it seems), else name")
    book = openpyxl.Workbook()
    for row in (["Patients of 2009"], [], ["id", "age", "ill"], *[[SECRET, 1, 1]] * 9):
        book.active.append(row)
    book.active.merge_cells("A1:C1")
    book.save(tmp_path / "x.xlsx")
    assert f"x.xlsx: row 1 has {said} (row 3, it seems)" in refused(tmp_path / "x.xlsx")


BAD = st.sampled_from(
    [SECRET, f"1{SECRET}", f"2024-01-{SECRET}", f"{SECRET},5", f'{SECRET}"', f"\u0663{SECRET}"]
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(KINDS),
    planted=st.dictionaries(
        st.tuples(st.sampled_from(["age", "ill", "smoker"]), st.integers(0, 3)), BAD, min_size=1
    ),
    wreck=st.sampled_from(["no", "cut", "quote", "bytes", "header"]),
)
def test_no_message_quotes_a_cell(tmp_path: Path, kind: str, planted, wreck: str) -> None:
    rows: dict[str, list[object]] = {
        "age": [1, 2, 3, 4],
        "ward": [SECRET] * 4,
        "smoker": [0, 1, 0, 1],
        "ill": [0, 1, 1, 0],
    }
    for (column, row), cell in planted.items():
        rows[column][row] = cell
    path = write(tmp_path, kind, rows)
    content = path.read_bytes()
    if wreck == "cut":
        path.write_bytes(content[: len(content) * 2 // 3])
    elif wreck == "quote" and kind == "csv":
        path.write_bytes(content.replace(SECRET.encode(), b'"' + SECRET.encode(), 1))
    elif wreck == "bytes" and kind == "csv":
        path.write_bytes(content.replace(SECRET.encode(), SECRET.encode() + b"\x81\0", 1))
    elif wreck == "header" and kind == "csv":
        path.write_bytes(content.replace(b"ward,smoker", b"ward", 1))
    try:
        TASK.load(path)  # what was cut off may have been all that is wrong
    except DataError:
        refused(path)
