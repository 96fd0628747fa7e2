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
    place = Path(GIVEN)
    names = checked_names(place, data.column_names, hide=False)
    problems, columns = Problems(GIVEN), []
    for name, column in zip(names, data.columns, strict=True):
        shown = "" if looks_like_a_cell(name) else f" {name!r}"
        try:
            columns.append(typed(column, f"{GIVEN}: column{shown}"))
        except NoType as error:
            if name in used:
                problems.add(str(error))
            columns.append(pa.chunked_array([pa.nulls(len(data), pa.string())]))
    problems.check()
    rows = np.arange(len(data), dtype=np.int64)
    origin = np.column_stack([np.zeros_like(rows), rows])
    found = pa.table(columns, names=names) if names else data
    codes = missing_codes(missing_values)
    return Table(found, (place,), origin, (_counted,), codes, called=GIVEN)


def _counted(row: int) -> int:
    return row + 1
