"""Models side by side: the cells of a comparison's row, and how far a mean of hospitals may be off.

A comparison is a list of rows {hospital, local, federated, pooled, intervals}: a hospital's name,
'mean' or 'overall', for each kind of model its figures by name, and by kind the intervals of those
that have one.

A star says that a model is better, not that its number is: only where its interval lies outside
those of the others (which is cautious, as all are measured on the same rows); of the hospitals'
mean, where the interval of the difference, hospital by hospital, leaves out 0.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wardround.common.figures.figure import MEAN, OVERALL, Figure, is_number, with_bound

Row = Mapping[str, Any]
_LEVEL = 0.95
_FEWEST = 3
"""Hospitals from which on an interval is given: of two it would be twelve times their distance."""


def compared(
    row: Row,
    kinds: Sequence[str],
    figure: Figure,
    text: Callable[[Any], str],
    comparison: Sequence[Row] = (),
) -> list[tuple[str, bool]]:
    """The text of each kind's cell, with its error bound where that matters; whether it is best.

    Nothing is best in a row of which no model may be chosen (``Figure.may_star``), or where chance
    may have made it so.

    comparison : the whole of it, by whose hospitals a mean is judged
    """
    parts = [row.get(kind, {}) for kind in kinds]
    values = [part.get(figure.name) for part in parts]
    may = figure.may_star(row["hospital"])
    stars = figure.stars(values) if may else [False] * len(values)
    stars = [
        star and all(_clearly(row, kind, other, figure, comparison) for other in kinds)
        for kind, star in zip(kinds, stars, strict=True)
    ]
    texts = [
        with_bound(text(value), figure.bound_in(part) if is_number(value) else None)
        for value, part in zip(values, parts, strict=True)
    ]
    return list(zip(texts, stars, strict=True))


def span_of(row: Row, kind: str, figure: Figure) -> tuple[float, float] | None:
    """The interval of a cell; None where it has none."""
    span = row.get("intervals", {}).get(kind, {}).get(figure.name)
    return (float(span[0]), float(span[1])) if span else None


def _clearly(row: Row, kind: str, other: str, figure: Figure, comparison: Sequence[Row]) -> bool:
    """Whether chance can't have made one kind of model better than another that has the figure."""
    if other == kind or not is_number(row.get(other, {}).get(figure.name)):
        return True
    if row["hospital"] == MEAN:
        span = mean_interval(_differences(comparison, kind, other, figure), share=False)
        return span is not None and not span[0] <= 0 <= span[1]
    one, two = span_of(row, kind, figure), span_of(row, other, figure)
    return one is not None and two is not None and (one[1] < two[0] or two[1] < one[0])


def _differences(comparison: Sequence[Row], kind: str, other: str, figure: Figure) -> list[float]:
    """Of two kinds' goodness, at each hospital that has both."""
    rows = [row for row in comparison if row["hospital"] not in (MEAN, OVERALL)]
    pairs = [[row.get(one, {}).get(figure.name) for one in (kind, other)] for row in rows]
    known = [pair for pair in pairs if all(is_number(value) for value in pair)]
    return [figure.goodness(float(a)) - figure.goodness(float(b)) for a, b in known]


def intervals(comparison: Sequence[Row], kinds: Sequence[str], figure: Figure) -> str:
    """The interval of each kind's mean, in words; empty where there are too few hospitals, or the
    mean isn't what stands for a model."""
    if figure.stands != MEAN:
        return ""
    found = {kind: mean_interval(own_figures(comparison, kind, figure)) for kind in kinds}
    known = {kind: span for kind, span in found.items() if span is not None}
    return ", ".join(f"{kind} {low:.3f} to {high:.3f}" for kind, (low, high) in known.items())


def mean_over(comparison: Sequence[Row], kinds: Sequence[str], figure: Figure) -> str:
    """Of how many hospitals the mean is, where it isn't of all that are shown; else empty. Of each
    kind of model, where their means are of different hospitals.

    >>> from wardround.common.figures.figure import BINARY
    >>> rows = [{"hospital": "a", "local": {"auc": 0.7}}, {"hospital": "b", "local": {"auc": None}}]
    >>> mean_over(rows, ["local"], BINARY[0])
    "the mean is of 1 of 2 hospitals: on the others' rows auc is undefined"
    """
    counts = {kind: len(own_figures(comparison, kind, figure)) for kind in kinds}
    known = max(counts.values(), default=0)
    shown = sum(row["hospital"] not in (MEAN, OVERALL) for row in comparison)
    undefined = f"on the others' rows {figure.name} is undefined"
    if not known or min(counts.values()) == shown:
        return ""
    if same_hospitals(comparison, kinds, figure):
        return f"the mean is of {known} of {shown} hospitals: {undefined}"
    of = ", ".join(f"{kind} of {count}" for kind, count in counts.items())
    return f"the means are of different hospitals, and don't compare ({of} of {shown}): {undefined}"


def same_hospitals(comparison: Sequence[Row], kinds: Sequence[str], figure: Figure) -> bool:
    """Whether all kinds of model have the figure at the same hospitals: then only do their means
    compare."""
    defined = {
        frozenset(
            row["hospital"]
            for row in comparison
            if row["hospital"] not in (MEAN, OVERALL)
            and is_number(row.get(kind, {}).get(figure.name))
        )
        for kind in kinds
    }
    return len(defined) == 1


def own_figures(comparison: Sequence[Row], kind: str, figure: Figure) -> list[float]:
    """The hospitals' own figures of one kind of model, where they are defined."""
    rows = [row for row in comparison if row["hospital"] not in (MEAN, OVERALL)]
    values = [row.get(kind, {}).get(figure.name) for row in rows]
    return [float(value) for value in values if is_number(value)]


def mean_interval(values: Sequence[float], share: bool = True) -> tuple[float, float] | None:
    """Student's interval of the mean of hospitals, as a sample of such; None of less than three.

    share : whether values that all lie from 0 to 1 can't lie elsewhere
    """
    if len(values) < _FEWEST:
        return None
    from scipy.special import stdtrit  # a tenth of a second to import, and only needed here

    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    reach = float(stdtrit(len(values) - 1, (1 + _LEVEL) / 2)) * deviation / math.sqrt(len(values))
    low, high = mean - reach, mean + reach
    if share and 0 <= min(values) and max(values) <= 1:
        return max(0.0, low), min(1.0, high)
    return low, high


def standing_row(comparison: Sequence[Row], figure: Figure, kinds: Sequence[str]) -> Row:
    """The row whose figures stand for the models: the hospitals' mean, or all rows together (also
    where no hospital has a figure of its own). Empty if there is none."""
    by_name = {row["hospital"]: row for row in comparison}
    row = by_name.get(figure.stands, {})
    if any(is_number(row.get(kind, {}).get(figure.name)) for kind in kinds):
        return row
    return by_name.get(OVERALL, {})
