"""Cox's partial likelihood from sums over risk sets (Cox 1972, Breslow 1974, Efron 1977).

At an event time with d events, of all rows at risk and of the d rows the sums of w, w z and w z z'
are R and E, with w = exp(z b). With Efron's ties the likelihood has a factor for each l < d,

    log phi_l = log(R_w - l/d E_w),   e_l = (R_wz - l/d E_wz) / phi_l

its slope is the sum of z over events less that of e_l, its information that of
(R_wzz - l/d E_wzz) / phi_l - e_l e_l'. With Breslow's l is 0 d times. So R, and E where d > 1, are
all that is needed, and they add over hospitals; of a hospital by itself the slope and information
do.

What hospitals and server must work out alike adds up from first to last, as ``solve.py`` does.

Shapes: N rows of a hospital, P columns, K event times, S = 1 + P + P (P + 1) / 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MOST_EVENTS = 10**8
BLOCK = 2**21
"""Numbers of rows, or of factors, that are worked on at a time."""


@dataclass(frozen=True)
class Times:
    """Times of the grid at which risk sets are summed.

    ends : K, numbers of the grid, rising
    events : K, how many rows have an event since the end before
    merged : whether all that happened since the end before counts at an end
    """

    ends: Floats
    events: Floats
    merged: bool = False

    @classmethod
    def of(cls, events: Floats, people: Floats, least: int) -> Times:
        """Of events by time: those with any, or where ``least`` is not 0 runs that end when so many
        people had one; the last run goes to the last event. Raises TaskError."""
        there = np.flatnonzero(events > 0)
        if not 0 < events.sum() <= MOST_EVENTS or not np.isfinite(people).all():
            raise TaskError("sums of events by time that no rows have")
        if not least:
            return cls(there.astype(np.float64), events[there])
        ends, so_far = list[int](), 0.0
        for place in there.tolist():
            so_far += float(people[place])
            if so_far >= least:
                ends.append(place)
                so_far = 0.0
        if so_far or (ends and ends[-1] != there[-1]):
            ends[-1:] = [int(there[-1])]
        starts = [0, *(end + 1 for end in ends[:-1])]
        return cls(np.array(ends, np.float64), np.add.reduceat(events, starts), True)

    def ends_of(self, places: Ints) -> Floats:
        """Of each number of the grid the one that it counts at: itself behind the last end."""
        if not self.merged:
            return places.astype(np.float64)
        after = np.searchsorted(self.ends, places)
        found = self.ends[np.minimum(after, len(self.ends) - 1)]
        return np.where(after < len(self.ends), found, places)


@dataclass(frozen=True)
class Spans:
    """Where rows are at risk.

    first, last : N, numbers of the first and the last event time at which a row is; ``last`` of an
        event is its own time
    event : N, 1 or 0
    """

    first: Ints
    last: Ints
    event: Floats

    @classmethod
    def of(cls, times: Floats, start: Floats, stop: Floats, event: Floats) -> Spans:
        """Of rows that are at risk after ``start`` up to ``stop``; before ``times[0]`` where
        ``start`` is below 0. ``times``: K, rising."""
        first = np.searchsorted(times, start, side="right")
        last = np.searchsorted(times, stop, side="right") - 1
        return cls(first.astype(np.int64), last.astype(np.int64), event)


def width(columns: int) -> int:
    """S."""
    return 1 + columns + columns * (columns + 1) // 2


def risk_sums(z: Floats, at: Floats, spans: Spans, count: int) -> tuple[Floats, Floats]:
    """R and E at each of K event times, K x S. ``at``: b."""
    size = width(z.shape[1])
    leaving, coming, tied = (np.zeros((count + 1, size)) for _ in range(3))
    block = max(1, BLOCK // size)
    for begin in range(0, len(z), block):
        part = slice(begin, begin + block)
        terms = _terms(z[part], at)
        first, last, event = spans.first[part], spans.last[part], spans.event[part]
        there = first <= last  # others are at risk between event times only
        _add(leaving, last[there], terms[there])
        late = there & (first > 0)
        _add(coming, first[late] - 1, terms[late])
        _add(tied, last[event == 1], terms[event == 1])
    risk = (leaving[::-1].cumsum(0) - coming[::-1].cumsum(0))[::-1][:count]
    return risk, tied[:count]


def _terms(z: Floats, at: Floats) -> Floats:
    rows, cols = np.triu_indices(z.shape[1])
    w = np.exp(z @ at)
    return np.column_stack([w, w[:, None] * z, w[:, None] * z[:, rows] * z[:, cols]])


def _add(target: Floats, places: Ints, values: Floats) -> None:
    """Rows of values to rows of the target, those of one place from first to last."""
    if not len(places):
        return
    order = np.argsort(places, kind="stable")
    starts = np.flatnonzero(np.diff(places[order], prepend=-1))
    target[places[order][starts]] += np.add.reduceat(values[order], starts, axis=0)


@dataclass(frozen=True)
class Parts:
    """At each event time, summed over its d factors.

    logs : K, of log phi
    means : K x P, of e
    information : over all times, its upper triangle
    """

    logs: Floats
    means: Floats
    information: Floats


def parts(risk: Floats, tied: Floats, events: Floats, columns: int, efron: bool) -> Parts:
    """Of R and E. ``events``: d, K, at least 1 each. ``tied``: read where d > 1."""
    whole, count = events.astype(np.int64), len(events)
    pairs = columns * (columns + 1) // 2
    found = Parts(np.zeros(count), np.zeros((count, columns)), np.zeros(pairs))
    each = np.maximum(whole, 1) if efron else np.ones(count, np.int64)
    block = np.cumsum(each) // max(1, BLOCK // risk.shape[1])
    for number in np.unique(block):
        part = np.flatnonzero(block == number)
        place = np.repeat(part, each[part])
        step = np.arange(len(place)) - np.repeat(np.cumsum(each[part]) - each[part], each[part])
        share = step / each[place]
        times = np.ones(len(place)) if efron else events[place]
        _block(found, risk, tied, place, share, times)
    return found


def _block(
    found: Parts, risk: Floats, tied: Floats, place: Ints, share: Floats, times: Floats
) -> None:
    columns = found.means.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):  # of totals that no rows have
        rest = risk[place] - share[:, None] * tied[place]
        phi = rest[:, 0]
        mean = rest[:, 1 : columns + 1] / phi[:, None]
        rows, cols = np.triu_indices(columns)
        half = rest[:, columns + 1 :] / phi[:, None] - mean[:, rows] * mean[:, cols]
        logs = np.log(phi)
    np.add.at(found.logs, place, logs * times)
    np.add.at(found.means, place, mean * times[:, None])
    found.information[:] += np.add.accumulate(half * times[:, None], axis=0)[-1]


def point(found: Parts, covered: Floats, at: Floats) -> Sums:
    """Likelihood, slope and curvature at b, as ``newton.search`` takes them. ``covered``: the sum
    of z over all events."""
    likelihood = _total(covered * at) - _total(found.logs)
    return {
        "fit": np.array([likelihood, 0.0]),
        "slope": covered - np.add.accumulate(found.means, axis=0)[-1],
        "curvature": found.information,
    }


def own_parts(
    z: Floats, at: Floats, times: Floats, spans: Spans, efron: bool
) -> tuple[Parts, Floats]:
    """A hospital's own, at its event times, and its events at each."""
    risk, tied = risk_sums(z, at, spans, len(times))
    events = np.bincount(spans.last[spans.event == 1], minlength=len(times)).astype(np.float64)
    return parts(risk, tied, events, z.shape[1], efron), events


def _total(values: Floats) -> float:
    return float(np.add.accumulate(values)[-1]) if len(values) else 0.0
