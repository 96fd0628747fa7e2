"""Linear regression: one matrix of sums is opened, and says all."""

from __future__ import annotations

from typing import Any

import numpy as np

from wardround.common.errors import JointRefused
from wardround.common.vertical import search
from wardround.common.vertical.beginning import Known
from wardround.common.vertical.coarse import SINGULAR
from wardround.common.vertical.fitted import Fitted
from wardround.common.vertical.moments import deal_moments, moments
from wardround.common.vertical.plan import Plan
from wardround.common.vertical.ring import Reals
from wardround.common.vertical.room import Bank, Seat


def regress(seat: Seat, known: Known, values: Reals, outcome: Reals | None) -> Any:
    """A party's text. outcome : of mean 0 and deviation 1. Gives ``Fitted``, of such an outcome."""
    found = yield from moments(seat, known, values, outcome, two_valued=False)
    penalty = known.plan.options.ridge * found.variances
    inverse = search.inverse(found.gram + np.diag(penalty), SINGULAR)
    point = search.applied(inverse, found.cross)
    fitted = search.applied(found.gram, point)
    # the mean square of what is left; coefficients with a penalty leave more than the fit says
    left = found.square - 2 * search.dot(point, found.cross) + search.dot(point, fitted)
    free = known.persons - len(point)
    if free < 1 or not left > 0:
        raise JointRefused("the inputs determine the outcome: there is nothing to estimate")
    variance = left * known.persons / free
    spread = search.multiplied(search.multiplied(inverse, found.gram), inverse)
    errors = np.sqrt(np.maximum(np.diagonal(spread), 0.0) * variance / known.persons)
    return Fitted(
        found.kept[1:] - 1,
        point[1:],
        errors[1:],
        float(point[0]),
        0,
        {"r_squared": 1.0 - left / found.square},
    )


def deal_regress(bank: Bank, plan: Plan, counts: list[int], secret: bytes) -> Any:
    """The dealer's text."""
    yield from deal_moments(bank, counts, secret, plan.options.smallest_cell)
