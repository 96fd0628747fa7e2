"""Every problem of a file is named by file, line and column, and never quotes a cell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wardround.common.errors import DataError
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.data.tables import read_table
from wardround.common.tasks.data.two_values import TwoValues

SECRET = "Jane Doe"


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there are no rows"),
        ("a,b\n", "there are no rows"),
        ("a,b\n1,2\n1,2,Jane Doe\n", "x.csv:3: 3 cells, but there are 2 columns"),
        ("a,a\n1,2\n", "column 'a' stands twice"),
        ("a,\n1,2\n", "column 2 has no name"),
        (b"a,b\n1,\x81\n", "x.csv:2: neither UTF-8 nor Windows-1252 text"),
        (b"\xef\xbb\xbfa,b\n1,\xff\n", "x.csv:2: not UTF-8 text"),
        ('a,b\n1,"Jane Doe\n', "not readable as CSV"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text, message) -> None:
    with pytest.raises(DataError) as caught:
        read_table(write(tmp_path / "x.csv", text))
    assert message in str(caught.value) and SECRET not in str(caught.value)
    assert str(tmp_path / "x.csv") in str(caught.value)


def test_a_bad_cell_is_named_by_line_also_after_quoted_newlines(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", 'note,age\n"one\ntwo",5\nx,Jane Doe\ny,inf\n')
    table = read_table(path)
    with pytest.raises(DataError) as caught:
        table.numbers("age")
    assert f"{path}:4: column 'age': not a finite number" in str(caught.value)
    assert SECRET not in str(caught.value)
    with pytest.raises(DataError, match=":4: column 'age': not 0/1"):
        TwoValues().read(read_table(write(path, "age\n1\nyes\n2\n")), "age")


def test_missing_values_blanks_and_bom(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", b"\xef\xbb\xbfage,sex\n 1 ,f\n?, NA\n,m\n")
    table = read_table(path, missing_values=["", "?", "NA"])
    np.testing.assert_array_equal(table.numbers("age"), [1, np.nan, np.nan])
    assert list(table.cells("sex")) == ["f", None, "m"]
    assert len(table) == 3


def test_a_missing_column_lists_what_there_is(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "x.csv", "age,sex\n1,f\n"))
    with pytest.raises(DataError, match="no column 'bmi'; it has age, sex"):
        table.cells("bmi")


def test_a_folder_is_read_in_order_and_keeps_places(tmp_path: Path) -> None:
    write(tmp_path / "b.csv", "sex,age\nf,x\n")
    write(tmp_path / "a.csv", "age,sex\n1,m\n2,m\n")
    write(tmp_path / "readme.md", "not data")
    table = read_table(tmp_path)
    assert list(table.cells("age")) == ["1", "2", "x"]
    assert table.place(2, "age") == f"{tmp_path / 'b.csv'}:2: column 'age'"
    write(tmp_path / "c.csv", "age\n1\n")
    with pytest.raises(DataError, match="columns differ from those of .*a.csv: sex"):
        read_table(tmp_path)


def test_a_folder_or_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file to read here"):
        read_table(tmp_path)
    with pytest.raises(DataError, match="check data.path"):
        read_table(tmp_path / "nothing.csv")


def test_parquet_reads_as_the_same_table(tmp_path: Path) -> None:
    columns = {"age": [1.5, None, 0.1], "sex": ["f", "m", None], "ill": [True, False, True]}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    table = read_table(tmp_path / "x.parquet")
    np.testing.assert_array_equal(table.numbers("age"), [1.5, np.nan, 0.1])
    np.testing.assert_array_equal(TwoValues().read(table, "ill"), [1, 0, 1])
    assert list(table.cells("sex")) == ["f", "m", None]
    write(tmp_path / "y.parquet", "not parquet")
    with pytest.raises(DataError, match="not readable as Parquet"):
        read_table(tmp_path / "y.parquet")


def test_header_names_for_files_without_one(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "x.data", "1,2\n3,4\n"), Dialect(header=["a", "b"]))
    np.testing.assert_array_equal(table.numbers("b"), [2, 4])
    assert table.place(1, "b").endswith("x.data:2: column 'b'")


def test_codes_exported_as_floats_are_the_same_categories(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "x.csv", "c\n2.0\n2\n007\n1.50\nv1.0\n10.000\n"))
    assert list(table.categories("c")) == ["2", "2", "007", "1.50", "v1.0", "10"]


def test_a_row_is_at_the_line_where_it_begins(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", 'note,age\n\n"one\ntwo\nthree",5\n"a\nb",6\nx,7\n')
    assert read_table(path).line_numbers().tolist() == [3, 6, 8]
    ragged = write(tmp_path / "y.csv", 'a,b\n1,2\n"Jane\nDoe",2,3\n')
    with pytest.raises(DataError, match=r"y\.csv:3: 3 cells"):
        read_table(ragged)
    unclosed = write(tmp_path / "z.csv", 'a,b\n1,2\n3,"Jane\nDoe\n4,5\n')
    with pytest.raises(DataError, match=r"z\.csv:3: not readable as CSV"):
        read_table(unclosed)


def test_undecodable_bytes_are_at_their_line_also_in_a_long_file(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbfa,b\n" + b"1,2\n" * 500_000 + b"\xff,1\n" + b"3,4\n" * 5000
    with pytest.raises(DataError, match=r"x\.csv:500002: not UTF-8"):
        read_table(write(tmp_path / "x.csv", text))


@pytest.mark.parametrize("row", ["63.5,1,145,male", "63.5,145,145,male", "63,,145,male"])
def test_a_first_patient_taken_for_the_header_is_not_quoted(tmp_path: Path, row: str) -> None:
    path = write(tmp_path / "x.csv", f"{row}\n70.5,0,160,female\n")
    with pytest.raises(DataError) as caught:
        read_table(path).cells("age")
    message = str(caught.value).replace(str(path), "")
    assert not any(cell in message for cell in ("63", "145", "male"))
    assert "header" in message


@pytest.mark.parametrize("cell", ["1_0", "2e13", "nan", "-inf", "0x10", "1e400", "\u0661", "1-"])
def test_what_is_no_plain_number_is_refused(tmp_path: Path, cell: str) -> None:
    table = read_table(write(tmp_path / "x.csv", f'x,y\n-1e13,a\n"{cell}",b\n'))
    with pytest.raises(DataError, match=r"x\.csv:3: column 'x': (not a fin|digits)") as caught:
        table.numbers("x")
    assert cell not in str(caught.value).replace("a finite", "").replace("name", "")


def test_a_wrong_delimiter_is_suspected(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "age;sex\n1;f\n")
    with pytest.raises(DataError, match="task.dialect.delimiter"):
        read_table(path, Dialect(delimiter=",")).cells("age")
    assert list(read_table(path).cells("sex")) == ["f"]


def test_a_folder_leaves_notes_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "age\n1\n")
    write(tmp_path / "SOURCE.txt", "Where this is from, and under which licence.\n")
    assert len(read_table(tmp_path)) == 1


def test_selected_rows_keep_order_and_place(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "x.csv", "a\n1\n2\n3\n"))
    chosen = table.select(np.array([2, 0]))
    assert list(chosen.cells("a")) == ["3", "1"]
    assert chosen.place(0, "a").endswith("x.csv:4: column 'a'")
    assert sum(x.count for x in table.keep(np.array([True, False, True]), "odd").left_out) == 1


HEADERLESS = "Mueller_Hans_1961.png,pneumonia\nMueller_Hans_1961_b.png,normal\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([HEADERLESS], r"no column 'file' among its 2; is the first line a header\?$"),
        (["Mueller\nHans\n"], "among its 1; is the first line a header, and the delimiter right"),
        (["pneumonia,pneumonia\n1,2\n"], "a name stands twice in the header, as columns 1 and 2"),
        ([HEADERLESS, "file,finding\na,b\n"], "its columns differ .* of both a header"),
    ],
)
def test_hidden_names_are_in_no_message(tmp_path: Path, files: list[str], message: str) -> None:
    for number, text in enumerate(files):
        write(tmp_path / f"{number}.csv", text)
    with pytest.raises(DataError, match=message) as caught:
        read_table(tmp_path, hide_names=True).cells("file")
    assert not any(cell in str(caught.value) for cell in ("Mueller", "Hans", "pneumonia"))


def test_a_selection_hides_names_too(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "x.csv", HEADERLESS), hide_names=True)
    for part in (table.select(np.array([0])), table.keep(np.array([True]), "odd")):
        with pytest.raises(DataError, match="among its 2"):
            part.cells("file")


@pytest.mark.parametrize("values", [pa.nulls(2), pa.nulls(0)])
def test_a_column_of_nothing_is_missing_whatever_it_is_read_as(values: pa.Array) -> None:
    made = Table.of({"row": list(range(len(values)))}, Path("rows.csv"))
    table = replace(made, data=pa.table({"none": pa.chunked_array([values])}))
    assert table.coded("none").texts == [] and (table.coded("none").index == -1).all()
    assert table.missing("none").all() and np.isnan(table.numbers("none")).all()


def test_a_table_made_ready_for_many_selections_gives_what_it_gave_before(tmp_path: Path) -> None:
    rows = ["1,x,1.0\n", "2,NA,-9\n", "3,,1\n", "1,y,2\n", "1,x,1.0\n", "nan,x,b\n"] * 3
    table = read_table(write(tmp_path / "x.csv", "n,t,c\n" + "".join(rows)), missing_values=["NA"])
    pieces = [table.data.slice(start, 5) for start in range(0, 18, 5)]
    table = replace(table, data=pa.concat_tables(pieces))  # as of a long file
    ready = table.many_selections()
    for name in "tc":
        ready.cells(name), ready.coded(name)  # carried to what is selected
    assert ready.keys.tolist() == table.keys.tolist()
    for chosen in ([], [4], [3, 0, 2], [17, 3, 3, 5, 1], range(18)):
        one, other = (x.select(np.array(chosen, np.int64)) for x in (ready, table))
        again, same = (x.select(np.arange(len(one))[::-1]) for x in (one, other))
        for a, b in ((one, other), (again, same)):
            assert a.keys.tolist() == b.keys.tolist()
            for name in "tc":
                for x, y in (
                    (a.coded(name), b.coded(name)),
                    (a._texts(name, False), b._texts(name, False)),
                ):
                    assert x.texts == y.texts and x.index.tolist() == y.index.tolist()
    other = replace(ready, data=ready.data.drop_columns(["n"]), _coded={})
    assert other.keys.tolist() == replace(table, data=other.data, _coded={}).keys.tolist()
