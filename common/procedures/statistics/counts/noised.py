"""Summaries and tables of whole numbers that noise can be added to.

Each row is in one cell of each column: a bin of its declared range (what lies beyond is its end's),
or a level, another one, or missing, in its group. So one row changes all cells of d columns by one
in d places, sqrt(d) (L2), and R rows of one patient by R times that. Nothing that is asked depends
on a row: ranges and levels are the settings'.

Every figure comes with what it may be off by: noise with a chance of 95 %, and half a bin's width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from wardround.common.procedures.spread import QUANTILES, Range
from wardround.common.procedures.statistics.frame import Floats, Ints
from wardround.common.procedures.statistics.result import Cell

BINS = 32
PLACES = BINS + 1
"""With the missing ones'."""
WITHIN = 1.96
"""Standard deviations that 95 % of a Gaussian stay within."""


def bins_of(ends: Sequence[float]) -> Range:
    """The bins of a declared range."""
    low, high = ends
    return Range(low, (high - low) / BINS, BINS)


def places(values: Floats, where: Range) -> Ints:
    """N places: bins, then missing."""
    found = np.clip(where.places(values), 1, BINS) - 1
    return np.where(np.isnan(values), BINS, found)


def interval(noise: float, cells: int = 1) -> int:
    """What a sum of so many noised counts may be off by."""
    return math.ceil(WITHIN * noise * math.sqrt(cells))


def figures(counts: Floats, where: Range, noise: float) -> dict[str, float]:
    """Mean and deviation of noised bins, and quantiles by 'q0.5'; each with its error as '... ±'.
    Empty where there may be none but noise."""
    total = float(counts.sum())
    if total <= 2 * interval(noise, BINS):
        return {}
    middles = where.low + (np.arange(BINS) + 0.5) * where.width
    mean = float(counts @ middles / total)
    squares = (middles - mean) ** 2
    variance = max(0.0, float(counts @ squares / total))
    half, deviation = where.width / 2, math.sqrt(variance)
    off = WITHIN * noise * math.sqrt(float(squares.sum())) / total + half
    of_variance = WITHIN * noise * math.sqrt(float(((squares - variance) ** 2).sum())) / total
    found = {
        "mean": mean,
        "mean ±": off,
        "sd": deviation,
        "sd ±": math.sqrt(variance + of_variance) - deviation + half,
    }
    reached = np.cumsum(counts)
    below = np.arange(1, BINS + 1)
    for p in QUANTILES:
        # of what lies below less p of all: the noise of cells below and of those above
        spread = WITHIN * noise * np.sqrt(below * (1 - p) ** 2 + (BINS - below) * p**2)
        first, last = (_crossed(reached + sign * spread, p * total) for sign in (1, -1))
        found[f"q{p:g}"] = where.low + (first + last + 1) / 2 * where.width
        found[f"q{p:g} ±"] = (last + 1 - first) / 2 * where.width
    return {key: float(f"{value:.6g}") for key, value in found.items()}


def _crossed(reached: Floats, target: float) -> int:
    """The first bin up to which there are so many."""
    there = np.flatnonzero(reached >= target)
    return int(there[0]) if len(there) else BINS - 1


def count(value: float) -> Cell:
    """A noised count as it is shown: noise may make it negative."""
    return int(round(value))
