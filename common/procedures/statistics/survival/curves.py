"""Survival curves of one group from counts by time.

Of a table with d events and c censored rows at a time, of n at risk (a row that is censored at a
time is at risk for the events at it):

    S(t)   = product over times up to t of 1 - d / n                    (Kaplan and Meier 1958)
    band   : log(-log S) +- z sqrt(sum of d / (n (n - d))) / log S      (Greenwood; log-log)
    H(t)   = sum of 1/n + 1/(n-1) + ... + 1/(n-d+1)                     (Nelson-Aalen, ties apart)
    RMST   = area below S up to a horizon; its variance is the sum of A(t)^2 d / (n (n - d)), A(t)
             the area from t to the horizon

Each is as lifelines has it, the variance of RMST as in R's survRM2 (lifelines gives that of the
times, not of their mean).

Shapes: J times, rising.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, polygamma, psi

Floats = NDArray[np.float64]
Z = float(ndtri(0.975))
"""Of 95 % intervals."""


@dataclass(frozen=True)
class LifeTable:
    """Counts of one group by time, each of shape (J,).

    times : in the column's unit, rising
    at_risk : n, rows under observation at a time, those that leave at it among them
    events, censored : d and c, rows that leave at it
    """

    times: Floats
    at_risk: Floats
    events: Floats
    censored: Floats

    @classmethod
    def of(cls, times: Floats, events: Floats, censored: Floats, entered: Floats) -> LifeTable:
        """entered : rows that come under observation at a time, for the events at it already; all
        of them in front of the first time where none comes later"""
        left = np.concatenate([[0.0], np.cumsum(events + censored)[:-1]])
        return cls(times, np.cumsum(entered) - left, events, censored)


@dataclass(frozen=True)
class Curve:
    """S at the times of a table, with its band, and the cumulative hazard with its own; shapes
    (J,). ``greenwood``: cumulative d / (n (n - d)), infinite from where S is 0."""

    times: Floats
    survival: Floats
    lower: Floats
    upper: Floats
    greenwood: Floats
    hazard: Floats
    hazard_lower: Floats
    hazard_upper: Floats

    def until(self, time: float) -> Curve:
        """Its part up to a time, which belongs to it."""
        end = int(np.searchsorted(self.times, time, side="right"))
        return Curve(*(getattr(self, one.name)[:end] for one in fields(self)))


def curve(table: LifeTable) -> Curve:
    """Kaplan-Meier and Nelson-Aalen of a table."""
    n, d = table.at_risk, table.events
    some = n > 0
    factor = np.where(some, 1.0 - d / np.where(some, n, 1.0), 1.0)
    survival = np.cumprod(factor, dtype=np.float64)
    with np.errstate(divide="ignore"):
        greenwood: Floats = np.cumsum(np.where(d > 0, d / np.where(d > 0, n * (n - d), 1.0), 0.0))
    lower, upper = band(survival, greenwood)
    hazard: Floats = np.cumsum(_reciprocals(n, d, 1))
    spread = np.sqrt(np.cumsum(_reciprocals(n, d, 2)))
    wide = Z * spread / np.where(hazard == 0, 1.0, hazard)
    return Curve(
        table.times,
        survival,
        lower,
        upper,
        greenwood,
        hazard,
        hazard * np.exp(-wide),
        hazard * np.exp(wide),
    )


def band(survival: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """95 % log-log limits of S with the variance of log S; S itself where it is 1 or 0, as in
    lifelines."""
    inside = (survival > 0) & (survival < 1)
    log = np.log(np.where(inside, survival, 0.5))
    wide = Z * np.sqrt(np.where(inside, variance, 0.0)) / log
    lower, upper = np.exp(log * np.exp(-wide)), np.exp(log * np.exp(wide))
    return np.where(inside, lower, survival), np.where(inside, upper, survival)


def quantile(times: Floats, survival: Floats, share: float = 0.5) -> float:
    """The first time at which S is at most ``share``; infinite where it never is."""
    reached = np.flatnonzero(survival <= share)
    return float(times[reached[0]]) if len(reached) else math.inf


def median(found: Curve) -> tuple[float, float, float]:
    """The median and where the band reaches 1/2: the limits of its 95 % interval."""
    ends = (found.lower, found.survival, found.upper)
    low, middle, high = (quantile(found.times, values) for values in ends)
    return middle, low, high


def at(found: Curve, time: float) -> float:
    """S at a time."""
    place = int(np.searchsorted(found.times, time, side="right"))
    return float(found.survival[place - 1]) if place else 1.0


def restricted_mean(table: LifeTable, horizon: float) -> tuple[float, float]:
    """RMST up to a horizon, and its standard error."""
    found = curve(table)
    within = found.times < horizon
    edges = np.concatenate([[0.0], found.times[within], [horizon]])
    heights = np.concatenate([[1.0], found.survival[within]])
    areas = heights * np.diff(edges)
    mean = float(areas.sum())
    later = areas[::-1].cumsum()[::-1][1:]  # from each time on
    n, d = table.at_risk[within], table.events[within]
    dying = (d > 0) & (n > d)  # where all die, nothing is left of the area
    ratio = np.where(dying, d / np.where(dying, n * (n - d), 1.0), 0.0)
    return mean, math.sqrt(float((later**2 * ratio).sum()))


def least(table: LifeTable, entered: Floats, moved: NDArray[np.bool_]) -> Floats:
    """Least that S can be at each time, (J,), if what some times have happened before them: all
    events after the censorings and before late entries. S itself is the most.

    entered : rows that came under observation late, by time, (J,)
    moved : the times that this is so of, (J,)
    """
    n, d = table.at_risk, table.events
    few = np.where(moved, np.maximum(n - table.censored - entered, d), n)
    factor = np.where(d > 0, 1.0 - d / np.maximum(few, 1.0), 1.0)
    return np.cumprod(factor, dtype=np.float64)


def area(times: Floats, values: Floats, horizon: float) -> float:
    """Up to a horizon below a curve that is 1 from 0 on, and from each time its value there."""
    within = times < horizon
    edges = np.concatenate([[0.0], times[within], [horizon]])
    return float((np.concatenate([[1.0], values[within]]) * np.diff(edges)).sum())


def _reciprocals(n: Floats, d: Floats, power: int) -> Floats:
    """Of each time the sum of 1 / (n - i)^power for i below d; by the polygamma functions, whose
    differences lose no more than the sum's last digits where d is small against n."""
    found = np.zeros(len(n))
    few = (d > 0) & (d <= 256)
    for place in np.flatnonzero(few):
        found[place] = (1.0 / (n[place] - np.arange(d[place])) ** power).sum()
    many = d > 256
    if many.any():
        high, low = n[many] + 1, n[many] - d[many] + 1
        found[many] = psi(high) - psi(low) if power == 1 else polygamma(1, low) - polygamma(1, high)
    return found
