"""Rows as text, each remembering the file and line it came from.

Cells stay text until a column's meaning is known, so that a cell that can't be read is named by
file, line and column. No message quotes a cell: it may be a patient's.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.tasks.data.row_keys import record_keys
from wardround.common.tasks.data.shards import shard_files
from wardround.common.tasks.data.snapshot import PATIENT, origin_of
from wardround.common.text import code, near, normal_text

Cells = NDArray[np.object_]
"""One column: str, or None where the value is missing."""

READABLE = (".csv", ".tsv", ".data", ".parquet")
"""What is read of a folder; a file that is named itself is read as CSV whatever its suffix."""
MAX_ABS_NUMBER = 1e30
"""Larger magnitudes are refused: a float32 holds them, and sums of their squares stay finite."""


@dataclass(frozen=True)
class Table:
    """Rows of one shard.

    columns : name to cells, all of one length
    files : the files the rows came from
    origin : N x 2 int64: index into ``files``, line number (from 1)
    left_out : of these files, when they were read; a selection of rows has read nothing
    file_splits : the split that each file's name says; empty where names say none
    keys : N texts, what tells rows apart by all of their cells (``row_keys.py``); None of a table
        that is of no file
    people : N texts, whose each row is, where the hospital's own settings say it
    called : how messages name the rows' place instead of their file; '' for the file
    hide_names : whether messages keep names found in the files to themselves
    """

    columns: dict[str, Cells]
    files: tuple[Path, ...]
    origin: NDArray[np.int64]
    left_out: tuple[LeftOut, ...] = ()
    hide_names: bool = False
    file_splits: tuple[str, ...] = ()
    keys: NDArray[np.str_] | None = None
    people: NDArray[np.str_] | None = None
    called: str = ""

    def __len__(self) -> int:
        return len(self.origin)

    def select(self, rows: NDArray[np.int64]) -> Table:
        """The given rows, in that order."""
        index = np.asarray(rows, dtype=np.int64)
        columns = {name: cells[index] for name, cells in self.columns.items()}
        keys = None if self.keys is None else self.keys[index]
        people = None if self.people is None else self.people[index]
        origin = self.origin[index]
        return replace(self, columns=columns, origin=origin, left_out=(), keys=keys, people=people)

    def keep(self, mask: NDArray[np.bool_], reason: str) -> Table:
        """The rows where the mask is true; the others are left out, for that reason."""
        kept = self.select(np.flatnonzero(mask).astype(np.int64))
        dropped = LeftOut(int((~mask).sum()), "rows", reason)
        return replace(kept, left_out=added([*self.left_out, dropped]))

    def place(self, row: int, column: str) -> str:
        """'file:line: column 'name'' of a cell, for messages."""
        file, line = self.origin[row]
        if self.called:
            return f"{self.called}, row {line}: column '{column}'"
        return f"{self.files[file]}:{line}: column '{column}'"

    def cells(self, column: str) -> Cells:
        """A column's cells. Raises DataError naming the columns there are, unless hidden."""
        column = normal_text(column)
        if column not in self.columns:
            raise self.lacks(column)
        return self.columns[column]

    def lacks(self, column: str, who_has_it: str = "") -> DataError:
        """The error of a column that isn't there."""
        where = self.called or (self.files[0] if self.files else "the shard")
        return DataError(
            f"{where}: there is no column '{column}'{who_has_it}{self._instead(column)}"
        )

    def _instead(self, column: str) -> str:
        """What there is where a column isn't, for a message."""
        alone = len(self.columns) == 1
        meant = near(column, self.columns)
        if meant and not self.hide_names and not _looks_like_a_cell(meant):
            return f"; it has '{meant}': name it the same"
        if self.hide_names:
            more = ", and the delimiter right" if alone else ""
            return f" among its {len(self.columns)}; is the first line a header{more}?"
        return f"; it has {_listed(self.columns)}" + ("; is task.delimiter right?" if alone else "")

    def categories(self, column: str) -> Cells:
        """The column's cells as codes (``common.text.code``)."""
        return to_cells((None if c is None else code(c) for c in self.cells(column)), ())

    def missing(self, column: str) -> NDArray[np.bool_]:
        """True where the cell is missing."""
        return np.array([cell is None for cell in self.cells(column)], dtype=np.bool_)

    def numbers(self, column: str, otherwise: str = "") -> NDArray[np.float64]:
        """The column as float64, NaN where missing. Raises DataError at the first other text;
        ``otherwise`` is what else could help there."""
        cells = self.cells(column)
        values = np.full(len(cells), np.nan)
        for row, cell in enumerate(cells):
            if cell is None:
                continue
            try:
                value = math.nan if "_" in cell else float(cell)  # Python reads 1_0 as 10
            except ValueError:
                value = math.nan
            if not abs(value) <= MAX_ABS_NUMBER:
                raise DataError(
                    f"{self.place(row, column)}: not a finite number of usual size; mend the cell, "
                    f"or name its text in task.missing_values{otherwise}"
                )
            values[row] = value
        return values


def read_table(
    path: Path,
    header: Sequence[str] | None = None,
    missing_values: Collection[str] = ("",),
    delimiter: str = ",",
    hide_names: bool = False,
) -> Table:
    """A CSV or Parquet file, or all of them in a folder, in the order of their names. Files called
    train, val and test say the rows' split.

    Parameters
    ----------
    header : names of the columns, for CSV files without a header line
    missing_values : texts (stripped of blanks) that mean 'missing'
    hide_names : no message quotes a name found in a file: without a header line, the first record
        would be taken for names

    Raises DataError naming file, line and column.
    """
    shard = shard_files(path, READABLE)
    files = [file for file, _ in shard.files]
    missing = frozenset(code(text) for text in missing_values)
    tables = [_read_file(file, header, missing, delimiter, hide_names) for file in files]
    first = tables[0]
    for file, table in zip(files, tables, strict=True):
        if set(table.columns) != set(first.columns):
            odd = sorted(set(table.columns) ^ set(first.columns))
            which = "is the first line of both a header?" if hide_names else _listed(odd)
            raise DataError(f"{file}: its columns differ from those of {files[0]}: {which}")
    origin = [
        np.column_stack([np.full(len(table), index), table.origin[:, 1]])
        for index, table in enumerate(tables)
    ]
    columns = {
        name: np.concatenate([table.columns[name] for table in tables]) for name in first.columns
    }
    rows = np.concatenate(origin).astype(np.int64)
    splits = tuple(split for _, split in shard.files if split)
    keys = np.concatenate([table.keys for table in tables if table.keys is not None])
    table = Table(columns, tuple(files), rows, shard.left_out, hide_names, splits, keys)
    return replace(table, people=first.people, called=first.called) if len(tables) == 1 else table


def _read_file(
    path: Path,
    header: Sequence[str] | None,
    missing: frozenset[str],
    delimiter: str,
    hide_names: bool,
) -> Table:
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path, missing, hide_names)
    names: list[str] | None = list(header) if header is not None else None
    rows: list[list[str]] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    line = 1  # where the row begins; reader.line_num is where it ends
    try:
        for cells in reader:
            if cells and names is None:
                names = cells
            elif cells and names is not None:
                if len(cells) != len(names):
                    raise DataError(
                        f"{path}:{line}: {len(cells)} cells, but there are {len(names)} "
                        "columns; quote cells that hold the delimiter"
                    )
                rows.append(cells)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{line}: not readable as CSV ({error})") from None
    if names is None or not rows:
        raise DataError(f"{path}: there are no rows; check that this is the right file")
    names = [normal_text(name) for name in names]
    _check_names(path, names, hide_names)
    columns: dict[str, Sequence[Any]] = dict(zip(names, zip(*rows, strict=True), strict=True))
    return _table(path, columns, lines, missing, named=header is None)


def read_text(path: Path) -> str:
    """The file as text. Decoded as a whole, so that a wrong byte's line is known."""
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None


def _read_parquet(path: Path, missing: frozenset[str], hide_names: bool) -> Table:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(
            f"{path}: reading Parquet needs: pip install 'wardround[parquet]'"
        ) from None
    try:
        found = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not readable as Parquet ({type(error).__name__})") from None
    names = [normal_text(name) for name in found.column_names]
    _check_names(path, names, hide_names)
    if found.num_rows == 0:
        raise DataError(f"{path}: there are no rows; check that this is the right file")
    columns = {name: found.column(index).to_pylist() for index, name in enumerate(names)}
    people = columns.pop(PATIENT, None)
    table = _table(path, columns, list(range(1, found.num_rows + 1)), missing)
    origin = origin_of(found.schema.metadata)
    if people is not None:
        table = replace(table, people=np.array(people, dtype=np.str_))
    return replace(table, called=origin.called) if origin is not None else table


def _table(
    path: Path,
    columns: dict[str, Sequence[Any]],
    lines: list[int],
    missing: frozenset[str],
    named: bool = True,
) -> Table:
    """named : by the file; names that settings give say nothing of a row, nor does their order"""
    origin = np.column_stack([np.zeros(len(lines)), np.array(lines)]).astype(np.int64)
    keys = record_keys([columns[name] for name in (sorted(columns) if named else columns)])
    cells = {k: to_cells(v, missing) for k, v in columns.items()}
    return Table(cells, (path,), origin, keys=keys)


def to_cells(values: Iterable[Any], missing: Collection[str]) -> Cells:
    """Values in the normal form of a text; None, NaN and the codes in ``missing`` become None."""
    cells: list[str | None] = []
    numbered = any(text[-1:].isdigit() for text in missing)  # -9 is -9.0 elsewhere
    for value in values:
        if value is None or value != value:
            cells.append(None)
            continue
        text = normal_text(value if isinstance(value, str) else str(value))
        absent = text in missing or (numbered and code(text) in missing)
        cells.append(None if absent else text)
    array = np.empty(len(cells), dtype=object)
    array[:] = cells
    return array


def _check_names(path: Path, names: Sequence[str], hide_names: bool) -> None:
    for position, name in enumerate(names):
        if name in names[:position]:
            hidden = hide_names or _looks_like_a_cell(name)
            what = "a name" if hidden else f"column '{name}'"
            mend = "without a header line, name the columns in task.header"
            raise DataError(
                f"{path}: {what} stands twice in the header, as columns "
                f"{names.index(name) + 1} and {position + 1}; "
                + ("is the first line a header?" if hide_names else mend)
            )
    if "" in names:
        raise DataError(f"{path}: column {names.index('') + 1} has no name in the header")


def _listed(names: Iterable[str]) -> str:
    """Names for a message, unless they look like a patient's row in a file without a header."""
    names = sorted(names)
    if any(_looks_like_a_cell(name) for name in names):
        return "no header line, it seems, but data there (name the columns in task.header)"
    shown = ", ".join(names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _looks_like_a_cell(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return name in ("", "?")
    return True
