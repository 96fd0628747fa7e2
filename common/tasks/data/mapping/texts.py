"""Columns as texts, and texts as numbers and dates; each distinct text is looked at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wardround.common.text import code

Mask = NDArray[np.bool_]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_ISO = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?", re.ASCII)
MAX_ABS_NUMBER = 1e30
"""Larger magnitudes are no measurement, nor a step towards one."""


def each(column: pa.Array, function: Callable[[Any], Any], type_: pa.DataType) -> pa.Array:
    """``function`` of each value that isn't null, called once per distinct one; None is null."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    found = pa.array([function(value) for value in encoded.dictionary.to_pylist()], type_)
    return found.take(encoded.indices)


def code_of(value: Any) -> str:
    """The one text of a typed value as a code: 12.0 is '12', a date ISO, a truth 'true'."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        midnight = value.time() == value.time().min
        return value.date().isoformat() if midnight else value.isoformat(sep=" ")
    if isinstance(value, float):
        return code(repr(value))
    return code(str(value))


def codes(column: pa.Array) -> pa.Array:
    """A column of any type as codes (``common.text.code``); an empty text is null."""
    return each(column, lambda value: code_of(value) or None, pa.string())


def numbers(column: pa.Array) -> tuple[pa.Array, Mask]:
    """float64, null where there is none; and where a text is no number of usual size."""
    if not is_text(column.type):
        found = column.cast(pa.float64(), safe=False)
        return pc.if_else(pc.is_nan(found), pa.scalar(None, pa.float64()), found), none(column)
    return _read(column, _number, pa.float64())


def dates(column: pa.Array, form: str | None) -> tuple[pa.Array, Mask]:
    """timestamp[us], null where there is none; and where a text isn't a date of that form.

    form : as strptime takes it; None: ISO 8601
    """
    if not is_text(column.type):
        return column.cast(pa.timestamp("us"), safe=False), none(column)
    return _read(column, lambda text: date_of(text, form), pa.timestamp("us"))


def date_of(text: str, form: str | None) -> datetime | None:
    """A text as a date, of the form or of ISO 8601."""
    try:
        if form is not None:
            return datetime.strptime(text, form).replace(tzinfo=None)
        return datetime.fromisoformat(text) if _ISO.fullmatch(text) else None
    except (ValueError, OverflowError):
        return None


def is_text(type_: pa.DataType) -> bool:
    """Whether a column of this type holds texts, or nothing."""
    if pa.types.is_dictionary(type_):
        return is_text(type_.value_type)
    return bool(
        pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_null(type_)
    )


def none(column: pa.Array) -> Mask:
    """A mask of the column's length, nowhere true."""
    return np.zeros(len(column), dtype=np.bool_)


def to_mask(truths: pa.Array) -> Mask:
    """A bool column as a mask; null is false."""
    return np.asarray(pc.fill_null(truths, False).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _number(text: str) -> float | None:
    value = float(text) if _NUMBER.fullmatch(text) else None
    return value if value is not None and abs(value) <= MAX_ABS_NUMBER else None


def _read(
    column: pa.Array, function: Callable[[str], Any], type_: pa.DataType
) -> tuple[pa.Array, Mask]:
    texts = codes(column)
    found = each(texts, function, type_)
    return found, to_mask(pc.and_(pc.is_valid(texts), pc.is_null(found)))
