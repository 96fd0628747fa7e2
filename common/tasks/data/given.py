"""A table in memory as a file with its values would be read."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa

from wardround.common.tasks.data.problems import Problems
from wardround.common.tasks.data.reading.names import checked_names, looks_like_a_cell
from wardround.common.tasks.data.reading.texts import missing_codes
from wardround.common.tasks.data.reading.types import NoType, typed
from wardround.common.tasks.data.table import Table

GIVEN = "the rows given"
"""Names in messages what stands in no file."""


def given_table(data: pa.Table, missing_values: Collection[str], used: Collection[str]) -> Table:
    """The table's columns by their types, its rows numbered from 1.

    used : columns that are needed; of others one that no table can have is left empty

    Raises DataError with all columns whose types none can have.
    """
    found, odd = typed_columns(data, GIVEN)
    problems = Problems(GIVEN)
    for name, why in odd.items():
        if name in used:
            problems.add(why)
        empty = pa.chunked_array([pa.nulls(len(data), pa.string())])
        found = found.set_column(found.column_names.index(name), name, empty)
    problems.check()
    return held_table(found, missing_values, GIVEN)


def typed_columns(data: pa.Table, called: str) -> tuple[pa.Table, dict[str, str]]:
    """The table with names in normal form and columns of the types that tables have; and why, by
    name, of those that no table can have, which stay as they are.

    called : what messages call the table. Raises DataError for names that are none.
    """
    names = checked_names(Path(called), data.column_names, hide=False)
    columns, odd = [], {}
    for name, column in zip(names, data.columns, strict=True):
        shown = "" if looks_like_a_cell(name) else f" {name!r}"
        try:
            columns.append(typed(column, f"{called}: column{shown}"))
        except NoType as error:
            odd[name] = str(error)
            columns.append(column)
    return (pa.table(columns, names=names) if names else data), odd


def held_table(data: pa.Table, missing_values: Collection[str], called: str) -> Table:
    """A table of ``typed_columns`` as one shard, its rows numbered from 1."""
    rows = np.arange(len(data), dtype=np.int64)
    origin = np.column_stack([np.zeros_like(rows), rows])
    codes = missing_codes(missing_values)
    return Table(data, (Path(called),), origin, (_counted,), codes, called=called)


def _counted(row: int) -> int:
    return row + 1
