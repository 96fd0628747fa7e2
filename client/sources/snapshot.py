"""Takes what a source gives, once, as a file or folder that a task loads.

Rows go, batch by batch: as the source has them, whose they are, onto the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wardround.client.sources.mapping import MappedRows
from wardround.client.sources.readers import files_of, rows_of
from wardround.client.sources.settings import FilesTable, RowsTable
from wardround.client.sources.source import Asked, Placed, TableSource
from wardround.common.errors import DataError
from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.tasks.data.snapshot import PATIENT, Origin, write_snapshot
from wardround.common.text import code, normal_text

_NO_INPUT = ("patient_id", "ignore")
Step = Callable[[pa.Table], pa.Table]
"""One thing that is done to each batch of rows."""


@dataclass(frozen=True)
class Taken:
    """What was taken.

    digest : SHA-256, hexadecimal, of a file; of a folder '': whoever watches it works it out
    rows : of a file; 0 of a folder
    """

    digest: str
    rows: int
    left_out: tuple[LeftOut, ...] = ()


def take_rows(source: RowsTable, asked: Asked, path: Path) -> Taken:
    """Write a source's rows to ``path``. Raises DataError, OSError."""
    opened, left = rows_of(source), list[LeftOut]()
    mapped = _mapped(source, asked, opened)
    steps = after_mapping(source, asked)
    if mapped is not None:
        steps.insert(0, mapped)
    ends = (lambda: left.append(mapped.finish())) if mapped is not None else (lambda: None)
    batches = _through(opened, asked, steps, ends)
    digest, rows = write_snapshot(path, batches, Origin(asked.called))
    return Taken(digest, rows, added([*opened.left_out(), *left]))


def fill_folder(source: FilesTable, asked: Asked, folder: Path) -> Taken:
    """Bring a source's files into ``folder``. Raises DataError, OSError."""
    return Taken("", 0, added(files_of(source).fill(asked, folder)))


def _through(
    source: TableSource, asked: Asked, steps: list[Step], ends: Callable[[], None]
) -> Iterator[pa.Table]:
    for batch in source.batches(asked):
        table = pa.Table.from_batches([batch])
        for step in steps:
            table = step(table)
        yield table
    ends()


def after_mapping(source: RowsTable, asked: Asked) -> list[Step]:
    """What is done to rows once they are the study's, in order. Each is for one reading."""
    return [step for step in (_patients(source, asked), _allowed(asked)) if step is not None]


def _mapped(source: RowsTable, asked: Asked, opened: TableSource) -> MappedRows | None:
    if not source.map:
        return None
    place = opened.place if isinstance(opened, Placed) else None
    return MappedRows(source.map, asked, source.left_out_share, place)


def _patients(source: RowsTable, asked: Asked) -> Step | None:
    """Whose each row is, in a column of its own; the column that says it stays only where the
    study's task names it as just that, or as an identifier, else it could become an input."""
    column = source.patient_id
    if column is None:
        return None
    options = asked.config.task.options
    named = {normal_text(one) for one in [*_as_patients(options), *options.get("identifiers", {})]}
    kept = normal_text(column) in named
    before = 0

    def step(table: pa.Table) -> pa.Table:
        nonlocal before
        if PATIENT in table.column_names:
            raise DataError(f"{asked.called}: no column may be called '{PATIENT}'")
        if column not in table.column_names:
            raise DataError(
                f"{asked.called}: there is no column '{column}'; name the patients' column in its "
                "patient_id"
            )
        found = table.column(column)
        if found.null_count:
            row = before + pc.index(pc.is_null(found), True).as_py() + 1
            raise DataError(
                f"{asked.called}, row {row}: column '{column}' is empty; every row says whose it is"
            )
        before += len(table)
        patients = _codes(found)
        table = table if kept else table.drop_columns([column])
        return table.append_column(pa.field(PATIENT, pa.string()), patients)

    return step


def _allowed(asked: Asked) -> Step | None:
    """Without the columns that the hospital holds back."""
    if asked.columns == ("*",):
        return None

    def step(table: pa.Table) -> pa.Table:
        kept = [
            name
            for name in table.column_names
            if name == PATIENT or any(fnmatchcase(normal_text(name), p) for p in patterns)
        ]
        return table.select(kept)

    patterns = [normal_text(one) for one in asked.columns]
    return step


def _codes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values as codes of identifiers."""
    whole = column.combine_chunks().dictionary_encode()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.combine_chunks()
    names = pa.array([code(str(one)) for one in whole.dictionary.to_pylist()], pa.string())
    return pa.chunked_array([names.take(whole.indices)])


def _as_patients(value: Any) -> Iterator[str]:
    """What stands anywhere in settings as whose a row is, or as no input."""
    for key, one in value.items() if isinstance(value, dict) else ():
        if key in _NO_INPUT:
            yield from [one] if isinstance(one, str) else (x for x in one or () if x != "*")
        else:
            yield from _as_patients(one)
