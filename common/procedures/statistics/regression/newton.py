"""Newton's steps by totals: where a search stands follows from the sums that were opened.

Each total has the likelihood at a point, its slope and its curvature. A point that is worse than
the best is halved back towards it. The search ends where a step could move no coefficient by a ten
billionth of its standard error, or where rounding lets none get nearer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.procedures.statistics.regression.facts import NoAnswer
from wardround.common.procedures.statistics.regression.solve import (
    Floats,
    Mask,
    cholesky,
    dot,
    solve,
    symmetric,
    triangle,
)

MOST_POINTS = 60
"""Points that are tried; eight are usual."""
_NEAR, _ROUNDING = 1e-20, 1e-11
"""Of the squared step in standard errors (Newton's decrement)."""
_WORSE, _FAR, _SMALL = 1e-10, 1e-2, 1e-6
_EXACT = 1e-22
"""Of the first point's squared residuals: what is left then is rounding."""
_MOST_HALVED = 30
_MOST_SHAPE = 2.0


@dataclass(frozen=True)
class Search:
    """Where it stands.

    at : Q, the point that is asked for next, or the answer
    ended : whether it is the answer; then ``total`` is what was opened there
    used : how many totals the search took
    kept : Q, columns that don't follow from others
    step : Q, the last one
    """

    at: Floats
    ended: bool
    used: int
    kept: Mask
    step: Floats
    total: Sums


def shapes_of(size: int) -> dict[str, tuple[int, ...]]:
    """Of the sums at a point: likelihood and Pearson's statistic, slope, curvature."""
    return {"fit": (2,), "slope": (size,), "curvature": triangle(size)}


def search(
    begin: Floats, totals: Sequence[Sums], rows: float, dispersed: bool, shape: bool = False
) -> Search:
    """Where a search from ``begin`` stands. Raises NoAnswer if it found no way on, TaskError for
    totals that no rows have.

    rows : of all hospitals
    dispersed : whether the curvature is in the outcome's unit
    shape : whether the last of Q is the logarithm of a shape, in which the likelihood may be convex
        far from its best: there its step is a short one up the slope
    """
    at, best, likelihood, before, halved = begin, begin, -np.inf, np.inf, 0
    kept, step, size = np.ones(len(begin), dtype=np.bool_), np.zeros(len(begin)), np.inf
    for used, total in enumerate(totals, 1):
        here = float(total["fit"][0])
        curvature = symmetric(total["curvature"], len(begin))
        if not (np.isfinite(here) and np.isfinite(curvature).all()):
            raise TaskError("sums of a regression that no rows have")
        if dispersed and total["fit"][1] <= _EXACT * totals[0]["fit"][1]:
            raise NoAnswer("The outcome follows exactly from the columns.")
        if here < likelihood - _WORSE * (1 + abs(likelihood)):
            halved += 1
            if halved > _MOST_HALVED:
                raise NoAnswer("The search for the coefficients found no way on.")
            at = best + (at - best) / 2
            continue
        factor, found = cholesky(curvature)
        bent = shape and not found[-1]
        if bent:
            curvature[-1, :] = curvature[:, -1] = 0.0
            curvature[-1, -1] = max(1.0, abs(float(total["slope"][-1])))
            factor, found = cholesky(curvature)
        kept = found if used == 1 else kept
        if not np.array_equal(found, kept):
            return Search(at, False, MOST_POINTS, kept, step, total)
        best, likelihood, halved = at, here, 0
        step = solve(factor, kept, total["slope"])
        if shape:
            step[-1] = min(_MOST_SHAPE, max(-_MOST_SHAPE, step[-1]))
        unit = float(total["fit"][1]) / max(1.0, rows) if dispersed else 1.0
        squared = dot(total["slope"], step) / max(unit, 1e-300)
        size, last = float(np.abs(step).max()), size
        if squared <= _SMALL and size > max(_FAR, last / 2):
            return Search(at, False, MOST_POINTS, kept, step, total)  # nothing holds it back
        if not bent and (squared <= _NEAR or _ROUNDING >= squared > before / 2):
            return Search(at, True, used, kept, step, total)
        at, before = best + step, squared
    return Search(at, False, len(totals), kept, step, totals[-1] if totals else {})
