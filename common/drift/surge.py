"""Whether a share of rows has surged in a window, held against the windows before it.

Of each group (a topic) the rows with a property (a negative text) are counted window by window. A
window's count is held against the sum of those before it: without a surge, which of all rows are
the window's is a draw without replacement, so that the chance of so many of them having the
property is hypergeometric, as in ``compare.py``, here on the upper side alone.

spread      windows may differ among each other by more than draws do (weekdays, one loud ward). Of
            the history the variance of the counts over a draw's, if that is more than 1, is the
            factor by which the test's deviation is made larger (Rao & Scott 1981, of clusters), and
            the tail is Student's, with the degrees of freedom that the factor was estimated from
limit       ``ALPHA`` for a window, divided by the groups that are looked at in it
history     the last ``LONGEST`` windows before, of which those with an alarm of this group don't
            count: what has surged is no measure of what is usual. Fewer than ``SHORTEST``, or fewer
            than ``LEAST_ROWS`` rows, say nothing
size        a share that rose by less than ``LEAST`` is no alarm

Shapes: K groups, T windows in the order of time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr
from scipy.stats import hypergeom

from wardround.common.drift.compare import ALPHA, LEAST

SHORTEST, LONGEST, LEAST_ROWS = 4, 52, 20
_CERTAIN = 1e-300


@dataclass(frozen=True)
class Surge:
    """One group in one window.

    group, window : their places
    count, rows : of the window: rows with the property, of how many
    before, of : the same of the history
    spread : how much more its windows vary than draws do, a variance's factor, at least 1
    chance : of so many, or more, without a surge
    limit : what it must be under
    """

    group: int
    window: int
    count: int
    rows: int
    before: int
    of: int
    spread: float
    chance: float
    limit: float

    @property
    def alarm(self) -> bool:
        """More than chance, and large enough to matter."""
        rise = self.count / self.rows - self.before / self.of
        return self.chance <= self.limit and rise >= LEAST


def surges(counts: NDArray[np.int64], rows: NDArray[np.int64]) -> list[Surge]:
    """Every group and window that has a history, by window, then group.

    counts, rows : K x T: rows with the property, and all rows

    >>> import numpy as np
    >>> rows = np.full((1, 6), 50)
    >>> [one.alarm for one in surges(np.array([[5, 6, 4, 5, 5, 9]]), rows)]
    [False, False]
    >>> [one.alarm for one in surges(np.array([[5, 6, 4, 5, 5, 19]]), rows)]
    [False, True]
    """
    groups, windows = counts.shape
    usual = np.ones(counts.shape, dtype=np.bool_)
    found = list[Surge]()
    for window in range(windows):
        first = max(0, window - LONGEST)
        histories = [
            np.flatnonzero(usual[group, first:window] & (rows[group, first:window] > 0)) + first
            for group in range(groups)
        ]
        ready = [
            group
            for group, places in enumerate(histories)
            if rows[group, window] > 0
            and len(places) >= SHORTEST
            and rows[group, places].sum() >= LEAST_ROWS
        ]
        for group in ready:
            places = histories[group]
            before = counts[group, places], rows[group, places]
            here = int(counts[group, window]), int(rows[group, window])
            one = _tested(group, window, here, before, ALPHA / len(ready))
            usual[group, window] = not one.alarm
            found.append(one)
    return found


def _tested(
    group: int,
    window: int,
    here: tuple[int, int],
    before: tuple[NDArray[np.int64], NDArray[np.int64]],
    limit: float,
) -> Surge:
    (count, n), (hits, of) = here, (int(part.sum()) for part in before)
    factor = spread(*before)
    chance = float(hypergeom.sf(count - 1, n + of, count + hits, n))
    if factor > 1:
        # the same distance in deviations that are larger, and known from so many windows only
        off = float(ndtri(max(chance, _CERTAIN))) / math.sqrt(factor)
        chance = float(stdtr(len(before[0]) - 1, off))
    return Surge(group, window, count, n, hits, of, factor, chance, limit)


def spread(counts: NDArray[np.int64], rows: NDArray[np.int64]) -> float:
    """Pearson's statistic of equal shares over its degrees of freedom; 1 where it is less, or
    nothing varies. counts, rows : of several windows, T each"""
    share = counts.sum() / rows.sum()
    if len(counts) < 2 or not 0 < share < 1:
        return 1.0
    expected = rows * share
    statistic = ((counts - expected) ** 2 / (expected * (1 - share))).sum()
    return max(1.0, float(statistic) / (len(counts) - 1))
