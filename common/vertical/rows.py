"""One party's columns as a vertical model has them: linked, in the agreed order, scaled at home.

A column with two different values is 0 and 1 (the rarer), so that sums of products of two such
are counts; any other has mean 0 and a deviation of at most 1. One that never varies, or whose
smaller group has fewer persons than the smallest cell, is left out: it becomes zeros, and all
parties know that it is.

Sums of a column with others' are equations for who has these, if rounded ones: three sums with
numbers tell which 5 of 40 persons have it. So a column is left out, too, where there are fewer
arrangements of its values among the persons than such sums can tell apart (``arrangements``).

A scale is a power of two, at least the deviation: it is told to all, and would else say how far
the farthest person is from the mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import JointRefused
from wardround.common.tasks.linked.rows import LinkedRows
from wardround.common.vertical.ring import Reals

LEFT_OUT, NUMBER, TWO_VALUED = 0, 1, 2
WIDEST = 16.0
"""The largest value of a scaled column: what shares have bits for."""


@dataclass(frozen=True)
class Scaled:
    """Columns of n linked persons.

    values : (columns, n): (column - centre) / scale
    kinds : of each column ``LEFT_OUT``, ``NUMBER`` or ``TWO_VALUED``
    """

    values: Reals
    centre: Reals
    scale: Reals
    kinds: NDArray[np.uint64]


def scaled(columns: Sequence[Reals], persons: int, smallest: int, bits: float = 0.0) -> Scaled:
    """Columns by themselves; which belong to one category isn't looked at.

    bits : those with fewer ``arrangements`` are left out
    """
    values, centres, scales, kinds = [], [], [], []
    for column in columns:
        kind, centre, scale = _kind(column, smallest, bits)
        values.append((column - centre) / scale if kind else np.zeros(persons))
        kinds.append(kind)
        centres.append(centre)
        scales.append(scale)
    return Scaled(
        np.array(values).reshape(len(columns), persons),
        np.array(centres),
        np.array(scales),
        np.array(kinds, dtype=np.uint64),
    )


def arrangements(column: Reals) -> float:
    """The logarithm to base two of in how many ways a column's values can be among persons."""
    counts = np.unique(column, return_counts=True)[1].tolist()
    ways = math.lgamma(len(column) + 1) - math.fsum(math.lgamma(count + 1) for count in counts)
    return ways / math.log(2)


def _kind(column: Reals, smallest: int, bits: float) -> tuple[int, float, float]:
    """(kind, centre, scale) of one."""
    low, high = float(column.min()), float(column.max())
    if not np.isfinite([low, high]).all():
        raise JointRefused("a party has an input that is no finite number")
    if low == high or arrangements(column) < bits:
        return LEFT_OUT, 0.0, 1.0
    if ((column == low) | (column == high)).all():
        larger = int((column == high).sum())
        few = min(larger, len(column) - larger) < smallest
        if few:
            return LEFT_OUT, 0.0, 1.0
        rarer = 2 * larger <= len(column)
        return (TWO_VALUED, low, high - low) if rarer else (TWO_VALUED, high, low - high)
    mean, deviation = float(column.mean()), float(column.std())
    if not 0 < deviation < np.inf:
        return LEFT_OUT, 0.0, 1.0
    widest = max(deviation, max(high - mean, mean - low) / WIDEST)
    scale = float(np.ldexp(1.0, math.frexp(widest)[1]))
    return (NUMBER, mean, scale) if np.isfinite(scale) else (LEFT_OUT, 0.0, 1.0)


def scaled_inputs(rows: LinkedRows, smallest: int, bits: float = 0.0) -> Scaled:
    """A party's inputs, in the order of ``LinkedRows.columns``. Raises DataError, by place.

    Levels of a category that too few have are together with the first, which the others are
    compared with; where these are too few too, the rarest other joins them.
    """
    found = scaled([rows.numbers(name) for name in rows.columns], len(rows), smallest, bits)
    kinds, values, start = found.kinds.copy(), found.values.copy(), len(rows.own.numeric)
    for levels in rows.own.categorical.values():
        places = np.arange(start, start + len(levels) - 1)
        start += len(places)
        kept = [place for place in places if kinds[place]]
        of = {p: values[p].sum() if found.scale[p] > 0 else (1 - values[p]).sum() for p in kept}
        while kept and len(rows) - sum(of[place] for place in kept) < smallest:
            rarest = min(kept, key=lambda place: (of[place], place))
            kinds[rarest], values[rarest] = LEFT_OUT, 0.0
            kept.remove(rarest)
    return Scaled(values, found.centre, found.scale, kinds)


def categories(own: Mapping[str, Sequence[str]], numbers: int) -> list[int]:
    """Of each column which category of its party it is of: levels of one are never compared; -1 of
    numbers, which come first."""
    levels = [number for number, texts in enumerate(own.values()) for _ in range(len(texts) - 1)]
    return [-1] * numbers + levels
