"""How a CSV is written is found in it, told, and asked for where it can be read in two ways."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wardround.common.errors import DataError
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.data.reading.read import Read, read_file


def read(path: Path, content: str | bytes, texts=None, missing=(".",), **dialect) -> Read:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_file(path, Dialect(**dialect), missing, texts)


def columns(found: Read) -> dict[str, list[object]]:
    return found.table.to_pydict()


@pytest.mark.parametrize(
    ("content", "expected", "told"),
    [
        ("a;b\n1,5;ü\n2,25;x\n".encode("cp1252"), {"a": [1.5, 2.25], "b": ["ü", "x"]},
         "semicolons between columns, decimal commas, Windows-1252"),
        (b"\xef\xbb\xbfa\tb\n1.5\t.\n.\tx\n", {"a": [1.5, None], "b": [None, "x"]},
         "tabs between columns"),
        ("a,b\n1,ü\n".encode("utf-16"), {"a": [1], "b": ["ü"]}, "UTF-16"),
        ("sep=|\na|b\n1|2\n", {"a": [1], "b": [2]}, "bars between columns"),
        ("a;b\n'x;y';1\n'z';2\n", {"a": ["x;y", "z"], "b": [1, 2]},
         "semicolons between columns, single quotes around cells"),
        ("a;b\n1.234,5;1.000\n12;2.500\n", {"a": [1234.5, 12.0], "b": [1000, 2500]},
         "semicolons between columns, decimal commas, marks between thousands"),
        ('a,b\n"1,234.5",1\n"2,500",2\n', {"a": [1234.5, 2500.0], "b": [1, 2]},
         "marks between thousands"),
        ("a;b\n1 234;1.5\n12;2.5\n", {"a": [1234, 12], "b": [1.5, 2.5]},
         "semicolons between columns, marks between thousands"),
        ("a,b\r1,x\r\n\r\n2,y\n3,z", {"a": [1, 2, 3], "b": ["x", "y", "z"]}, ""),
    ],
)  # fmt: skip
def test_a_dialect_is_found_and_told(tmp_path: Path, content, expected, told: str) -> None:
    found = read(tmp_path / "x.csv", content)
    assert columns(found) == expected and found.told == told


@pytest.mark.parametrize(
    "content", ["a;b\n7;1.234\n8;2.500\n", "a\tb\n7\t1.234\n8\t.\n", "a|b\n7|-1.234\n8|2\n"]
)
def test_points_that_may_be_thousands_are_asked_for(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match="column 'b': .*task.dialect.decimal") as caught:
        read(tmp_path / "x.csv", content)
    assert "1.234" not in str(caught.value)
    assert columns(read(tmp_path / "x.csv", content, decimal="."))["b"][0] in (1.234, -1.234)
    assert columns(read(tmp_path / "x.csv", content, decimal=","))["b"][0] in (1234, -1234)


def test_commas_that_may_be_thousands_stay_texts_until_it_is_said(tmp_path: Path) -> None:
    content = 'a,b\n7,"1,234"\n8,"2,500"\n'
    assert columns(read(tmp_path / "x.csv", content))["b"] == ["1,234", "2,500"]
    assert columns(read(tmp_path / "x.csv", content, decimal="."))["b"] == [1234, 2500]
    assert columns(read(tmp_path / "x.csv", content, thousands=","))["b"] == [1234, 2500]
    assert columns(read(tmp_path / "x.csv", content, decimal=","))["b"] == [1.234, 2.5]


def test_a_row_longer_than_a_block_is_read(tmp_path: Path) -> None:
    long = "word, " * 400_000
    found = read(tmp_path / "x.csv", f'a,b\n1,x\n2,"{long}"\n3,y\n')
    assert columns(found) == {"a": [1, 2, 3], "b": ["x", long, "y"]}


def test_two_marks_that_part_the_columns_equally_well_are_asked_for(tmp_path: Path) -> None:
    content = "a;b,c\n1;2,3\n4;5,6\n"
    with pytest.raises(DataError, match="commas and semicolons .* task.dialect.delimiter"):
        read(tmp_path / "x.csv", content)
    found = columns(read(tmp_path / "x.csv", content, delimiter=";"))
    assert found == {"a": [1, 4], "b,c": [2.3, 5.6]}


def test_a_setting_is_taken_at_its_word(tmp_path: Path) -> None:
    content = "1,5;31.01.1899\n2,5;01.02.2024\n"
    found = read(tmp_path / "x.csv", content, header=["a", "b"], dates="%d.%m.%Y")
    assert columns(found) == {"a": [1.5, 2.5], "b": [date(1899, 1, 31), date(2024, 2, 1)]}
    assert [found.lines(row) for row in (0, 1)] == [1, 2]


@pytest.mark.parametrize(
    "cells", [["007", "8"], ["0x10", "0x11"], ["1e400", "1"], ["12:30", "13:00"], ["1_0", "2"]]
)
def test_what_a_number_would_change_stays_a_text(tmp_path: Path, cells: list[str]) -> None:
    found = read(tmp_path / "x.csv", "a,b\n" + "".join(f"{cell},1\n" for cell in cells))
    assert columns(found)["a"] == cells


def test_columns_that_are_used_as_texts_are_read_as_they_are_written(tmp_path: Path) -> None:
    content = "id,x\n1.50,2\n007,3\n"
    assert columns(read(tmp_path / "x.csv", content, texts=["id"])) == {
        "id": ["1.50", "007"],
        "x": [2, 3],
    }


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=6)


ROWS = st.lists(st.tuples(CELL, CELL, st.integers()), min_size=1, max_size=6)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.sampled_from(",;|\t"))
def test_texts_come_back_whatever_they_hold(tmp_path: Path, rows, mark: str) -> None:
    """By the quoting of RFC 4180, written out here."""

    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    lines = [mark.join(("one", "two", "n"))]
    lines += [mark.join((quoted(a), quoted(b), str(n))) for a, b, n in rows]
    found = read(tmp_path / "x.csv", "\n".join(lines), ["one", "two", "n"], (), delimiter=mark)
    cells = columns(found)
    assert [x or "" for x in cells["one"]] == ["" if a.strip() == "" else a for a, _, _ in rows]
    assert cells["n"] == [str(n) for _, _, n in rows]
    line = 2
    for row, (a, b, _) in enumerate(rows):
        assert found.lines(row) == line
        line += a.count("\n") + b.count("\n") + 1
