"""One file as a table of typed columns, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from wardround.common.errors import DataError
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.data.reading.csv import asked_marks, read_csv
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.data.reading.excel import read_excel
from wardround.common.tasks.data.reading.parquet import read_parquet
from wardround.common.tasks.data.reading.settle import Given, settle
from wardround.common.tasks.data.reading.texts import missing_codes, missing_numbers
from wardround.common.text import normal_text

EXCEL = (".xlsx", ".xlsm")
REFUSED = {
    ".xls": "an old Excel file; save it as .xlsx or CSV",
    ".xlsb": "a binary Excel file; save it as .xlsx or CSV",
    ".ods": "an OpenDocument file; save it as .xlsx or CSV",
    ".zip": "a zip archive; unpack it",
    ".gz": "packed; unpack it",
    ".sas7bdat": "a SAS file; export it as CSV or Parquet",
    ".sav": "an SPSS file; export it as CSV or Parquet",
    ".dta": "a Stata file; export it as CSV or Parquet",
}
"""Endings of files that hold tables and aren't read, with the mend."""


@dataclass(frozen=True)
class Read:
    """What was read of one file.

    table : columns of float64, int64, string, bool, date32 or timestamp[us]
    lines : the line (a sheet's row; of Parquet the row's number from 1) of each row, for messages
    told : what was found beside the usual, '' if nothing: "decimal commas, Windows-1252"
    left_out : what was passed over
    """

    table: pa.Table
    lines: Callable[[int], int]
    told: str = ""
    left_out: tuple[LeftOut, ...] = ()


def left_beside(paths: Iterable[Path]) -> str:
    """Files that are no hospital's data, for one line; '' for none. Tables of kinds that aren't
    read come first, with their mend."""
    known = sorted(paths, key=lambda path: (path.suffix.lower() not in REFUSED, path.name))
    names = [
        path.name + (f" ({REFUSED[end]})" if (end := path.suffix.lower()) in REFUSED else "")
        for path in known
    ]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


def read_file(
    path: Path,
    dialect: Dialect,
    missing: Collection[str],
    texts: Collection[str] | None = None,
    hide_names: bool = False,
) -> Read:
    """A CSV, Parquet or Excel file by its ending; another ending is read as CSV.

    missing : texts that mean missing; an empty cell always does
    texts : columns that stay texts as they are written, as ids and categories do ('007' is no 7);
        None: every column gets a type, but none whose text would change by it
    hide_names : no message quotes a name found in the file

    Raises DataError with every problem of the file, each by line and column; no cell is quoted.
    """
    read = read_written(path, dialect, missing, texts, hide_names)
    return replace(read, table=without(read.table, missing))


def read_written(
    path: Path,
    dialect: Dialect,
    missing: Collection[str],
    texts: Collection[str] | None,
    hide_names: bool,
) -> Read:
    """The same, but texts and numbers that mean missing stay as they are written where they stand
    in a column of their own kind: what a row says doesn't depend on what a study calls missing."""
    names = None if texts is None else frozenset(normal_text(name) for name in texts)
    ending = path.suffix.lower()
    if path.is_dir():
        raise DataError(f"{path}: a folder, not a file; name the file, or the folder that it is in")
    if ending in REFUSED:
        raise DataError(f"{path}: {REFUSED[ending]}")
    if ending == ".parquet":
        return Read(read_parquet(path, hide_names), _counted)
    if ending in EXCEL:
        return _settled(path, dialect, missing, names, hide_names)
    csv = read_csv(path, dialect, missing, names, hide_names)
    return Read(csv.table, csv.lines, csv.told)


def without(table: pa.Table, missing: Collection[str]) -> pa.Table:
    """The table with null where a cell's text is missing, or its number that of such a text."""
    known = missing_codes(missing)
    numbers = missing_numbers(known)
    columns = [_without(column, known, numbers) for column in table.columns]
    return pa.table(columns, schema=table.schema)


def _without(
    column: pa.ChunkedArray, known: frozenset[str], numbers: list[float]
) -> pa.ChunkedArray:
    if column.type in (pa.int64(), pa.float64()):
        if not numbers:
            return column
        hits = pc.is_in(column.cast(pa.float64(), safe=False), value_set=pa.array(numbers))
        return _null_where(column, hits)
    if column.type != pa.string():
        return column
    texts = pa.array(sorted(known), pa.string())
    return _null_where(column, pc.is_in(pc.utf8_trim_whitespace(column), value_set=texts))


def _null_where(column: pa.ChunkedArray, hits: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pc.any(hits, min_count=0).as_py():
        return column
    return pc.if_else(hits, pa.scalar(None, column.type), column)


def _settled(
    path: Path,
    dialect: Dialect,
    missing: Collection[str],
    texts: frozenset[str] | None,
    hide_names: bool,
) -> Read:
    found = read_excel(path, dialect, hide_names)
    names = found.table.column_names
    as_text = frozenset(n for n, name in enumerate(names) if texts is not None and name in texts)
    given = Given(found.table.columns, as_text, texts is None, missing_codes(missing))
    marks = asked_marks(dialect)
    settled = settle(given, marks, marks is not None, True, dialect.dates)
    rows = found.rows
    return Read(pa.table(settled.columns, names=names), lambda row: int(rows[row]))


def _counted(row: int) -> int:
    return row + 1
