"""The mean of the hospitals' own figures, also where the server sees sums only.

A figure that ranks rows by their scores is each hospital's own affair (``Figure.within``). Where
the server sees every hospital's sums it works the figures out itself. With secure aggregation each
hospital adds its own to the masked sum: [1, figure, bound, variance], or zeros where it has none.
So the server learns the mean, how many hospitals it is over, and how far chance may put it off with
these hospitals' numbers of rows; no spread between hospitals, which could tell two apart.

What is added is rounded. Such a figure is a fraction whose denominator is of the hospital's own
counts (positives times negatives, for an area): of an exact sum of three such fractions there are
few solutions, and over some rounds one, so that each hospital's figure and classes came out. The
variance, of what chance does with the hospital's rows, is rounded up to 1 / ``VARIANCE_STEPS``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wardround.common.figures.figure import Figure, is_number
from wardround.common.figures.records import Means
from wardround.common.figures.sums import Floats

STEPS = 4096
"""A hospital's own figure is rounded to one of so many parts of 1."""
VARIANCE_STEPS = 16384
"""Its sampling variance to one of so many, upwards; 100 rows have some 40."""
FEWEST = 3
"""Of as many hospitals a mean is shown to others than the server: each could take its own off."""
_NUMBERS = 4
_MOST, _UNKNOWN = 0.25, 2.0**30
PREFIX = "within:"
"""How the names of such sums begin."""


def own_sums(
    figures: Mapping[str, float],
    within: Iterable[Figure],
    variances: Mapping[str, float] | None = None,
) -> dict[str, Floats]:
    """What one hospital adds to a masked sum: for each figure 4 numbers, [1, figure, bound,
    variance].

    The 1 counts: a hospital whose rows allow no such figure adds zeros and is in no mean. Figure
    and bound are whole multiples of 1 / ``STEPS``; the bound has the rounding in it. A variance
    that isn't known, as of a figure of a task's own, is more than all others can be together.

    variances : of the figures, by name (``intervals.figure_variances``)
    """
    sums = {}
    for figure in within:
        value, bound = figures.get(figure.name), figures.get(figure.bound or "", 0.0)
        own = [0.0] * _NUMBERS
        if is_number(value) and is_number(bound):
            own = [1.0, *_rounded(value, bound), _stepped((variances or {}).get(figure.name))]
        sums[f"{PREFIX}{figure.name}"] = np.array(own)
    return sums


def _rounded(value: float, bound: float) -> tuple[float, float]:
    """To whole steps. The bound is rounded up, with the half step that the value may have moved."""
    return round(value * STEPS) / STEPS, math.ceil(bound * STEPS + 0.5) / STEPS


def _stepped(variance: float | None) -> float:
    """To whole steps, upwards."""
    if not (is_number(variance) and variance >= 0):
        return _UNKNOWN
    return math.ceil(min(variance, _MOST) * VARIANCE_STEPS) / VARIANCE_STEPS


def taken_out(sums: Mapping[str, Floats]) -> tuple[dict[str, Floats], Means]:
    """The sums without those of ``own_sums``, and the means that these make.

    Raises ValueError for one of another shape, or a count that is no number of hospitals.
    """
    rest = {name: value for name, value in sums.items() if not name.startswith(PREFIX)}
    means: Means = {}
    for name in sums.keys() - rest.keys():
        numbers = np.asarray(sums[name], dtype=np.float64).reshape(_NUMBERS)
        count, value, bound, variance = numbers.tolist()
        if count != round(count) or count < 0:
            raise ValueError(f"sum '{name}': found a count that isn't one of hospitals")
        if count:
            means[name.removeprefix(PREFIX)] = _mean(int(count), value, bound, variance)
    return rest, dict(sorted(means.items()))


def of_enough(means: Mapping[str, Mapping[str, Any]], asked: int) -> Means:
    """Those that may be shown. One that is defined at few of those that were asked tells of these
    few: of a single one it is that hospital's own figure."""
    fewest = min(FEWEST, asked)
    return {name: dict(one) for name, one in means.items() if one.get("hospitals", 0) >= fewest}


def means_of(parts: Sequence[Mapping[str, float]], within: Iterable[Figure]) -> Means:
    """The same of figures that are known hospital by hospital: the plain mean, in which every
    hospital counts the same, and the mean of their error bounds. How far chance may put it off is
    told by the hospitals' own figures there (``compared.mean_interval``)."""
    means: Means = {}
    for figure in within:
        known = [part for part in parts if is_number(part.get(figure.name))]
        bounds = [part.get(figure.bound or "", 0.0) for part in known]
        if known:
            total = math.fsum(part[figure.name] for part in known)
            means[figure.name] = _mean(len(known), total, math.fsum(bounds))
    return means


def _mean(count: int, total: float, bound: float, variance: float | None = None) -> dict[str, Any]:
    mean: dict[str, Any] = {"mean": total / count, "bound": bound / count, "hospitals": count}
    if variance is not None and 0 <= variance < _UNKNOWN:
        mean["variance"] = variance / count**2
    return mean
