"""Texts of a column, all at once: their normal form, which of them are numbers, and which numbers.

Work is done on the different texts of a column, and on those in Python only that aren't plain
ASCII; so a column costs its distinct cells, not its cells.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wardround.common.text import code, normal_text

NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
"""What a number looks like, with a decimal point and digits of ASCII."""
WHOLE = r"^[+-]?(0|[1-9][0-9]*)$"
USUAL_MISSING = frozenset(
    ["", "?", ".", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NaT", "NULL", "null"]
)
"""Texts that mean missing in most exports, whatever a study says of others."""


def uniques(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], pa.Array]:
    """(index, values): a column's different values in the order of their first appearance, and
    which of them each cell is; -1 where it is null."""
    if pa.types.is_null(column.type):  # of no kind: Arrow has no dictionary of nothing
        column = column.cast(pa.string())
    coded = column.combine_chunks()
    if isinstance(coded, pa.ChunkedArray):  # no chunk, or more than one array can hold
        coded = pa.concat_arrays(coded.chunks) if coded.num_chunks else pa.array([], column.type)
    coded = coded.dictionary_encode()
    index = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return index, coded.dictionary


def normal_texts(values: pa.Array) -> pa.Array:
    """``normal_text`` of each; what is plain ASCII is left as it is without being looked at."""
    return _where(values, _plain(values), normal_text)


def codes(values: pa.Array) -> pa.Array:
    """``code`` of each."""
    texts = normal_texts(values)
    return pc.replace_substring_regex(texts, r"^([+-]?[0-9]+)\.0*$", r"\1")


def is_number(values: pa.Array) -> NDArray[np.bool_]:
    """Whether each text is a number as ``NUMBER`` says; null is none."""
    return _mask(pc.match_substring_regex(values, NUMBER))


def to_float(values: pa.Array, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The texts where ``known`` as float64, NaN elsewhere; infinite beyond what it can hold."""
    found = np.full(len(values), np.nan)
    numbers = values.filter(pa.array(known))
    numbers = pc.replace_substring_regex(numbers, r"^\+", "")
    found[known] = numbers.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return found


def is_one_of(values: pa.Array, texts: Collection[str]) -> NDArray[np.bool_]:
    """Whether the code of each is among the codes ``texts``."""
    if not texts:
        return np.zeros(len(values), dtype=np.bool_)
    return _mask(pc.is_in(codes(values), value_set=pa.array(sorted(texts), pa.string())))


def missing_codes(texts: Collection[str]) -> frozenset[str]:
    """Texts that mean missing, as codes; an empty cell always is."""
    return frozenset(code(text) for text in texts) | {""}


@lru_cache(maxsize=64)
def missing_numbers(texts: frozenset[str]) -> list[float]:
    """Those of the codes that are numbers: -9 is -9.0 in a column of numbers."""
    values = pa.array(sorted(texts), pa.string())
    known = is_number(values)
    return [float(value) for value in to_float(values, known)[known]]


def _plain(values: pa.Array) -> NDArray[np.bool_]:
    ascii_only = _mask(pc.string_is_ascii(values))
    if not ascii_only.all():  # utf8_is_printable decodes, what is ASCII is looked at by its bytes
        values = pc.if_else(pa.array(ascii_only), values, "")
    printable = _mask(pc.ascii_is_printable(values))
    blank = _mask(pc.match_substring(values, " "))
    return ascii_only & printable & ~blank


def _where(values: pa.Array, plain: NDArray[np.bool_], function: Callable[[str], str]) -> pa.Array:
    """``function`` of each text that isn't plain."""
    odd = np.flatnonzero(~plain)
    if not len(odd):
        return values
    mended = [None if x is None else function(x) for x in values.take(pa.array(odd)).to_pylist()]
    mask = pa.array(~plain)
    return pc.replace_with_mask(values, mask, pa.array(mended, pa.string()))


def _mask(found: Any) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = (
        pc.fill_null(found, False).to_numpy(zero_copy_only=False).astype(np.bool_)
    )
    return mask
