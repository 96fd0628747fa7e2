"""Columns that say something of a row, other than what a model learns: its patient, its split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
    coded = table.coded(column)
    splits = [SPLIT_NAMES.get(text.casefold(), "") for text in coded.texts]
    found = np.array([*splits, ""], dtype=np.str_)[coded.index]
    if (odd := np.flatnonzero(found == "")).size:
        raise table.wrong(odd, column, "must be train, validation or test")
    return found


def _filled(table: Table, column: str, lacking: str) -> NDArray[np.str_]:
    coded = table.coded(column)
    if (gaps := np.flatnonzero(coded.index < 0)).size:
        raise table.wrong(gaps, column, lacking)
    return np.array([*coded.texts, ""], dtype=np.str_)[coded.index]
