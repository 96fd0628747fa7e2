"""Models side by side: the cells of a comparison's row, and how far a mean of hospitals may be off.

A comparison is a list of rows {hospital, local, federated, pooled}: a hospital's name, 'mean' or
'overall', and for each kind of model its figures by name.
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
    row: Row, kinds: Sequence[str], figure: Figure, text: Callable[[Any], str]
) -> list[tuple[str, bool]]:
    """The text of each kind's cell, with its error bound where that matters; whether it is best.

    Nothing is best in a row of which no model may be chosen (``Figure.may_star``).
    """
    parts = [row.get(kind, {}) for kind in kinds]
    values = [part.get(figure.name) for part in parts]
    may = figure.may_star(row["hospital"])
    stars = figure.stars(values) if may else [False] * len(values)
    texts = [
        with_bound(text(value), figure.bound_in(part) if is_number(value) else None)
        for value, part in zip(values, parts, strict=True)
    ]
    return list(zip(texts, stars, strict=True))


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


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's interval of the mean of hospitals, as a sample of such; None of less than three."""
    if len(values) < _FEWEST:
        return None
    from scipy.special import stdtrit  # a tenth of a second to import, and only needed here

    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    reach = float(stdtrit(len(values) - 1, (1 + _LEVEL) / 2)) * deviation / math.sqrt(len(values))
    low, high = mean - reach, mean + reach
    if 0 <= min(values) and max(values) <= 1:  # a share
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
