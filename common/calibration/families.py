"""What is corrected, by kind of model: the numbers, what pulls them, and their sums.

| kind | predictions x | becomes | loss | pull: centre (deviation) |
|---|---|---|---|---|
| binary | logit of the probability | a + b x | cross entropy | a: 0 (1), b: 1 (1/4) |
| multiclass | logs of the probabilities | b x (b = 1 / temperature) | cross entropy | b: 1 (1/4) |
| regression | standardised value | a + b x | half the squared error | a: 0 (1), b: 1 (1/2) |
| survival | log hazard | b x | Cox's partial likelihood | b: 1 (1/4) |

Binary with rows of one outcome only: a alone, b stays 1. A survival model's risk has no level of
its own (it cancels in the partial likelihood), so there is no intercept to be had; risk sets are a
hospital's own, and the sum over hospitals is that of a model stratified by hospital, Breslow's ties
as in training.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from wardround.common.calibration.newton import Point, Pull
from wardround.common.figures.sums import MOST_LOGIT, Sums, scalar

Floats = NDArray[np.float64]
LOGISTIC, INTERCEPT, TEMPERATURE = "logistic", "intercept", "temperature"
LINEAR, RISK = "linear", "slope"
_LEAST_PROBABILITY = 1e-30


@dataclass(frozen=True)
class Family:
    """One way to correct.

    method : how a calibration calls it
    intercept, slope : which of the numbers it has; the others stay 0 and 1
    pull : of those that it has, in this order
    """

    method: str
    intercept: bool
    slope: bool
    pull: Pull

    def pair(self, at: Point) -> tuple[float, float]:
        """Intercept and slope of its numbers."""
        numbers = list(at)
        intercept = numbers.pop(0) if self.intercept else 0.0
        return intercept, numbers.pop(0) if self.slope else 1.0

    def sums(self, values: Floats, targets: NDArray[Any], at: Point) -> Sums:
        """``newton.entries`` of these rows at a point.

        values : as in the table above, N or N x C
        targets : 0 or 1; the class's number; the standardised value; time and event, N x 2
        """
        intercept, slope = self.pair(at)
        if self.method == TEMPERATURE:
            return _of_classes(values, targets.astype(np.int64), slope)
        if self.method == RISK:
            return _of_risk(values, targets[:, 0], targets[:, 1], slope)
        score = intercept + slope * values
        if self.method == LINEAR:
            error, weight = score - targets, np.ones(len(values))
            bound = weight
            loss, rarer = 0.5 * np.sum(error**2), len(values)
        else:
            chance = expit(score)
            error, weight = chance - targets, chance * (1 - chance)
            half = np.maximum(np.abs(score) / 2, 1e-6)
            bound = np.tanh(half) / (4 * half)
            loss, ones = np.sum(np.logaddexp(0, score) - targets * score), int(targets.sum())
            rarer = ones
        columns = [np.ones(len(values))] * self.intercept + [values] * self.slope
        found = {"gradient": np.array([float(np.sum(error * one)) for one in columns])}
        found |= {"curvature": _upper(weight, columns), "bound": _upper(bound, columns)}
        return found | _counted(float(loss), len(values), rarer)


_PULLS = {
    LOGISTIC: Pull((0.0, 1.0), (1.0, 16.0)),
    INTERCEPT: Pull((0.0,), (1.0,)),
    TEMPERATURE: Pull((1.0,), (16.0,)),
    LINEAR: Pull((0.0, 1.0), (1.0, 4.0)),
    RISK: Pull((1.0,), (16.0,)),
}
FAMILIES = {
    method: Family(
        method, method in (LOGISTIC, INTERCEPT, LINEAR), method != INTERCEPT, _PULLS[method]
    )
    for method in _PULLS
}
"""By method."""
OF_KIND = {
    "binary": FAMILIES[LOGISTIC],
    "multiclass": FAMILIES[TEMPERATURE],
    "regression": FAMILIES[LINEAR],
    "survival": FAMILIES[RISK],
}
"""The usual one of each kind of model that can be corrected."""


def expit(values: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(values))
    found: Floats = np.where(values >= 0, 1.0, small) / (1 + small)
    return found


def logit(probabilities: NDArray[Any]) -> Floats:
    """log(p / (1 - p)), cut at +-16, where a probability in float32 is as good as 0 or 1."""
    end = expit(np.array([MOST_LOGIT]))[0]
    kept = np.clip(np.asarray(probabilities, dtype=np.float64), 1 - end, end)
    found: Floats = np.clip(np.log(kept) - np.log1p(-kept), -MOST_LOGIT, MOST_LOGIT)
    return found


def log_probabilities(probabilities_NC: NDArray[Any]) -> Floats:
    """Logarithms, of at least 1e-30."""
    kept = np.maximum(np.asarray(probabilities_NC, dtype=np.float64), _LEAST_PROBABILITY)
    found: Floats = np.log(kept)
    return found


def softmax(values_NC: Floats) -> Floats:
    """Of each row."""
    found: Floats = special.softmax(values_NC, axis=1)
    return found


# --- sums -----------------------------------------------------------------------------------------
def _of_classes(values_NC: Floats, truth_N: NDArray[np.int64], slope: float) -> Sums:
    chances_NC = softmax(slope * values_NC)
    own_N = values_NC[np.arange(len(truth_N)), truth_N]
    mean_N = np.sum(chances_NC * values_NC, axis=1)
    spread_N = np.sum(chances_NC * (values_NC - mean_N[:, None]) ** 2, axis=1)
    own_loss_N = -special.log_softmax(slope * values_NC, axis=1)[np.arange(len(truth_N)), truth_N]
    gradient, loss = np.sum(mean_N - own_N), np.sum(own_loss_N)
    found = _lone(float(gradient), float(np.sum(spread_N)))
    return found | _counted(float(loss), len(truth_N), len(truth_N))


def _of_risk(risk_N: Floats, time_N: Floats, event_N: Floats, slope: float) -> Sums:
    """Mean and variance of the risk over each event's risk set; all rows with an equal time are in
    it. Latest first, a risk set is all that stand before, and cumulative sums do."""
    order = np.argsort(-time_N, kind="stable")
    risk, seen = risk_N[order], event_N[order] == 1
    centre = float(risk.mean()) if len(risk) else 0.0  # so that squares don't cancel
    risk = risk - centre
    raised = np.exp(slope * risk - (top := float(np.max(slope * risk, initial=-700.0))))
    _, place = np.unique(-time_N[order], return_inverse=True)
    last = np.searchsorted(place, place, side="right") - 1
    zero, one, two = (np.cumsum(raised * risk**power)[last][seen] for power in (0, 1, 2))
    # far below the largest of all, a whole risk set may be 0: it says nothing then
    there = zero > 0
    zero, one, two, own = zero[there], one[there], two[there], risk[seen][there]
    mean = one / zero
    spread = np.maximum(two / zero - mean**2, 0)
    loss = np.sum(np.log(zero) + top - slope * own)
    found = _lone(float(np.sum(mean - own)), float(np.sum(spread)))
    return found | _counted(float(loss), len(risk_N), int(event_N.sum()))


def _upper(weight: Floats, columns: list[Floats]) -> Floats:
    """The upper triangle of weighted products, row by row."""
    pairs = ((i, j) for i in range(len(columns)) for j in range(i, len(columns)))
    return np.array([float(np.sum(weight * columns[i] * columns[j])) for i, j in pairs])


def _lone(gradient: float, curvature: float) -> Sums:
    """Of one number, with no other bound."""
    one = scalar(curvature)
    return {"gradient": scalar(gradient), "curvature": one, "bound": one.copy()}


def _counted(loss: float, rows: int, rarer: int) -> Sums:
    return {"loss": scalar(loss), "rows": scalar(rows), "rarer": scalar(rarer)}
