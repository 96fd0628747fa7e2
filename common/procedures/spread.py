"""Where a column's quantiles lie, by histograms over all hospitals.

Numpy's p-quantile of n numbers lies between the values of the ranks r = floor(p (n - 1)) and r + 1
(from 0). At least r + 1 > p (n - 1) values are at or below the first, so by Cantelli's inequality
it is no further below the mean than std sqrt((1 - p) / p), and the second no further above than
std sqrt(p / (1 - p)). From 5 % to 95 % both lie within mean +- sqrt(19) std: the first histogram's
range, whatever the distribution. A quantile is a mean of these two values, so it lies in the bins
from the one's to the other's: within half their width of their middle.

Where a few far values have made the bins too wide for that, another histogram covers only what lies
between the bins of the outer quantiles: a thousandth of the range, or less.

Bins are so fine that few persons are in each. What is published of a quantile is an interval of
bins that holds as many persons as a shown count must have, so its error is wider where they are
few, and it is stated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.figures.sums import Sums

Floats = NDArray[np.float64]
BINS = 1024
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_REACH = math.sqrt(19.0) * (1 + 1e-9)
_FINE_ENOUGH = 0.01
"""Half a bin's width over the distance of the outer quantiles."""
CONSTANT = 1e-12
"""A deviation, or a bin's width, below so much of a value is its rounding."""


@dataclass(frozen=True)
class Range:
    """Where the bins of a histogram are: ``bins`` of equal ``width`` from ``low`` on."""

    low: float
    width: float
    bins: int = BINS

    @classmethod
    def covering(cls, low: float, high: float) -> Range:
        """Bins whose width has three digits, and whose edges are its multiples: so a sum's last
        digits, which masks leave otherwise than a plain addition, shape no bin.

        >>> Range.covering(-0.5, 100.0)
        Range(low=-0.5898, width=0.0983, bins=1024)
        """
        raw = (high - low) / (BINS - 1)
        unit = 10.0 ** (math.floor(math.log10(raw)) - 2)
        width = float(f"{math.ceil(raw / unit) * unit:.3g}")
        return cls(float(f"{math.floor(low / width) * width:.15g}"), width)

    @property
    def high(self) -> float:
        """The upper end of the last bin."""
        return self.low + self.bins * self.width

    def places(self, values: Floats) -> NDArray[np.int64]:
        """For each value 0 below the range, 1 to ``bins`` within, ``bins`` + 1 above; -1 for NaN.
        The upper end belongs to the last bin."""
        scaled = np.floor((values - self.low) / self.width)
        found = np.where(np.isnan(values), -2, np.clip(scaled, -1, self.bins)).astype(np.int64)
        found[(found >= self.bins) & (values <= self.high)] = self.bins - 1
        return found + 1


def first_range(mean: float, std: float) -> Range | None:
    """The range that holds the quantiles; None of a constant column."""
    if not (math.isfinite(mean) and math.isfinite(std)) or std <= CONSTANT * abs(mean) or std == 0:
        return None
    return Range.covering(mean - _REACH * std, mean + _REACH * std)


def next_range(now: Range, rows: Floats) -> Range | None:
    """Where a finer histogram is asked for; None where this one is fine enough, or as fine as
    numbers are. ``rows``: counts of its places."""
    lowest, highest = _bins_of(rows, QUANTILES[0]), _bins_of(rows, QUANTILES[-1])
    if lowest is None or highest is None:
        return None
    first, last = lowest[0], highest[1]
    outer = now.width * (last - first)
    if now.width / 2 <= _FINE_ENOUGH * outer:
        return None
    low, high = now.low + first * now.width, now.low + (last + 1) * now.width
    closer = Range.covering(low, high)
    if closer.width <= CONSTANT * max(abs(low), abs(high)) or high - low > (now.high - now.low) / 2:
        return None
    return closer


def quantiles(now: Range, rows: Floats, persons: Floats, all_persons: float, least: int) -> Sums:
    """Quantiles that may be shown, by p: each value and its error, shape (2,).

    Parameters
    ----------
    rows, persons : counts of the places of ``now``; a person counts in one place only
    all_persons : who has a value in the column at all
    least : fewest persons that an interval, and each side of a quantile, must have
    """
    found: Sums = {}
    for p in QUANTILES:
        if min(p, 1 - p) * all_persons < least or (bins := _bins_of(rows, p)) is None:
            continue
        if (block := _block(bins, persons[1:-1], least)) is None:
            continue
        first, last = block
        middle = now.low + (first + last + 1) / 2 * now.width
        found[f"{p:g}"] = np.array([middle, (last + 1 - first) / 2 * now.width])
    return found


def _bins_of(rows: Floats, p: float) -> tuple[int, int] | None:
    """The bins (from 0) that the values of both ranks are in; None where one is outside."""
    place = p * (rows.sum() - 1)
    reached = np.cumsum(rows)
    found = []
    for rank in (math.floor(place), math.ceil(place)):
        bin_ = int(np.searchsorted(reached, rank + 0.5)) - 1
        if not 0 <= bin_ < len(rows) - 2:
            return None
        found.append(bin_)
    return found[0], found[1]


def _block(bins: tuple[int, int], persons: Floats, least: int) -> tuple[int, int] | None:
    """The bins from one to the other, and around them, that hold enough persons; None where all of
    them don't."""
    for reach in range(len(persons)):
        first, last = max(0, bins[0] - reach), min(len(persons) - 1, bins[1] + reach)
        if persons[first : last + 1].sum() >= least:
            return first, last
    return None
