"""Poisson's and Cox's regression: the texts of party and dealer, from the columns to the answer.

What is opened, and to whom: docs/vertical.md. To all: variances of columns, the sum of all events,
of each interval of time the power of two below its rows' exposures, the slope at each point, and
the curvature at the first, where no column has an effect, and at the last. To the outcome's holder:
sums by interval. To one other party: the intervals' rotated sums.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wardround.common.errors import JointRefused
from wardround.common.vertical import search
from wardround.common.vertical.beginning import Known
from wardround.common.vertical.cells import deal_few, find_few
from wardround.common.vertical.coarse import SINGULAR, Coarse
from wardround.common.vertical.columns import (
    Columns,
    deal_columns,
    deal_sums,
    open_columns,
    sums,
)
from wardround.common.vertical.exposure import Exposure, by_intervals, constant
from wardround.common.vertical.fitted import Fitted
from wardround.common.vertical.hazard import (
    CURVATURE,
    Outcome,
    Side,
    curvature,
    deal_point,
    slope,
)
from wardround.common.vertical.moments import CELLS, kept_columns, pair_counts, two_valued_pairs
from wardround.common.vertical.plan import Plan
from wardround.common.vertical.precision import Precision, checked_factor, dithered
from wardround.common.vertical.ring import Reals, Words, decode, encode
from wardround.common.vertical.room import Bank, Seat, read, written

MODELS = ("poisson", "cox")
_SHORT, _CERTAIN = 1 / 16, 1 / 4
"""Of a standard error: a shorter step ends the search, as sums aren't opened for more; a longer one
says something of the curvature."""
_MOST_EVENTS = 16
"""For each person: of more events slopes are opened no more exactly."""


@dataclass(frozen=True)
class _Start:
    """What is known before the first point.

    own : this party's columns as they were rounded, (own columns, n)
    variances : of the columns that are kept, (K,)
    events : the sum of all
    points : the most at which a slope may be opened
    """

    side: Side
    own: Reals
    variances: Reals
    events: float
    points: int

    def predictor(self, point: Reals) -> Reals:
        """This party's part of the linear predictor at coefficients of the kept columns, (n,)."""
        columns = self.side.columns
        mine = (self.side.kept >= columns.own.start) & (self.side.kept < columns.own.stop)
        found: Reals = point[mine] @ self.own[self.side.kept[mine] - columns.own.start]
        return found

    def factor(self, point: Reals) -> Reals:
        """exp of it, less its mean. Raises JointRefused where it leaves the range."""
        found = self.predictor(point)
        return checked_factor(found - found.mean(), len(self.side.seat.table.parties))


def most_steps(plan: Plan) -> int:
    """Of ``regress``."""
    parties = len(plan.parties)
    return 7 + plan.options.iterations * (parties + 4) + 2 * (parties + 8)


def regress(seat: Seat, known: Known, values: Reals, outcome: Reals | None) -> Any:
    """A party's text. Gives ``Fitted``. Raises JointRefused.

    outcome : counts, (1, n), or time and event, (2, n); at the holder
    """
    options, memory = known.plan.options, seat.memory
    start = yield from _begun(seat, known, values, outcome)
    side, events = start.side, start.events
    penalty = options.ridge * known.persons / events * start.variances
    point, at, least = np.zeros(len(penalty)), None, _CERTAIN**2 / events
    begun = yield from memory.once("0", curvature(side, "0", start.factor(point)))
    inverse = search.inverse(begun["curvature"] + np.diag(penalty), SINGULAR)
    for number in range(1, start.points + 1):
        name = str(number)
        here = yield from memory.once(name, slope(side, name, start.factor(point)))
        now = here["slope"] - penalty * point
        at = search.Search.begun(now, inverse) if at is None else at.next(now, least)
        point = at.point
        errors = np.sqrt(np.maximum(np.diagonal(at.inverse), 0.0) / events)
        if (np.abs(at.step) < np.maximum(options.tolerance / 10, errors * _SHORT)).all():
            break
    else:
        raise JointRefused(
            "the search has no end: an input may tell the outcome by itself; raise "
            "procedure.ridge, or procedure.iterations"
        )
    name = str(number + 1)
    ended = yield from memory.once(name, curvature(side, name, start.factor(point)))
    inverse = search.inverse(ended["curvature"] + np.diag(penalty), SINGULAR)
    spread = search.multiplied(search.multiplied(inverse, ended["curvature"]), inverse)
    errors = np.sqrt(np.maximum(np.diagonal(spread), 0.0) / events)
    intercept = None
    if options.model == "poisson":
        intercept = yield from _intercept(start, point, ended.get("rates"))
    figures = {"events": events}
    if options.model == "cox":
        figures["intervals"] = float(side.exposures.count)
    return Fitted(side.kept, point, errors, intercept, number, figures)


def _begun(seat: Seat, known: Known, values: Reals, outcome: Reals | None) -> Any:
    """Steps that open columns and exposures under their masks. Gives ``_Start``."""
    plan, persons, memory = known.plan, known.persons, seat.memory
    precision = Precision.of(seat.rows, len(plan.parties))
    words = _padded(encode(values, precision.column), seat.rows)
    columns, dealt = yield from open_columns(seat, words, known.counts)
    exposure = None if outcome is None else _exposure(plan, outcome)
    told = yield from memory.once("told", _told(seat, known, values, exposure))
    tested = _kept(seat, known, columns, dealt, outcome, precision.column)
    found = yield from memory.once("kept", tested)
    kept, powers, events = found["kept"], told["powers"], float(told["events"][0])
    exact = Coarse(persons, min(events, _MOST_EVENTS * persons), len(powers))
    ends = np.cumsum([0, *known.counts])
    points = exact.points(np.diff(np.searchsorted(kept, ends)).tolist(), plan.options.iterations)
    held, mine = np.zeros((0, seat.rows), np.uint64), None
    if exposure is not None and outcome is not None:
        words = dithered(exposure.of.T, precision.exposure, seat.secret, "exposures")
        rounded = Exposure(decode(words, precision.exposure).T, exposure.events)
        mine = Outcome(rounded, outcome[-1] * (persons / events))
        held = _padded(words, seat.rows)
    counts = [len(powers) * (place == plan.position) for place in range(len(plan.parties))]
    exposures, _ = yield from open_columns(seat, held, counts, "exposures")
    side = Side(
        seat, columns, kept, exposures, precision, exact, powers - exact.interval_bits,
        plan.position, persons, mine,
    )  # fmt: skip
    own = decode(_padded(encode(values, precision.column), persons), precision.column)
    return _Start(side, own, told["variances"][kept], events, points)


def _padded(words: Words, rows: int) -> Words:
    found = np.zeros((len(words), rows), np.uint64)
    found[:, : words.shape[1]] = words
    return found


def _exposure(plan: Plan, outcome: Reals) -> Exposure:
    """Of an outcome as ``regress`` has it."""
    if plan.options.model == "poisson":
        return constant(outcome[0])
    time, event = outcome
    return by_intervals(time, event, plan.options.intervals, plan.options.smallest_cell)


def _told(seat: Seat, known: Known, values: Reals, exposure: Exposure | None) -> Any:
    """A step in which parties say the variances of their columns, and the outcome's holder the sum
    of events and of each interval the power of two below the sum of its exposures (-1: there is no
    such interval). The dealer gets the numbers of intervals and of counts that are tested."""
    plan = known.plan
    most = _most_intervals(plan)
    mine, intervals = values.var(axis=1), 0
    if exposure is not None:
        intervals = len(exposure.events)
        powers = np.full(most, -1.0)
        powers[:intervals] = np.floor(np.log2(np.maximum(exposure.of.sum(axis=0), 1.0)))
        mine = np.concatenate([mine, powers, [exposure.events.sum()]])
    tested = CELLS * len(two_valued_pairs(known, outcome=True))
    note = written(np.array([intervals, tested], np.uint64))
    sizes = [n + (1 + most) * (place == plan.position) for place, n in enumerate(known.counts)]
    parts, _ = yield from seat.exchange(mine, sizes=sizes, note=note)
    told = parts[plan.position][known.counts[plan.position] :]
    powers = told[:-1][told[:-1] >= 0]
    fewest = plan.options.smallest_cell  # persons with an event, so events: else it had refused
    if not (fewest <= told[-1] < np.inf and len(powers) and powers.max() <= np.log2(known.persons)):
        raise JointRefused("the outcome's holder told events or intervals that can't be")
    variances = [part[:count] for part, count in zip(parts, known.counts, strict=True)]
    return {
        "variances": np.concatenate(variances),
        "events": told[-1:],
        "powers": powers.astype(np.int64),
    }


def _kept(
    seat: Seat,
    known: Known,
    columns: Columns,
    dealt: Words | None,
    outcome: Reals | None,
    bits: int,
) -> Any:
    """Steps that test the counts of persons who have two two-valued inputs, or one and an event,
    which the first curvature and slope would show. Gives {"kept": inputs without small ones}."""
    gram = np.zeros((columns.count + 1, columns.count + 1), np.uint64)
    gram[1:, 1:] = columns.gram(seat, dealt, "columns")
    if seat.first:
        gram[0, 0] = known.persons * 4**bits
    events, number = np.zeros(seat.rows, np.uint64), np.zeros(1, np.uint64)
    if outcome is not None:
        events[: known.persons] = encode((outcome[-1] > 0).astype(np.float64), bits)
        number = (events >> np.uint64(bits)).sum(dtype=np.uint64, keepdims=True) * np.uint64(
            4**bits
        )
    cross = yield from sums(seat, columns, events, number, "events")
    pairs = two_valued_pairs(known, outcome=True)
    counts = np.zeros(0, np.uint64)
    if pairs:
        counts = pair_counts(gram, np.concatenate([cross[-1:], cross[:-1]]), pairs)
    smallest = known.plan.options.smallest_cell
    few = yield from find_few(seat, counts, 4**bits, smallest, "cells")
    kept = kept_columns(columns.count + 1, pairs, few.reshape(len(pairs), CELLS).any(axis=1))
    if len(kept) < 2:
        raise JointRefused("no input is left: counts with others have too few persons")
    return {"kept": np.array(kept[1:]) - 1}


def _intercept(start: _Start, point: Reals, rates: Reals | None) -> Any:
    """A step in which each party tells the mean of its part of the linear predictor; with it the
    outcome's holder adds the logarithm of its rate."""
    side, mine = start.side, -start.predictor(point).mean()
    if rates is not None:
        mine += math.log(rates[0] * start.events / side.rows)
    parts, _ = yield from side.seat.exchange(np.array([mine]))
    return math.fsum(float(part[0]) for part in parts)


def _most_intervals(plan: Plan) -> int:
    return plan.options.intervals if plan.options.model == "cox" else 1


def deal_regress(bank: Bank, plan: Plan, counts: Sequence[int], secret: bytes) -> Any:
    """The dealer's text. counts : of columns at each party; secret : its own."""
    masks = yield from deal_columns(bank, counts)
    letters = yield from bank.give()
    intervals, _ = read(letters, plan.holder, 2)
    _, tested = read(letters, bank.table.parties[0], 2)
    if not 1 <= intervals <= _most_intervals(plan) or tested > CELLS * (sum(counts) + 1) ** 2:
        raise JointRefused("a party asks for more than the plan has")
    yield from deal_sums(bank, masks, 1, "events")
    yield from deal_few(bank, secret, int(tested), plan.options.smallest_cell, "cells")
    held = [int(intervals) * (place == plan.position) for place in range(len(counts))]
    exposures = yield from deal_columns(bank, held, "exposures")
    for number in itertools.count():
        name = str(number)
        point = deal_point(bank, name, plan.position, masks, exposures)
        asked = (yield from bank.memory.once(name, point))["asked"].tobytes()
        if number and asked == CURVATURE:
            break
    if plan.options.model == "poisson":
        yield from bank.give()
