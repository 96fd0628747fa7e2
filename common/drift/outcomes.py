"""How good a model is on rows whose outcomes have come: figures with intervals, at one place.

auc        area under the ROC curve, ties one half; error of DeLong et al. (Biometrics 44, 1988)
brier      mean squared error of the probability
intercept  of a logistic regression of the outcome with the model's logit as its offset: 0 where as
           many have it as the model says, above where more do
slope      of one with the logit as its input: 1 where calibrated, under 1 where it says too much
of others  accuracy and Brier score of classes; bias and root mean squared error of numbers

Intervals are of 95 %, by the normal approximation (of the AUC in its logit, of an RMSE in its
square; of a share Wilson's); None where the rows allow none. They are for people: what is an alarm
is decided by counts (``compare.py``), which are exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from wardround.common.drift.counts import Columns
from wardround.common.drift.field import Field, outcome_name
from wardround.common.tasks.schema import Schema

Floats = NDArray[np.float64]
Z = 1.959963984540054
_LOGIT_LIMIT, _STEPS = 30.0, 50
_ABSURD = 1e3
FEW = 5
"""Of fewer rows there are no figures: they would be the rows' own."""


@dataclass(frozen=True)
class Figured:
    """A figure of some rows.

    low, high : the interval; None where the rows allow none
    """

    name: str
    value: float
    low: float | None
    high: float | None
    rows: int


def figures_of(columns: Columns, schema: Schema) -> list[Figured]:
    """Figures of the rows that have both an outcome and a score; none of fewer than ``FEW``."""
    key = Field("outcome", outcome_name(schema)).key
    scores = [Field("score", one.name).key for one in schema.outputs]
    if key not in columns or not scores or any(one not in columns for one in scores):
        return []
    truth = np.asarray(columns[key].values, dtype=np.float64)
    said = np.stack([np.asarray(columns[one].values, dtype=np.float64) for one in scores], axis=1)
    known = ~np.isnan(said).any(axis=1) & ~np.isnan(truth)
    if (odd := columns[key].odd) is not None:
        known &= ~odd
    if schema.kind in ("binary", "multiclass"):
        known &= truth >= 0
    truth, said = truth[known], said[known]
    if len(truth) < FEW:
        return []
    if schema.kind == "binary":
        return binary(said[:, 0], truth)
    if schema.kind == "multiclass":
        return several(said, truth.astype(np.int64))
    return numbers(said[:, 0], truth) if schema.kind == "regression" else []


def binary(scores: Floats, truth: Floats) -> list[Figured]:
    """Of a probability and 0 or 1, N each."""
    found, rows = [], len(truth)
    if 0 < truth.sum() < rows:
        value, error = auc(scores, truth)
        found.append(Figured("auc", value, *_in_logit(value, error), rows))
    found.append(_mean("brier", (scores - truth) ** 2))
    logit = np.log(np.clip(scores, 1e-12, 1.0)) - np.log(np.clip(1 - scores, 1e-12, 1.0))
    for name, fitted in (
        ("calibration intercept", fit(truth, np.ones((rows, 1)), logit)),
        ("calibration slope", fit(truth, np.stack([np.ones(rows), logit], axis=1))),
    ):
        if fitted is not None:
            value, error = float(fitted[0][-1]), float(fitted[1][-1])
            found.append(Figured(name, value, value - Z * error, value + Z * error, rows))
    found.append(_share("prevalence", truth))
    return found


def several(scores: Floats, truth: NDArray[np.int64]) -> list[Figured]:
    """Of probabilities N x C and numbers of classes, N."""
    wrong = scores.copy()
    wrong[np.arange(len(truth)), truth] -= 1
    hits = (scores.argmax(axis=1) == truth).astype(np.float64)
    return [_share("accuracy", hits), _mean("brier", (wrong**2).sum(axis=1))]


def numbers(predicted: Floats, truth: Floats) -> list[Figured]:
    """Of numbers, N each, in the target's own unit."""
    off = predicted - truth
    square = _mean("rmse", off**2)
    root = [None if one is None else math.sqrt(max(0.0, one)) for one in (square.low, square.high)]
    return [
        _mean("bias", off),
        Figured("rmse", math.sqrt(square.value), root[0], root[1], len(off)),
    ]


def auc(scores: Floats, truth: Floats) -> tuple[float, float]:
    """Area, and its standard error by DeLong: from the ranks of each class among both."""
    ones, zeros = scores[truth == 1], scores[truth == 0]
    m, n = len(ones), len(zeros)
    ranks = rankdata(np.concatenate([ones, zeros]))
    above = (ranks[:m] - rankdata(ones)) / n  # of each positive, negatives below it
    below = 1 - (ranks[m:] - rankdata(zeros)) / m
    area = float(above.mean())
    spread = sum(
        float(one.var(ddof=1)) / len(one) if len(one) > 1 else math.inf for one in (above, below)
    )
    return area, math.sqrt(spread)


def fit(
    truth: Floats, inputs: Floats, offset: Floats | None = None
) -> tuple[Floats, Floats] | None:
    """Coefficients and standard errors of a logistic regression, by Newton's steps; None where the
    rows allow none (one class, or classes that a value parts)."""
    if not 0 < truth.sum() < len(truth):
        return None
    beta, fixed = np.zeros(inputs.shape[1]), np.zeros(len(truth)) if offset is None else offset
    for _ in range(_STEPS):
        linear = np.clip(inputs @ beta + fixed, -_LOGIT_LIMIT, _LOGIT_LIMIT)
        p = 1 / (1 + np.exp(-linear))
        hessian = (inputs * (p * (1 - p))[:, None]).T @ inputs
        try:
            step = np.linalg.solve(hessian, inputs.T @ (truth - p))
        except np.linalg.LinAlgError:
            return None
        beta = beta + step
        if not (np.abs(beta) < _ABSURD).all():
            return None
        if np.abs(step).max() < 1e-10:
            error: Floats = np.sqrt(np.diag(np.linalg.inv(hessian)))
            return beta, error
    return None


def as_values(found: Sequence[Figured]) -> dict[str, list[float | int | None]]:
    """For a stored reference: value, interval and rows by name."""
    return {one.name: [one.value, one.low, one.high, one.rows] for one in found}


def of_values(stored: Mapping[str, object]) -> list[Figured]:
    """What ``as_values`` gave. Raises ValueError for what isn't that."""
    found = []
    for name, one in stored.items():
        if not isinstance(one, list) or len(one) != 4:
            raise ValueError("no figure")
        if any(isinstance(x, bool) or not isinstance(x, int | float | None) for x in one):
            raise ValueError("no number")
        value, low, high, rows = one
        if value is None or not math.isfinite(value):
            raise ValueError("no number")
        found.append(Figured(str(name), float(value), low, high, int(rows or 0)))
    return found


def _mean(name: str, values: Floats) -> Figured:
    value, rows = float(values.mean()), len(values)
    if rows < 2:
        return Figured(name, value, None, None, rows)
    off = Z * float(values.std(ddof=1)) / math.sqrt(rows)
    least = 0.0 if (values >= 0).all() else -math.inf
    return Figured(name, value, max(least, value - off), value + off, rows)


def _share(name: str, values: Floats) -> Figured:
    """Of ones among ones and zeros, with Wilson's interval."""
    value, rows = float(values.mean()), len(values)
    middle = (value + Z**2 / (2 * rows)) / (1 + Z**2 / rows)
    off = Z * math.sqrt(value * (1 - value) / rows + Z**2 / (4 * rows**2)) / (1 + Z**2 / rows)
    return Figured(name, value, middle - off, middle + off, rows)


def _in_logit(value: float, error: float) -> tuple[float | None, float | None]:
    """An interval between 0 and 1; None where the area is one of them, or a class has one row."""
    if not 0 < value < 1 or not math.isfinite(error):
        return None, None
    middle, off = math.log(value / (1 - value)), Z * error / (value * (1 - value))
    return 1 / (1 + math.exp(off - middle)), 1 / (1 + math.exp(-off - middle))
