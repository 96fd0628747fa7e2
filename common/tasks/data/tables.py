"""A shard's files as one ``Table``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from filecmp import cmp
from pathlib import Path

import numpy as np
import pyarrow as pa

from wardround.common.errors import DataError
from wardround.common.tasks.data.problems import Problems
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.data.reading.names import listed
from wardround.common.tasks.data.reading.read import Read, read_written
from wardround.common.tasks.data.reading.texts import USUAL_MISSING, missing_codes
from wardround.common.tasks.data.reading.together import together
from wardround.common.tasks.data.shards import shard_files
from wardround.common.tasks.data.snapshot import PATIENT, origin_of
from wardround.common.tasks.data.table import Table

READABLE = (".csv", ".tsv", ".data", ".parquet", ".xlsx", ".xlsm")
"""What is read of a folder; a file that is named itself is read as CSV if its ending is another."""


def read_table(
    path: Path,
    dialect: Dialect | None = None,
    missing_values: Collection[str] = ("",),
    texts: Collection[str] | None = (),
    hide_names: bool = False,
) -> Table:
    """A CSV, Parquet or Excel file, or all of them in a folder, in the order of their names. Files
    called train, val and test say the rows' split.

    Parameters
    ----------
    dialect : how the files are written; what it leaves out is found in each of them
    missing_values : texts (stripped of blanks) that mean 'missing'; an empty cell always does
    texts : columns that are used as texts, and so are read as they are written; None: see
        ``read_file``
    hide_names : no message quotes a name found in a file: without a header line, the first record
        would be taken for names

    Raises DataError naming file, line and column.
    """
    dialect = dialect or Dialect()
    shard = shard_files(path, READABLE)
    files = [file for file, _ in shard.files]
    _check_twice(files)
    missing = missing_codes(missing_values)
    read = _all(path, files, dialect, missing & USUAL_MISSING, texts, hide_names)
    _check_names(files, [one.table for one in read], hide_names)
    rows = [one.table.num_rows for one in read]
    data = together([one.table for one in read])
    people = None
    if PATIENT in data.column_names:
        people = data.column(PATIENT).to_numpy().astype(np.str_)
        data = data.drop_columns([PATIENT])
    origin = origin_of(data.schema.metadata) if len(read) == 1 else None
    return Table(
        data,
        tuple(files),
        np.column_stack(
            [np.repeat(np.arange(len(files)), rows), np.concatenate([np.arange(n) for n in rows])]
        ).astype(np.int64),
        tuple(one.lines for one in read),
        missing,
        shard.left_out,
        hide_names,
        tuple(split for _, split in shard.files if split),
        (*dict.fromkeys(f"read with {one.told}" for one in read if one.told), *_copies(files)),
        people,
        origin.called if origin is not None else "",
        dialect.header is None,
    )


def _all(
    path: Path,
    files: Sequence[Path],
    dialect: Dialect,
    missing: Collection[str],
    texts: Collection[str] | None,
    hide_names: bool,
) -> list[Read]:
    """Each file as it was read. Raises DataError with the problems of all of them."""
    found, problems = [], Problems(path)
    for file in files:
        try:
            found.append(read_written(file, dialect, missing, texts, hide_names))
        except DataError as error:
            problems.add(str(error), error.told)
    problems.check()
    return found


def _check_twice(files: Sequence[Path]) -> None:
    """Raise DataError for a table that lies there twice: every row would count twice."""
    seen: dict[str, Path] = {}
    for file in files:
        if (other := seen.setdefault(file.stem, file)) != file:
            raise DataError(
                f"{file}: the same name as {other.name} beside it; is it the same table in another "
                "form? Move one away, or rename it"
            )


def _copies(files: Sequence[Path]) -> list[str]:
    """What to know of files with the same bytes."""
    sizes = Counter(file.stat().st_size for file in files)
    likely = [file for file in files if sizes[file.stat().st_size] > 1]
    copies = sum(
        any(cmp(file, other, shallow=False) for other in likely[:position])
        for position, file in enumerate(likely)
    )
    return (
        [f"{copies} of {len(files)} files are copies of others: rows count twice"] if copies else []
    )


def _check_names(files: Sequence[Path], tables: Sequence[pa.Table], hide_names: bool) -> None:
    first = set(tables[0].column_names)
    for file, table in zip(files, tables, strict=True):
        if odd := set(table.column_names) ^ first:
            which = "is the first line of both a header?" if hide_names else listed(sorted(odd))
            raise DataError(
                f"{file}: its columns differ from those of {files[0]}: {which}; a folder's files "
                "are one table: give all the same columns, or move one away"
            )
