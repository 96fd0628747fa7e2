"""Decimal marks and marks between thousands: what a file's own numbers say of them.

1,5 can only be one and a half, 1.234,5 and 1.234.567 say which mark is which; 1,234 and 1.234 alone
say nothing. A file's evidence is that of all its columns that are mostly numbers. Without any, what
can be read in two ways stays a text, which is refused by its place when a number is wanted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wardround.common.tasks.data.reading.texts import (
    USUAL_MISSING,
    is_number,
    is_one_of,
    normal_texts,
)

_EXPONENT = r"([eE][+-]?[0-9]+)?$"
_COMMA = rf"^[+-]?[0-9]*,[0-9]+{_EXPONENT}"
"""A number with one comma, whatever it means."""
_POINT = rf"^[+-]?[0-9]*\.[0-9]+{_EXPONENT}"
_COMMA_GROUP = r"^[+-]?[1-9][0-9]{0,2},[0-9]{3}$"
"""1,234: one and a bit, or more than a thousand."""
_POINT_GROUP = r"^[+-]?[1-9][0-9]{0,2}\.[0-9]{3}$"
_COMMA_GROUPS = r"^[+-]?[1-9][0-9]{0,2}(,[0-9]{3}){2,}$|^[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+\.[0-9]+$"
_POINT_GROUPS = r"^[+-]?[1-9][0-9]{0,2}(\.[0-9]{3}){2,}$|^[+-]?[1-9][0-9]{0,2}(\.[0-9]{3})+,[0-9]+$"
_OTHER_GROUPS = r"^[+-]?[1-9][0-9]{0,2}([ '][0-9]{3})+([.,][0-9]+)?$"
_MOSTLY = 0.5
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Marks:
    """decimal : the mark of decimals; of point and comma the other is that between thousands"""

    decimal: str

    @property
    def groups(self) -> str:
        """Between thousands, beside a blank and an apostrophe, which are nothing else."""
        return "," if self.decimal == "." else "."


@dataclass
class Evidence:
    """What columns say. comma, point : some number can only be read with this decimal mark; open :
    some 1,234 or 1.234 says nothing."""

    comma: bool = False
    point: bool = False
    open: bool = False

    def add(self, values: pa.Array) -> None:
        """Look at a column's different texts, if most of them are numbers in some way."""
        texts = normal_texts(values)
        texts = texts.filter(pa.array(~is_one_of(texts, USUAL_MISSING)))
        if not len(texts) or numberish(texts).mean() < _MOSTLY:
            return
        open_comma, open_point = _is(texts, _COMMA_GROUP), _is(texts, _POINT_GROUP)
        comma, point = _is(texts, _COMMA) & ~open_comma, _is(texts, _POINT) & ~open_point
        self.comma |= bool((comma | _is(texts, _POINT_GROUPS)).any())
        self.point |= bool((point | _is(texts, _COMMA_GROUPS)).any())
        self.open |= bool((open_comma | open_point).any())

    def marks(self) -> Marks | None:
        """What follows; None if nothing does, or two things that exclude each other."""
        if self.comma == self.point:
            return None
        return Marks("," if self.comma else ".")


def evidence(columns: Iterable[pa.Array]) -> Evidence:
    """Of the different texts of some columns."""
    found = Evidence()
    for values in columns:
        found.add(values)
    return found


def numberish(texts: pa.Array) -> Mask:
    """Whether each is a number in some way of writing."""
    found = is_number(texts)
    for pattern in (_COMMA, _COMMA_GROUPS, _POINT_GROUPS, _OTHER_GROUPS):
        found |= _is(texts, pattern)
    return found


def in_point_form(texts: pa.Array, marks: Marks | None) -> tuple[pa.Array, bool]:
    """The texts, with those that are numbers by these marks as ``NUMBER`` has them: 1.234,5 is
    1234.5. All others stay as they are. Also whether some had marks between thousands."""
    grouped = _is(texts, _OTHER_GROUPS)
    plain = np.zeros(len(texts), dtype=np.bool_)
    strip = "[ ']"
    if marks is not None:
        point = marks.groups == "."
        strip = r"[ '.]" if point else r"[ ',]"
        grouped |= _is(texts, _POINT_GROUPS if point else _COMMA_GROUPS)
        grouped |= _is(texts, _POINT_GROUP if point else _COMMA_GROUP)
        plain = _is(texts, _COMMA) & ~grouped if point else plain
    if grouped.any():
        without = pc.replace_substring_regex(texts, strip, "")
        texts = pc.if_else(pa.array(grouped), without, texts)
    if marks is not None and marks.decimal == ",":
        swapped = pc.replace_substring(texts, ",", ".")
        texts = pc.if_else(pa.array(grouped | plain), swapped, texts)
    return texts, bool(grouped.any())


def _is(texts: pa.Array, pattern: str) -> Mask:
    found = pc.fill_null(pc.match_substring_regex(texts, pattern), False)
    mask: Mask = found.to_numpy(zero_copy_only=False).astype(np.bool_)
    return mask
