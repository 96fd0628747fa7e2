"""Curves as columns: B-splines, natural cubic splines, and where their knots lie.

B-splines are de Boor's (patsy's and formulaic's ``bs``, with the same bounds); beyond the bounds
the outermost polynomials go on, so that bounds change columns and coefficients, but no fitted
value. Natural splines are Harrell's restricted ones (Regression Modeling Strategies, 2.4.5): the
number itself, then a column for each knot but two; R's ``ns`` and patsy's ``cr`` are other columns
of the same curves.

Knots that aren't given are quantiles of a histogram over all hospitals, rounded to a hundredth of
the deviation: any knots are right ones, and rounded ones tell of nobody.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from wardround.common.procedures.statistics.regression.factors import Spline

Floats = NDArray[np.float64]
BINS = 100
_REACH = 4.0
"""The histogram's ends, in deviations from the mean."""
_BOUND, _BEYOND = 2.5, 0.5
"""Bounds, in deviations from the mean, and at least so far beyond the outer knots."""
_OUTER = 0.05
"""Outer knots of natural splines: this quantile and its opposite."""


def b_splines(values_N: Floats, knots: Sequence[float], degree: int) -> Floats:
    """N x (knots + degree - 2): the basis without its first column, which the intercept stands for.

    knots : with the bounds as first and last
    """
    ends = [knots[0]] * degree, [knots[-1]] * degree
    whole = np.concatenate([ends[0], knots, ends[1]])
    basis = BSpline(whole, np.eye(len(whole) - degree - 1), degree, extrapolate=True)
    found: Floats = np.asarray(basis(values_N), dtype=np.float64)[:, 1:]
    return found


def natural_splines(values_N: Floats, knots: Sequence[float]) -> Floats:
    """N x (knots - 1)."""
    *inner, before, last = knots
    span = last - knots[0]

    def cube(knot: float) -> Floats:
        found: Floats = np.maximum(values_N - knot, 0.0) ** 3
        return found

    columns = [values_N]
    for knot in inner:
        here = cube(knot) - cube(before) * (last - knot) / (last - before)
        columns.append((here + cube(last) * (before - knot) / (last - before)) / span**2)
    return np.column_stack(columns)


def knots_of(spline: Spline, mean: float, deviation: float, counts: Floats | None) -> list[float]:
    """All knots, with the bounds of 'bs'; fewer than asked for where quantiles fall together.

    mean, deviation : of all hospitals' rows
    counts : of ``histogram``; None where knots are given
    """
    knots = list(spline.knots)
    if counts is not None:
        knots = _quantiles(spline, mean, deviation, counts)
    if spline.kind == "ns":
        return knots
    if spline.bounds is not None:
        return [
            spline.bounds[0],
            *(k for k in knots if _within(k, spline.bounds)),
            spline.bounds[1],
        ]
    low, high = mean - _BOUND * deviation, mean + _BOUND * deviation
    if knots:
        low = min(low, knots[0] - _BEYOND * deviation)
        high = max(high, knots[-1] + _BEYOND * deviation)
    return [_round(low, deviation), *knots, _round(high, deviation)]


def histogram(values: Floats, mean: float, deviation: float) -> Floats:
    """How many values are in each of ``BINS``; those beyond the ends are in the last ones."""
    where = (values - (mean - _REACH * deviation)) / (2 * _REACH * deviation / BINS)
    places = np.clip(where, 0, BINS - 1).astype(np.int64)
    return np.bincount(places, minlength=BINS).astype(np.float64)


def _quantiles(spline: Spline, mean: float, deviation: float, counts: Floats) -> list[float]:
    if spline.kind == "ns":
        shares = np.linspace(_OUTER, 1 - _OUTER, spline.df + 1)
    else:
        shares = np.linspace(0, 1, spline.df - spline.degree + 2)[1:-1]
    below = np.concatenate([[0.0], np.cumsum(counts)]) / max(1.0, counts.sum())
    edges = mean + np.linspace(-_REACH, _REACH, BINS + 1) * deviation
    found = np.interp(shares, below, edges)
    return sorted({_round(float(one), deviation) for one in found})


def _round(value: float, deviation: float) -> float:
    """To a power of ten of about a hundredth of the deviation."""
    grain = math.floor(math.log10(deviation / 100)) if deviation > 0 else 0
    return float(round(value, -grain))


def _within(knot: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] < knot < bounds[1]
