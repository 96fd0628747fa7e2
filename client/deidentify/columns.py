"""What is done to a column: each function takes a typed column and gives one of as many rows.

Pseudonyms and shifts are HMAC-SHA-256 under a key that stays at the hospital: the same patient has
the same ones in every file and every year, so intervals and links are kept, and nobody else can
try identifiers out. Rows are done by their distinct values.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wardround.common.tasks.data.reading.texts import uniques
from wardround.common.text import code

OLDEST = 89
SMALL_ZIP3 = frozenset(
    "036 059 063 102 203 556 692 790 821 823 830 831 878 879 884 890 893".split()
)
"""Areas of three digits with 20,000 people or fewer (census of 2000; guidance of the US Department
of Health and Human Services on 45 CFR 164.514)."""
_LONGEST_SHIFT = 365
_DIGITS = 16
_DAY_US = 86_400_000_000


def pseudonyms(column: pa.ChunkedArray, key: bytes) -> pa.ChunkedArray:
    """Identifiers as 16 hexadecimal digits each."""

    def of(text: str) -> str:
        return hmac.digest(key, f"patient\x1f{code(text)}".encode(), hashlib.sha256).hex()[:_DIGITS]

    return by_value(column, of)


def shifts(patients: pa.ChunkedArray, key: bytes) -> NDArray[np.int64]:
    """Days for each row, -365 to 365 but never 0; 0 where no patient is named."""
    index, values = uniques(patients)
    days = [_shift(str(value), key) for value in values.to_pylist()]
    table = np.array([*days, 0], dtype=np.int64)
    return table[index]  # -1, a gap, is the last


def _shift(patient: str, key: bytes) -> int:
    drawn = hmac.digest(key, f"dates\x1f{code(patient)}".encode(), hashlib.sha256)
    days = int.from_bytes(drawn[:8], "big") % (2 * _LONGEST_SHIFT)
    return days - _LONGEST_SHIFT if days < _LONGEST_SHIFT else days - _LONGEST_SHIFT + 1


def shifted(column: pa.ChunkedArray, days: NDArray[np.int64]) -> pa.ChunkedArray:
    """Dates moved by so many days; null where it isn't known by how many."""
    stamps = column.cast(pa.timestamp("us"))
    moved = pc.add(stamps.cast(pa.int64()), pa.array(days * _DAY_US))
    known = pc.if_else(pa.array(days != 0), moved, pa.scalar(None, pa.int64()))
    found = known.cast(pa.timestamp("us"))
    if pa.types.is_date(column.type) or _are_days(stamps):
        found = found.cast(pa.date32(), safe=False)
    return found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])


def _are_days(stamps: pa.ChunkedArray) -> bool:
    """Whether none has a time of day."""
    return bool(pc.all(pc.equal(pc.floor_temporal(stamps, unit="day"), stamps)).as_py())


def years(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The year of each date."""
    return pc.year(column.cast(pa.timestamp("us")))


def birth_years(column: pa.ChunkedArray, this_year: int) -> pa.ChunkedArray:
    """The year of birth; null of those who may be over 89 by the end of ``this_year``."""
    found = years(column)
    return pc.if_else(pc.less(found, this_year - OLDEST), pa.scalar(None, pa.int64()), found)


def ages(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ages over 89 as 90. Raises pa.ArrowInvalid for texts."""
    numbers = column.cast(pa.float64())
    capped = pc.if_else(pc.greater(numbers, OLDEST), 90.0, numbers)
    whole = pa.types.is_integer(column.type)
    return capped.cast(pa.int64()) if whole else capped


def zip3(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Three digits of a postcode, 000 for areas with few people."""

    def of(text: str) -> str:
        digits = code(text).strip()
        digits = digits.zfill(5) if digits.isdigit() and len(digits) < 5 else digits
        return "000" if digits[:3] in SMALL_ZIP3 else digits[:3]

    return by_value(column, of)


def areas(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The first two characters of a postcode."""

    def of(text: str) -> str:
        digits = code(text).strip()
        return (digits.zfill(5) if digits.isdigit() and len(digits) < 5 else digits)[:2]

    return by_value(column, of)


def by_value(column: pa.ChunkedArray, of: Callable[[str], str]) -> pa.ChunkedArray:
    """A column of texts made of each distinct value; gaps stay."""
    index, values = uniques(column)
    made = pa.array([of(_text(value)) for value in values.to_pylist()], pa.string())
    return pa.chunked_array([made.take(pa.array(index, mask=index < 0))])


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
