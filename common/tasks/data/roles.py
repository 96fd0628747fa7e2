"""Columns that say something of a row, other than what a model learns: its patient, its split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.tasks.data.shards import SPLIT_NAMES
from wardround.common.tasks.data.table import Table


def patient_cells(table: Table, column: str) -> NDArray[np.str_]:
    """The patient of each row, as a code. Raises DataError at a row that names none."""
    return _filled(table, column, "a row without a patient; fill it in or drop the row")


def value_cells(table: Table, column: str) -> NDArray[np.str_]:
    """A value of each row to partition by. Raises DataError at a row that has none."""
    return _filled(table, column, "a row without a value to partition by; fill it in or drop it")


def split_cells(table: Table, column: str) -> NDArray[np.str_]:
    """'train', 'validation' or 'test' for each row, whatever their usual names and case in the
    file. Raises DataError at a row that says neither."""
    splits = []
    for row, cell in enumerate(table.cells(column)):
        split = SPLIT_NAMES.get(str(cell).casefold()) if cell is not None else None
        if split is None:
            raise DataError(f"{table.place(row, column)}: must be train, validation or test")
        splits.append(split)
    return np.array(splits, dtype=np.str_)


def _filled(table: Table, column: str, lacking: str) -> NDArray[np.str_]:
    if (gaps := table.missing(column)).any():
        raise DataError(f"{table.place(int(np.argmax(gaps)), column)}: {lacking}")
    return table.categories(column).astype(str)
