"""What a look at one column finds.

A column of texts is looked at by its distinct texts and how many rows have each. Texts that differ
in case, blanks or form only are one group: the spellings of one category.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wardround.common.tasks.data.profile.units import header_unit
from wardround.common.tasks.data.profile.words import GAP_WORDS, says_identifier, says_patient
from wardround.common.text import code

Kind = Literal[
    "number",
    "integer",
    "binary",
    "category",
    "date",
    "identifier",
    "text",
    "constant",
    "empty",
]
LEAST = 5
"""Fewest rows that must share a text before it may be shown (as ``task.min_category_count``)."""
MOST_TEXTS = 20_000
"""Columns with more distinct texts are no categories, and their texts aren't compared."""
_MOST_CATEGORIES = 200
_EXACT = 2.0**53
"""Whole numbers beyond it aren't exact as float64: two patients would become one."""
_MOSTLY = 0.9
_NUMBER = r"^[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?$"
_DATE = (
    r"^(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})|\d{1,2}[- ][A-Za-z]{3}"
    r"[- ]\d{2,4})([T ]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$"
)


@dataclass(frozen=True)
class ColumnProfile:
    """What a column is.

    kind : ``number`` and ``integer`` (whole) are measured values, ``binary`` has two values (texts
        that differ in case only are one), ``text`` is free text, ``identifier`` tells rows or
        patients apart
    base, unit : its name without the unit, and the unit (``header_unit``)
    rows, gaps : rows, and those without a value, or with a text that says so (``gap_texts``)
    distinct : values that differ
    low, lower, median, upper, high : extremes and quartiles of numbers, in the column's unit; None
        of others
    counts : rows by text (``common.text.code``), where there are few enough; cells, so not to be
        shown: ``shared`` may be
    gap_texts : rows by text that often means 'missing' (., unk, -9); they count as gaps, and no
        setting says so yet
    odd, first_odd : rows of a column of numbers or dates that are neither that nor missing, and
        the first of them (a row's number, from 0)
    numeric : whether its values are numbers
    least : what ``shared`` goes by
    """

    name: str
    kind: Kind
    rows: int
    gaps: int
    distinct: int
    base: str = ""
    unit: str | None = None
    low: float | None = None
    median: float | None = None
    high: float | None = None
    lower: float | None = None
    upper: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict, repr=False)
    gap_texts: Mapping[str, int] = field(default_factory=dict)
    odd: int = 0
    first_odd: int | None = None
    numeric: bool = False
    least: int = LEAST

    @property
    def groups(self) -> dict[str, dict[str, int]]:
        """``counts`` by category: spellings that differ in case only are one, called as its most
        frequent spelling."""
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for text, count in self.counts.items():
            found[text.casefold()][text] = count
        return {max(one, key=lambda text: (one[text], text)): one for one in found.values()}

    @property
    def shared(self) -> dict[str, int]:
        """Rows by category, of those that enough rows share to be shown."""
        sums = {name: sum(one.values()) for name, one in self.groups.items()}
        return {name: count for name, count in sums.items() if count >= self.least}


def look(name: str, column: pa.ChunkedArray, least: int = LEAST) -> ColumnProfile:
    """The profile of a typed column. Raises nothing for any values: a type that no table has
    (lists, bytes) is a ``text``."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _of_numbers(name, column, least)
    if pa.types.is_boolean(kind):
        column, kind = column.cast(pa.string()), pa.string()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _of_texts(name, column, least)
    base, unit = header_unit(name)
    rows, gaps = len(column), column.null_count
    dates = pa.types.is_temporal(kind)
    distinct = pc.count_distinct(column).as_py() if dates else rows - gaps
    what: Kind = "empty" if gaps == rows else "date" if dates else "text"
    return ColumnProfile(name, what, rows, gaps, distinct, base, unit, least=least)


# --- numbers --------------------------------------------------------------------------------------
def _of_numbers(name: str, column: pa.ChunkedArray, least: int) -> ColumnProfile:
    base, unit = header_unit(name)
    whole_type = pa.types.is_integer(column.type)
    present = column.drop_null()
    values = present.to_numpy()
    rows, gaps, endless = len(column), column.null_count, np.zeros(0, dtype=np.int64)
    if not whole_type:
        every = column.to_numpy()
        endless = np.flatnonzero(np.isinf(every))
        values = values[np.isfinite(values)]
        gaps = int(np.isnan(every).sum())
    if len(values) == 0:
        return ColumnProfile(name, "empty", rows, gaps, 0, base, unit, least=least)
    found, sizes = np.unique(values, return_counts=True)
    sentinels = _sentinels(found, sizes)
    if sentinels:
        keep = ~np.isin(found, [float(text) for text in sentinels])
        found, sizes = found[keep], sizes[keep]
        gaps += sum(sentinels.values())
    whole = whole_type or bool(np.all(np.floor(found) == found))
    counts = {}
    if len(found) <= _MOST_CATEGORIES:
        texts = (str(int(value)) if whole else repr(float(value)) for value in found)
        counts = dict(zip(texts, map(int, sizes), strict=True))
    return ColumnProfile(
        name,
        _kind_of_numbers(name, found, rows - gaps, whole),
        rows,
        gaps,
        len(found),
        base,
        unit,
        float(found[0]),
        _quantile(found, sizes, 0.5),
        float(found[-1]),
        _quantile(found, sizes, 0.25),
        _quantile(found, sizes, 0.75),
        counts,
        sentinels,
        odd=len(endless),
        first_odd=int(endless[0]) if len(endless) else None,
        numeric=True,
        least=least,
    )


def _kind_of_numbers(name: str, found: NDArray[Any], count: int, whole: bool) -> Kind:
    distinct = len(found)
    low, high = float(found[0]), float(found[-1])
    if distinct == 1:
        return "constant"
    if whole and max(abs(low), abs(high)) > _EXACT:
        return "identifier"
    if whole and distinct > 2:
        numbered = distinct == count and count >= 20 and high - low + 1 == count
        named = says_patient(name) or (says_identifier(name) and distinct >= _MOSTLY * count)
        if numbered or named:
            return "identifier"
    if distinct == 2:
        return "binary"
    return "integer" if whole else "number"


def _sentinels(found: NDArray[Any], sizes: NDArray[np.int64]) -> dict[str, int]:
    """-9, -99, ... where they are the only negative number and more than one row has it."""
    negative = np.flatnonzero(found < 0)
    if len(negative) != 1 or len(found) < 3 or sizes[negative[0]] < 2:
        return {}
    value = float(found[negative[0]])
    return {str(int(value)): int(sizes[negative[0]])} if value in (-9, -99, -999, -9999) else {}


def _quantile(found: NDArray[Any], sizes: NDArray[np.int64], share: float) -> float:
    """Of sorted values with their numbers of rows, between neighbours in a straight line (type 7 of
    Hyndman and Fan 1996, as numpy's)."""
    reached = np.cumsum(sizes)
    place = share * (int(reached[-1]) - 1)
    below, above = np.searchsorted(reached, [int(place) + 1, min(int(place) + 2, reached[-1])])
    low, high = float(found[below]), float(found[above])
    return low + (place - float(int(place))) * (high - low)


# --- texts ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Texts:
    """A column's distinct texts, how many rows have each, and which one each row has (-1: none)."""

    texts: pa.Array
    sizes: NDArray[np.int64]
    index: NDArray[np.int64]

    def flags(self, found: pa.Array) -> NDArray[np.bool_]:
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.bool_)

    def rows(self, kept: NDArray[np.bool_]) -> int:
        return int(self.sizes[kept].sum())

    def counts(self, kept: NDArray[np.bool_]) -> dict[str, int]:
        """Rows by text as a code; two texts of one code are counted together."""
        counts: dict[str, int] = defaultdict(int)
        for number in np.flatnonzero(kept):
            counts[code(self.texts[int(number)].as_py())] += int(self.sizes[number])
        return dict(counts)

    def floats(self, number: NDArray[np.bool_]) -> pa.ChunkedArray:
        """The rows' numbers, null where the text is none."""
        masked = pc.if_else(pa.array(number), self.texts, pa.scalar(None, self.texts.type))
        values = masked.cast(pa.float64()).to_numpy(zero_copy_only=False)
        rows = np.full(len(self.index), np.nan)
        rows[self.index >= 0] = values[self.index[self.index >= 0]]
        return pa.chunked_array([pa.array(rows, from_pandas=True)])


def _distinct(column: pa.ChunkedArray) -> _Texts:
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    texts = pc.utf8_trim_whitespace(encoded.dictionary)
    index = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    sizes = np.bincount(index[index >= 0], minlength=len(texts)).astype(np.int64)
    return _Texts(texts, sizes, index)


def _of_texts(name: str, column: pa.ChunkedArray, least: int) -> ColumnProfile:
    base, unit = header_unit(name)
    found, rows = _distinct(column), len(column)
    texts = found.texts
    empty = found.flags(pc.equal(texts, ""))
    gap = found.flags(pc.is_in(pc.utf8_lower(texts), pa.array(sorted(GAP_WORDS), texts.type)))
    kept = ~empty & ~gap
    filled = found.rows(kept)
    draft = ColumnProfile(
        name,
        "empty",
        rows,
        rows - filled,
        0,
        base,
        unit,
        gap_texts=found.counts(gap & ~empty),
        least=least,
    )
    if filled == 0:
        return draft
    number = found.flags(pc.match_substring_regex(texts, _NUMBER))
    if found.rows(number) >= _MOSTLY * filled:
        numbers = _of_numbers(name, found.floats(number), least)
        odd, first = _odd(found, kept & ~number)
        return replace(
            numbers,
            gaps=numbers.gaps - odd,
            gap_texts={**draft.gap_texts, **numbers.gap_texts},
            odd=odd,
            first_odd=first,
        )
    date = found.flags(pc.match_substring_regex(texts, _DATE))
    if found.rows(date) >= _MOSTLY * filled:
        odd, first = _odd(found, kept & ~date)
        distinct = int(date.sum())
        return replace(draft, kind="date", distinct=distinct, odd=odd, first_odd=first)
    return _of_categories(draft, filled, found, kept)


def _odd(found: _Texts, odd: NDArray[np.bool_]) -> tuple[int, int | None]:
    """How many rows have such a text, and the first of them."""
    if not odd.any():
        return 0, None
    rows = np.flatnonzero((found.index >= 0) & odd[found.index])
    return len(rows), int(rows[0])


def _of_categories(
    draft: ColumnProfile, filled: int, found: _Texts, kept: NDArray[np.bool_]
) -> ColumnProfile:
    counts = found.counts(kept) if kept.sum() <= MOST_TEXTS else {}
    distinct = len({text.casefold() for text in counts}) or int(kept.sum())
    draft = replace(draft, distinct=distinct, counts=counts)
    texts = found.texts.filter(pa.array(kept))
    longest = pc.max(pc.utf8_length(texts)).as_py()
    words = float(pc.mean(pc.count_substring(texts, " ")).as_py())
    named = says_patient(draft.name) or (
        says_identifier(draft.name) and distinct >= _MOSTLY * filled
    )
    unique = distinct >= 0.95 * filled and filled >= 20 and words < 1 and longest <= 64
    kind: Kind = "text"
    if distinct == 1:
        kind = "constant"
    elif (named and distinct > 2) or unique:
        kind = "identifier"
    elif distinct == 2:
        kind = "binary"
    elif distinct <= _MOST_CATEGORIES and longest <= 60:
        few = distinct <= 10 and words < 2
        kind = "category" if few or 2 * sum(draft.shared.values()) >= filled else "text"
    return replace(draft, kind=kind)
