"""A column's cells as float64, or which of them are none, and why."""

from __future__ import annotations

import math
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wardround.common.tasks.data.reading.texts import is_number, to_float

MAX_ABS_NUMBER = 1e13
"""Larger magnitudes are refused where they stand: a sum of their squares would be beyond what masks
hold (``secagg.encoding``), and one cell would end the study of all."""
_MAX_WHOLE = 2**53
_NOT = "not a finite number of usual size; mend the cell, or name its text in task.missing_values"
_WHY_NOT = {
    "comma": "a comma, which is a mark of decimals or of thousands; say which: "
    'task.dialect.decimal = "," or "."',
    "script": "digits that aren't 0 to 9; write it in these",
    "date": "a date, which is no number; take a difference of dates, as map.derive in site.toml "
    "does",
    "bool": "true or false, which is no number; list it under task.columns.binary",
    "whole": "a whole number beyond 2^53, which would be rounded; it rather is an identifier",
}
_COMMA = re.compile(r"[+-]?\d+(,\d+)+", re.ASCII)
Numbers = tuple[NDArray[np.float64], NDArray[np.int64], str]


def read_numbers(
    column: pa.ChunkedArray, coded: tuple[NDArray[np.int64], list[str]] | None
) -> Numbers:
    """(values, rows that are no number, why the first of them isn't): N float64, NaN where null.

    coded : of a column of texts, each row's text (-1: missing) and the different texts
    """
    kind, nobody = column.type, np.zeros(0, dtype=np.int64)
    if coded is not None:
        return _of_texts(*coded)
    if kind in (pa.float64(), pa.int64()):
        return _of_numbers(column)
    values = np.full(len(column), np.nan)
    filled = np.flatnonzero(pc.is_valid(column).to_numpy())
    why = "bool" if kind == pa.bool_() else "date"
    return (values, filled[:1], _WHY_NOT[why]) if len(filled) else (values, nobody, "")


def _of_numbers(column: pa.ChunkedArray) -> Numbers:
    gaps = column.null_count > 0
    values = np.array(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    whole = column.type == pa.int64()
    if _all_usual(column, MAX_ABS_NUMBER):
        return values, np.zeros(0, dtype=np.int64), ""
    odd = ~(np.abs(values) <= MAX_ABS_NUMBER)
    if gaps:
        odd &= pc.is_valid(column).to_numpy()
    rows = np.flatnonzero(odd)
    exact = not whole or not len(rows) or abs(values[rows[0]]) < _MAX_WHOLE
    return values, rows, _NOT if exact else _WHY_NOT["whole"]


def _all_usual(column: pa.ChunkedArray, most: float) -> bool:
    """Whether all values are finite numbers up to ``most``, told without a mask of them."""
    ends = pc.min_max(column)
    low, high = ends["min"].as_py(), ends["max"].as_py()
    if low is None:
        return bool(column.null_count == len(column))
    nan = column.type == pa.float64() and math.isnan(pc.sum(column).as_py())
    return bool(-most <= low <= high <= most and not nan)


def _of_texts(index: NDArray[np.int64], texts: list[str]) -> Numbers:
    found = pa.array(texts, pa.string())
    values = to_float(found, is_number(found))
    bad = ~(np.abs(values) <= MAX_ABS_NUMBER)
    rows = np.flatnonzero(np.append(bad, False)[index])
    why = _why(texts[index[rows[0]]]) if len(rows) else ""
    return np.append(values, np.nan)[index], rows, why


def _why(text: str) -> str:
    if _COMMA.fullmatch(text):
        return _WHY_NOT["comma"]
    if any(letter.isdigit() and not letter.isascii() for letter in text):
        return _WHY_NOT["script"]
    return _NOT
