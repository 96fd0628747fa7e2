"""What the outcome's holder knows of time: how much of the hazard each row was exposed to.

Cox's model with a hazard at each event's time needs sums over the rows at risk at each of these
times: between two, whoever reads them has sums over the few rows that left. Here the hazard has
one unknown factor for each of a few intervals of time, and within an interval the shape of the
Nelson-Aalen estimate over all rows, which the holder computes alone:

    row i is exposed to  E_ik = sum over event times t <= T_i in k of  events(t) / at risk(t)

With one interval for each event's time the model is Cox's with Breslow's ties; rows that have
their event at a time with ties are exposed to less of it, as Efron (1977) has it (``_increments``).
With twenty intervals coefficients of up to 1 a standard deviation are within 0.01 of Cox's with
Efron's (docs/vertical.md). Poisson regression is the same with one interval that every row is
exposed to by 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Exposure:
    """What rows are exposed to, by interval; n rows, K intervals.

    of : (n, K), from 0 to 1 in each interval: the hazard's unit is the interval's own
    events : (K,), how many events (of counts: their sum); none is 0
    """

    of: Floats
    events: Floats


def constant(counts: Floats) -> Exposure:
    """Of counts, shape (n,), each observed for the same time: one interval."""
    return Exposure(np.ones((len(counts), 1)), np.array([counts.sum()]))


def by_intervals(time: Floats, event: Floats, intervals: int, fewest: int) -> Exposure:
    """Of times until an event (1) or until a row was last seen without (0), shapes (n,).

    intervals : at most so many, about as many events in each
    fewest : events that each has at least, where there are so many at all
    """
    happened = event > 0
    times, tied = np.unique(time[happened], return_counts=True)
    at_risk = len(time) - np.searchsorted(np.sort(time), times, side="left")
    passed, own = _increments(at_risk, tied)
    interval = _intervals(tied, max(float(fewest), happened.sum() / intervals), fewest)
    count = int(interval[-1]) + 1
    until = np.concatenate(([0.0], np.cumsum(passed)))
    ends = np.concatenate(
        ([0.0], until[1:][np.searchsorted(interval, np.arange(count), "right") - 1])
    )
    seen = until[np.searchsorted(times, time, side="right")][:, None]
    exposed = np.clip(seen, ends[:-1], ends[1:]) - ends[:-1]
    place = np.searchsorted(times, time[happened])
    exposed[np.flatnonzero(happened), interval[place]] += (own - passed)[place]
    events = np.bincount(interval, weights=tied.astype(np.float64), minlength=count)
    return Exposure(np.maximum(exposed, 0.0) / (ends[1:] - ends[:-1]), np.asarray(events))


def _increments(at_risk: NDArray[np.int64], tied: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Of each event time with r at risk and c tied events: what a row that outlives it is exposed
    to, sum over l < c of 1 / (r - l), and what one of the c is: of (1 - l / c) / (r - l), since in
    some orders of the c it is one of the l that went before."""
    harmonic = np.concatenate(([0.0], np.cumsum(1.0 / np.arange(1, at_risk.max() + 1))))
    passed = harmonic[at_risk] - harmonic[at_risk - tied]
    return passed, 1.0 + passed * (1.0 - at_risk / tied)


def _intervals(tied: NDArray[np.int64], aimed: float, fewest: int) -> NDArray[np.int64]:
    """The interval of each event time: it ends as soon as it has ``aimed`` events. A last one with
    fewer than ``fewest`` joins the one before."""
    of = np.zeros(len(tied), np.int64)
    number, inside = 0, 0
    for place, count in enumerate(tied):
        if inside >= aimed:
            number, inside = number + 1, 0
        of[place] = number
        inside += int(count)
    if inside < fewest and number:
        of[of == number] = number - 1
    return of
