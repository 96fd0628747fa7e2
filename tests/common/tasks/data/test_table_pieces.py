"""Tables in parts are those that are read at once, whatever the parts' size."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.errors import DataError
from wardround.common.tasks.data import table_pieces as module
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.data.reading.pieces import csv_parts
from wardround.common.tasks.data.table_pieces import table_pieces
from wardround.common.tasks.data.tables import read_table

CELL = st.text(alphabet='abé"; \n', max_size=6)


def rows_of(path: Path, size: int, dialect: Dialect | None = None) -> list[tuple[object, ...]]:
    """(line, cells) of all rows, in parts of so many bytes."""
    found: list[tuple[object, ...]] = []
    for table in table_pieces(path, dialect or Dialect(), [""], ["text"], part_bytes=size):
        columns = [table.cells("text"), table.numbers("x")]
        lines = table.line_numbers()
        found += zip(lines.tolist(), table.origin[:, 1].tolist(), *columns, strict=True)
    return found


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


@settings(max_examples=40)
@given(cells=st.lists(CELL, min_size=1, max_size=25), size=st.integers(30, 120))
def test_parts_of_any_size_have_the_same_rows_and_lines(
    tmp_path_factory: pytest.TempPathFactory, cells: list[str], size: int
) -> None:
    path = tmp_path_factory.mktemp("parts") / "rows.csv"
    lines = [f"{quoted(cell)},{number}.5" for number, cell in enumerate(cells)]
    path.write_text("text,x\n" + "\n".join(lines) + "\n")
    assert rows_of(path, size) == rows_of(path, 1 << 20)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_marks_and_encoding_of_the_first_part_hold_for_all(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "rows.csv"
    lines = [f"Ort é{n};{n},25" for n in range(60)]
    path.write_text("text;x\n" + "\n".join(lines) + "\n", encoding=encoding)
    found = rows_of(path, 200)
    assert found == rows_of(path, 1 << 20)
    assert found[59] == (61, 59, "Ort é59", 59.25)


def test_an_encoding_that_changes_within_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rest = b"".join(b"b,%d\n" % n for n in range(50))
    path.write_bytes("text,x\né,1\n".encode() + rest + b"\xe9,2\n")
    with pytest.raises(DataError, match="neither UTF-8 nor Windows-1252"):
        rows_of(path, 60)


def test_a_cell_is_named_by_its_line_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,x\n" + "".join(f"a,{n}\n" for n in range(100)) + "a,high\n")
    with pytest.raises(DataError, match=r"rows\.csv:102: column 'x'"):
        rows_of(path, 100)


def test_a_stream_is_read_as_it_comes() -> None:
    class Pipe(io.RawIOBase):
        """Gives three bytes at a time, as a pipe may."""

        def __init__(self, data: bytes) -> None:
            self._data = data

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            most = min(3, size)
            piece, self._data = self._data[:most], self._data[most:]
            return piece

    lines = "text,x\n" + "".join(f"a,{n}\n" for n in range(40))
    parts = list(csv_parts(Pipe(lines.encode()), Path("it"), Dialect(), [], [], False, 64))
    assert len(parts) > 3
    assert [x for part in parts for x in part.csv.table.column("x").to_pylist()] == list(range(40))


def test_parquet_comes_in_parts_and_a_folder_file_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 16)
    table = pa.table({"text": [f"t{n}" for n in range(50)], "x": [float(n) for n in range(50)]})
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("text,x\nlast,7\n")
    pieces = list(table_pieces(tmp_path, Dialect(), [""], ["text"]))
    assert [len(one) for one in pieces] == [16, 16, 16, 2, 1]
    rows = [(int(a), int(b)) for one in pieces for a, b in one.origin]
    assert rows == [*((0, n) for n in range(50)), (1, 0)]
    whole = read_table(tmp_path, texts=["text"])
    assert [x for one in pieces for x in one.numbers("x")] == whole.numbers("x").tolist()
    (tmp_path / "c.csv").write_text("text,y\nlast,7\n")
    with pytest.raises(DataError, match=r"c\.csv: its columns differ"):
        list(table_pieces(tmp_path, Dialect(), [""], ["text"]))
