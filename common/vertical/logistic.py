"""Logistic regression: the gradient is opened at each point, the curvature once, at the last.

sigma(eta) - 1/2 is a sum of ten sines of period 40, found by least squares on [-10, 10] (the sum is
symmetric about 10, so that it is smooth there). Its error is at most 3.2e-5 for |eta| <= 10, 9e-4
for 13, and beyond about 15 it comes down again: a person so certain counts as a less certain one,
and never as an outlier. Its derivative is the weight of the curvature, its integral the loss: all
three are of the same opening. The search begins where no input has an effect, with the sums that
``moments`` opens as its first gradient and curvature.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wardround.common.errors import JointRefused
from wardround.common.vertical import coarse, search
from wardround.common.vertical.beginning import Known
from wardround.common.vertical.coarse import SINGULAR
from wardround.common.vertical.columns import deal_sums, deal_weighted_gram, sums, weighted_gram
from wardround.common.vertical.fitted import Fitted
from wardround.common.vertical.harmonics import Harmonics, Wave, deal_waves, open_eta
from wardround.common.vertical.moments import Moments, deal_moments, moments
from wardround.common.vertical.plan import Plan
from wardround.common.vertical.ring import Reals, encode, fraction_bits
from wardround.common.vertical.room import Bank, Seat

REACH = 10.0
HARMONICS = Harmonics(4 * REACH, tuple(range(1, 20, 2)))
_SINES = (
    0.6115057787,
    0.1507644886,
    0.0536761447,
    0.0198753129,
    0.0074058717,
    0.0027564885,
    0.0010299547,
    0.0003818293,
    0.0001439455,
    0.0000523154,
)
_SPEEDS = tuple(multiple * 2 * math.pi / HARMONICS.period for multiple in HARMONICS.multiples)
_NONE = (0.0,) * len(_SINES)
SIGMA = Wave(0.5, _NONE, _SINES)
WEIGHT = Wave(0.0, tuple(s * w for s, w in zip(_SINES, _SPEEDS, strict=True)), _NONE)
LOSS = Wave(5.0000452, tuple(-s / w for s, w in zip(_SINES, _SPEEDS, strict=True)), _NONE)
"""log(2 cosh(eta / 2)): log(1 + exp(eta)) less eta / 2."""
_ON, _LAST = b"\0", b"\1"
_FINER, _CURVATURE = 8, 10
"""Sums are told to 2^-8 of a deviation of the outcomes' sum, curvatures to 2^-10 of its square:
``coarse`` says why."""
_SETTLED, _LONGEST = 10, 0.25
"""The last step by the curvature may change a coefficient by that times the tolerance, or by half a
standard error where that is less than ``_LONGEST``: without end, steps are of about 1."""


def regress(seat: Seat, known: Known, values: Reals, outcome: Reals | None) -> Any:
    """A party's text. outcome : 0 and 1. Gives ``Fitted``. Raises JointRefused."""
    options = known.plan.options
    found = yield from moments(seat, known, values, outcome, two_valued=True)
    mean = float(found.cross[0])
    if not 0 < mean < 1:
        raise JointRefused("the outcome is the same of all linked persons")
    begun = np.zeros(len(found.cross))
    begun[0] = round(math.log(mean / (1 - mean)), 9)
    penalty = options.ridge * found.variances
    inverse = search.inverse(mean * (1 - mean) * found.gram + np.diag(penalty), SINGULAR)
    at = search.Search.begun(found.cross - mean * found.gram[0], inverse)
    # below this, steps are of what sums are rounded to
    shortest = max(options.tolerance, 1 / (32 * math.sqrt(known.persons * mean * (1 - mean))))
    limit = known.plan.points(known.persons, len(begun) - 1)
    for number in range(1, limit + 1):
        point = begun + at.point
        last = bool(np.abs(at.step).max() < shortest) or number == limit
        here = yield from seat.memory.once(
            f"point {number}", _opened(seat, known, found, outcome, point, last, str(number))
        )
        slope = here["slope"] - penalty * point
        if last:
            break
        at = at.next(slope)
    inverse, step = _last_step(here["curvature"] + np.diag(penalty), slope, shortest, known.persons)
    told = _figures(known, found, point, float(here["loss"][0]), search.dot(step, slope), mean)
    spread = search.multiplied(search.multiplied(inverse, here["curvature"]), inverse)
    errors = np.sqrt(np.maximum(np.diagonal(spread), 0.0) / known.persons)
    point = point + step
    kept = found.kept[1:] - 1
    return Fitted(kept, point[1:], errors[1:], float(point[0]), number, told)


def _last_step(
    curvature: Reals, slope: Reals, tolerance: float, persons: int
) -> tuple[Reals, Reals]:
    """(the curvature's inverse, the last step). Raises JointRefused where the search had no end."""
    endless = (
        "the search has no end: an input may tell the outcome by itself; raise procedure.ridge, or "
        "procedure.iterations"
    )
    try:
        inverse = search.inverse(curvature, SINGULAR)
    except JointRefused:
        raise JointRefused(endless) from None
    step = search.applied(inverse, slope)
    errors = np.sqrt(np.maximum(np.diagonal(inverse), 0.0) / persons)
    if (np.abs(step) > np.maximum(_SETTLED * tolerance, np.minimum(errors / 2, _LONGEST))).any():
        raise JointRefused(endless)
    return inverse, step


def _figures(
    known: Known, found: Moments, point: Reals, loss: float, gain: float, mean: float
) -> dict[str, float]:
    """Of the model after its last step, by the quadratic of the curvature."""
    eta, joint = search.dot(point, found.gram[0]), search.dot(point, found.cross)
    deviance = 2 * known.persons * (loss + eta / 2 - joint - gain / 2)
    null = -2 * known.persons * (mean * math.log(mean) + (1 - mean) * math.log(1 - mean))
    return {"deviance": deviance, "null_deviance": null}


def _opened(
    seat: Seat,
    known: Known,
    found: Moments,
    outcome: Reals | None,
    point: Reals,
    last: bool,
    label: str,
) -> Any:
    """The steps at one point. Gives {"slope": (K,)}, and at the last {"loss", "curvature"}: means
    over persons."""
    persons, (column, row) = known.persons, fraction_bits(seat.rows)
    places, own = found.mine
    eta = np.zeros(seat.rows)
    for place, mine in zip(places, own, strict=True):
        eta[:persons] += point[place] * found.own[mine]
    opened = yield from open_eta(seat, HARMONICS, label, eta, row, _LAST if last else _ON)
    waves = [SIGMA, WEIGHT, LOSS] if last else [SIGMA]
    sigma, *others = opened.shares(waves)
    rest = np.zeros(seat.rows, np.uint64) - sigma
    if outcome is not None:
        rest[:persons] += encode(outcome, row)
    extra = np.array([others[1][:persons].sum(dtype=np.uint64)] if last else [], np.uint64)
    share = yield from sums(seat, found.columns, rest, extra, f"{label} slope")
    share = np.concatenate([share[found.kept], share[found.columns.count :]])
    size, parties, bits = len(found.kept), len(seat.table.parties), column + row
    spread = math.log2(persons * float(found.cross[0] * (1 - found.cross[0])))
    units = np.full(len(share), math.floor(spread / 2) - _FINER)
    units[size:] = -_FINER - column  # the loss, which has fewer bits by these
    (words,), _ = yield from seat.opened(coarse.cleared(share, units, bits))
    means = coarse.opened(words, units, bits, parties) / persons
    values = {"slope": means[:size]}
    if last:
        values["loss"] = means[size:] * 2.0**column
        full = yield from weighted_gram(seat, found.columns, others[0], f"{label} curvature")
        rows, columns = np.triu_indices(size)
        share, unit = full[found.kept[rows], found.kept[columns]], math.floor(spread) - _CURVATURE
        (words,), _ = yield from seat.opened(coarse.cleared(share, unit, bits + column))
        matrix = np.zeros((size, size))
        means = coarse.opened(words, unit, bits + column, parties) / persons
        matrix[rows, columns] = matrix[columns, rows] = means
        values["curvature"] = matrix
    return values


def deal_regress(bank: Bank, plan: Plan, counts: list[int], secret: bytes) -> Any:
    """The dealer's text."""
    masks = yield from deal_moments(bank, counts, secret, plan.options.smallest_cell)
    number, last = 0, False
    while not last:
        number += 1
        given = yield from bank.memory.once(f"point {number}", _dealt(bank, masks, str(number)))
        last = bool(given["last"])


def _dealt(bank: Bank, masks: Any, label: str) -> Any:
    """The dealer's steps at one point. Gives {"last": whether it was}."""
    letters = yield from deal_waves(bank, HARMONICS, label, fraction_bits(bank.rows)[1] // 2)
    said = {letters.get(name) for name in bank.table.parties}
    if said not in ({_ON}, {_LAST}):
        raise JointRefused("the parties don't agree on whether the search goes on")
    last = said == {_LAST}
    yield from deal_sums(bank, masks, int(last), f"{label} slope")
    yield from bank.give()
    if last:
        yield from deal_weighted_gram(bank, masks, f"{label} curvature")
        yield from bank.give()
    return {"last": np.array(last)}
