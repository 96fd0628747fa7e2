"""The tables of a file, a folder or a stream, one after the other, each of a bounded size.

Rows know their number in their own file, and messages name it by its line, as where all is read at
once (``tables.py``). Excel files, which hold a million rows at most, come whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wardround.common.errors import DataError
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.data.reading.names import checked_names, listed
from wardround.common.tasks.data.reading.pieces import PART_BYTES, csv_parts
from wardround.common.tasks.data.reading.read import EXCEL, REFUSED
from wardround.common.tasks.data.reading.texts import USUAL_MISSING, missing_codes
from wardround.common.tasks.data.reading.types import typed
from wardround.common.tasks.data.shards import shard_files
from wardround.common.tasks.data.snapshot import PATIENT
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.data.tables import READABLE, read_table

STREAM = Path("the stream")
"""Names what has no file in messages."""
ROWS_AT_ONCE = 1 << 16


def table_pieces(
    source: Path | IO[bytes],
    dialect: Dialect,
    missing_values: Collection[str],
    texts: Collection[str],
    hide_names: bool = False,
    part_bytes: int = PART_BYTES,
) -> Iterator[Table]:
    """See ``tables.read_table`` for what the settings mean. Raises DataError, for what is wrong in
    a part when it comes to it."""
    if not isinstance(source, Path):
        yield from _of_csv(source, STREAM, dialect, missing_values, texts, hide_names, part_bytes)
        return
    shard = shard_files(source, READABLE)
    files, names = tuple(file for file, _ in shard.files), frozenset[str]()
    left = shard.left_out
    for number, file in enumerate(files):
        for table in _of_file(file, dialect, missing_values, texts, hide_names, part_bytes):
            names = names or frozenset(table.columns)
            if odd := names ^ frozenset(table.columns):
                which = "are the first lines headers?" if hide_names else listed(sorted(odd))
                raise DataError(f"{file}: its columns differ from those of {files[0]}: {which}")
            origin = table.origin.copy()
            origin[:, 0] = number
            lines = tuple(table.lines[0] if n == number else _no_line for n in range(len(files)))
            yield replace(table, files=files, origin=origin, lines=lines, left_out=left)
            left = ()


def _of_file(
    file: Path,
    dialect: Dialect,
    missing: Collection[str],
    texts: Collection[str],
    hide_names: bool,
    part_bytes: int,
) -> Iterator[Table]:
    ending = file.suffix.lower()
    if ending == ".parquet":
        yield from _of_parquet(file, missing, hide_names)
    elif ending in (*EXCEL, *REFUSED) or file.stat().st_size < part_bytes:
        yield read_table(file, dialect, missing, texts, hide_names)
    else:
        with open(file, "rb") as opened:
            yield from _of_csv(opened, file, dialect, missing, texts, hide_names, part_bytes)


def _of_csv(
    file: IO[bytes],
    path: Path,
    dialect: Dialect,
    missing: Collection[str],
    texts: Collection[str],
    hide_names: bool,
    part_bytes: int,
) -> Iterator[Table]:
    codes, first = missing_codes(missing), 0
    usual = codes & USUAL_MISSING
    for part in csv_parts(file, path, dialect, usual, texts, hide_names, part_bytes):
        told = (f"read with {part.csv.told}",) if part.csv.told and not first else ()
        lines = _lines(part.csv.lines, first, part.line)
        table = _table(part.csv.table, path, first, lines, codes, hide_names)
        yield replace(table, told=told, called="the stream" if path == STREAM else "")
        first += len(table)


def _of_parquet(file: Path, missing: Collection[str], hide_names: bool) -> Iterator[Table]:
    if not _is_large(file):
        yield read_table(file, None, missing, (), hide_names)
        return
    first = 0
    try:
        with pq.ParquetFile(file) as opened:
            names = checked_names(file, opened.schema_arrow.names, hide_names)
            for batch in opened.iter_batches(batch_size=ROWS_AT_ONCE):
                data = pa.Table.from_batches([batch])
                columns = [
                    typed(column, f"{file}: column {name!r}")
                    for name, column in zip(names, data.columns, strict=True)
                ]
                data = pa.table(columns, names=names)
                if PATIENT in data.column_names:
                    data = data.drop_columns([PATIENT])
                codes = missing_codes(missing)
                yield _table(data, file, first, _lines(_counted, 0, 0), codes, hide_names)
                first += len(data)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: not readable as Parquet ({type(error).__name__})") from None


def _is_large(file: Path) -> bool:
    """Whether a Parquet file has more rows than a part; its reader says what is wrong with it."""
    try:
        return bool(pq.read_metadata(file).num_rows > ROWS_AT_ONCE)
    except (pa.ArrowException, OSError):
        return False


def _table(
    data: pa.Table,
    path: Path,
    first: int,
    lines: Callable[[int], int],
    codes: frozenset[str],
    hide_names: bool,
) -> Table:
    rows = np.arange(first, first + data.num_rows, dtype=np.int64)
    origin = np.column_stack([np.zeros(len(rows), dtype=np.int64), rows])
    return Table(data, (path,), origin, (lines,), codes, hide_names=hide_names)


def _lines(lines: Callable[[int], int], first: int, offset: int) -> Callable[[int], int]:
    """The line of a row by its number in the file, where a part begins at row ``first`` and behind
    ``offset`` lines."""
    return lambda row: lines(row - first) + offset


def _counted(row: int) -> int:
    return row + 1


def _no_line(row: int) -> int:
    raise AssertionError("a row of another file")
