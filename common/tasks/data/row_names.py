"""Columns that say which row of the input a prediction is of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from wardround.common.errors import DataError
from wardround.common.tasks.data.table import ASIDE, Table

ROW, FILE = "row", "file"
"""The number of a row in its file, from 1, and which file that is, where there are several."""


def names_of(table: Table, patient: str | None, keep: Sequence[str]) -> dict[str, pa.Array]:
    """``file`` where there are several, ``row``, the column ``patient`` where there is one, and
    those of ``keep`` as they are in the file. Raises DataError for one that isn't there."""
    found: dict[str, pa.Array] = {}
    if len(table.files) > 1:
        names = np.array([file.name for file in table.files], dtype=object)
        found[FILE] = pa.array(names[table.origin[:, 0]], pa.string())
    found[ROW] = pa.array(table.origin[:, 1] + 1)
    own = [patient] if patient is not None and patient in table.columns else []
    for name in dict.fromkeys([*own, *keep]):
        check_free(name, found)
        aside = f"{ASIDE}{name}"
        column = table.column(aside if aside in table.columns else name)
        found[name] = column.combine_chunks()
    return found


def check_free(name: str, taken: Sequence[str] | dict[str, pa.Array]) -> None:
    """Raise DataError for a column to keep whose name a prediction has already."""
    if name in taken:
        raise DataError(
            f"column '{name}' can't be kept: a prediction has that name; rename the column"
        )
