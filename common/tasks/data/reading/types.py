"""The six types of a typed column, what becomes of others, and the one text of each value.

float64, int64, string, bool, date32 and timestamp[us]. A value has one text, so that the same data
from any kind of file give the same categories and the same row keys: a whole number is ``12``,
another ``repr`` of its float64, a date ISO 8601, a bool ``true`` or ``false``.
"""

from __future__ import annotations

from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from wardround.common.errors import DataError

Column = TypeVar("Column", pa.Array, pa.ChunkedArray)
TYPES = (pa.float64(), pa.int64(), pa.string(), pa.bool_(), pa.date32(), pa.timestamp("us"))


class NoType(DataError):
    """A column's type is none that a table can have."""


def typed(column: pa.ChunkedArray, place: str) -> pa.ChunkedArray:
    """The column as one of ``TYPES``. NaN becomes null; an instant with a zone is in UTC.

    place : of the column, for the error. Raises NoType.
    """
    kind = column.type
    target = usual_type(kind)
    if target is None:
        raise NoType(
            f"{place}: of type {_called(kind)}, which is no column of a table; export it as "
            "columns of numbers, texts or dates, or leave it out of the file"
        )
    try:
        column = as_usual(column, target)
    except (pa.ArrowException, ValueError, OverflowError):
        raise NoType(
            f"{place}: of type {_called(kind)}, with a value that doesn't fit; export it as "
            f"{_called(target)} or as text"
        ) from None
    if target == pa.float64():
        gaps = pc.is_nan(column)
        if pc.any(gaps).as_py():
            column = pc.if_else(gaps, pa.scalar(None, pa.float64()), column)
    return column


def usual_type(kind: pa.DataType) -> pa.DataType | None:
    """The one of ``TYPES`` that values of an Arrow type become; None where none is right."""
    if kinds.is_dictionary(kind):
        kind = kind.value_type
    if kinds.is_integer(kind):
        return pa.int64()
    if kinds.is_floating(kind) or kinds.is_decimal(kind):
        return pa.float64()
    if kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind):
        return pa.string()
    if kinds.is_boolean(kind) or kinds.is_null(kind):
        return pa.bool_() if kinds.is_boolean(kind) else pa.string()
    if kinds.is_date(kind):
        return pa.date32()
    return pa.timestamp("us") if kinds.is_timestamp(kind) else None


def as_usual(column: Column, to: pa.DataType) -> Column:
    """The values in the ``usual_type`` of their own. Decimals and float32 become the float64 that
    is nearest to their text, as an export to CSV would have it; what is finer than microseconds is
    cut. Raises ArrowException for a value that doesn't fit."""
    kind = column.type
    if kinds.is_dictionary(kind):
        return as_usual(column.cast(kind.value_type), to)
    if kind == to:
        return column
    if kinds.is_decimal(kind) or kinds.is_float32(kind):
        return column.cast(pa.string()).cast(to)
    if kinds.is_timestamp(kind):
        zone = pa.timestamp("us", kind.tz)
        return column.cast(zone, safe=kind.unit != "ns").cast(to)
    return column.cast(to)


def canonical_texts(values: pa.Array) -> pa.Array:
    """The one text of each value, as strings; null stays null."""
    kind = values.type
    if kind == pa.string():
        return values
    if kind == pa.float64():
        return pa.array([_float_text(x) for x in values.to_pylist()], pa.string())
    if kind == pa.timestamp("us"):
        return pa.array([_time_text(x) for x in values.to_pylist()], pa.string())
    return values.cast(pa.string())


def _float_text(value: float | None) -> str | None:
    if value is None:
        return None
    return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)


def _time_text(value: Any) -> str | None:
    if value is None:
        return None
    midnight = (value.hour, value.minute, value.second, value.microsecond) == (0, 0, 0, 0)
    return str(value.date().isoformat() if midnight else value.isoformat())


def _called(kind: pa.DataType) -> str:
    """A type's name without the names inside it, which may be a patient's."""
    if kinds.is_nested(kind):
        return str(kind).split("<")[0]
    return str(kind)
