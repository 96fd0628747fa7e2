"""How a model predicts before and after it is corrected, on rows that the correction didn't see.

| figure | of | is |
|---|---|---|
| brier | binary, multiclass | mean squared error of the probabilities, summed over classes |
| log_loss | binary, multiclass | mean cross entropy |
| in_the_large | binary, regression | mean outcome minus mean prediction; 0 where all is right |
| slope | all | of the outcome on the prediction, 1 where all is right |
| calibration_error | binary | as in ``figures/sums.py``; no interval (resampling shifts it up) |
| auc, c_index, accuracy | | the order of rows, which a correction leaves |
| rmse | regression | in the target's unit |

Intervals are 95 %, of Student's t with the patients' sums as the observations: rows of a patient
are alike. Those of a slope are of a sandwich over patients; of a survival model's slope of the
partial likelihood's curvature. A figure that is undefined is None.

Shapes: N rows, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, stdtrit

from wardround.common.calibration.correction import BINARY, MULTICLASS, REGRESSION, SURVIVAL
from wardround.common.calibration.families import (
    FAMILIES,
    LINEAR,
    LOGISTIC,
    RISK,
    TEMPERATURE,
    Floats,
    expit,
    softmax,
)
from wardround.common.calibration.fitting import Rows
from wardround.common.calibration.newton import MOST_STEPS, Pull, course, inverse_curvature
from wardround.common.figures.sums import Sums, binary_figures, binary_sums
from wardround.common.figures.survival import survival_figures, survival_sums

Figure = list[float | None]
"""Value, and the ends of its interval."""

OF_ORDER = ("auc", "c_index", "accuracy")
"""Figures of the order of rows. A correction leaves it, but parts that were corrected by others
can't be ranked against each other: after it they are of the one that is fitted to all rows."""
_FREE = 1e-9
"""Precision of a pull that holds a slope where nothing else does, and moves none that is there."""


@dataclass(frozen=True)
class Means:
    """A mean over rows, of patients who may have several."""

    value: float
    error: float
    units: int

    @classmethod
    def of(cls, values_N: Floats, groups_N: NDArray[np.int64]) -> Means:
        """Of at least one row."""
        number = np.unique(groups_N, return_inverse=True)[1]
        sizes, sums = np.bincount(number), np.bincount(number, values_N)
        mean, units = float(values_N.mean()), len(sizes)
        if units < 2:
            return cls(mean, math.nan, units)
        spread = np.sum((sums - mean * sizes) ** 2) * units / (units - 1)
        return cls(mean, float(np.sqrt(spread)) / len(values_N), units)

    @property
    def figure(self) -> Figure:
        """With its interval."""
        return _with(self.value, self.error, self.units)


def figures(rows: Rows, values: Floats | None = None) -> dict[str, Figure]:
    """Of these rows, with other values than their own where they are given."""
    if values is not None:
        rows = Rows(rows.kind, values, rows.targets, rows.groups, rows.scale)
    made = {
        BINARY: _binary,
        MULTICLASS: _multiclass,
        REGRESSION: _regression,
        SURVIVAL: _survival,
    }
    return made[rows.kind](rows)


def gain(rows: Rows, values: Floats) -> Means:
    """By how much the loss of a row falls with these values: Brier, squared error in the target's
    unit; of a survival model nothing is compared row by row, and it is 0."""
    before, after = _losses(rows, rows.values), _losses(rows, values)
    return Means.of(before - after, rows.groups)


def _losses(rows: Rows, values: Floats) -> Floats:
    if rows.kind == BINARY:
        found: Floats = (expit(values) - rows.targets) ** 2
    elif rows.kind == MULTICLASS:
        wrong = softmax(values)
        wrong[np.arange(len(wrong)), rows.targets.astype(np.int64)] -= 1
        found = np.sum(wrong**2, axis=1)
    elif rows.kind == REGRESSION:
        found = (rows.scale[1] * (values - rows.targets)) ** 2
    else:
        found = np.zeros(len(rows))
    return found


# --- by kind --------------------------------------------------------------------------------------
def _binary(rows: Rows) -> dict[str, Figure]:
    truth, chance = rows.targets, expit(rows.values)
    losses = np.logaddexp(0, rows.values) - truth * rows.values
    summed = binary_figures(binary_sums(chance, truth, bins=1000))
    return {
        "brier": Means.of(_losses(rows, rows.values), rows.groups).figure,
        "log_loss": Means.of(losses, rows.groups).figure,
        "in_the_large": Means.of(truth - chance, rows.groups).figure,
        "slope": _slope(rows, LOGISTIC, rows.rarer not in (0, len(rows))),
        "calibration_error": [_or_none(summed["calibration_error"]), None, None],
        "auc": [_or_none(_area(rows.values, truth)), None, None],
    }


def _multiclass(rows: Rows) -> dict[str, Figure]:
    truth = rows.targets.astype(np.int64)
    losses = -log_softmax(rows.values, axis=1)[np.arange(len(truth)), truth]
    right = (rows.values.argmax(axis=1) == truth).astype(np.float64)
    return {
        "brier": Means.of(_losses(rows, rows.values), rows.groups).figure,
        "log_loss": Means.of(losses, rows.groups).figure,
        "slope": _slope(rows, TEMPERATURE, True),
        "accuracy": Means.of(right, rows.groups).figure,
    }


def _regression(rows: Rows) -> dict[str, Figure]:
    squares = Means.of(_losses(rows, rows.values), rows.groups)
    low, high = squares.figure[1:]
    root = [squares.value, None if low is None else max(low, 0.0), high]
    gaps = rows.scale[1] * (rows.targets - rows.values)
    return {
        "rmse": [None if x is None else math.sqrt(x) for x in root],
        "in_the_large": Means.of(gaps, rows.groups).figure,
        "slope": _slope(rows, LINEAR, bool(np.ptp(rows.values) > 0)),
    }


def _survival(rows: Rows) -> dict[str, Figure]:
    time, event = rows.targets.T
    c_index = survival_figures(survival_sums(rows.values, time, event))["c_index"]
    return {
        "slope": _slope(rows, RISK, rows.rarer > 0),
        "c_index": [_or_none(c_index), None, None],
    }


# --- the slope ------------------------------------------------------------------------------------
def _slope(rows: Rows, method: str, there: bool) -> Figure:
    """Of the outcome on the prediction, without a pull."""
    family = FAMILIES[method]
    pull = Pull(family.pull.centre, tuple(_FREE for _ in family.pull.centre))
    steps: list[Sums] = []
    try:
        found = course(steps, pull)
        while there and not found.done and len(steps) < MOST_STEPS:
            steps.append(rows.sums(family, found.at))
            found = course(steps, pull)
        if not there or not found.done:
            return [None, None, None]
        covariance = np.array(inverse_curvature(rows.sums(family, found.at), pull))
    except ValueError:  # all predictions equal, or outcomes that a line parts
        return [None, None, None]
    slope, units = found.at[-1], len(np.unique(rows.groups))
    if method == RISK:
        return _with(slope, float(np.sqrt(covariance[-1, -1])), rows.rarer)
    scores = np.stack(_scores(rows, method, family.pair(found.at)), axis=1)
    number = np.unique(rows.groups, return_inverse=True)[1]
    whole = np.zeros((units, scores.shape[1]))
    np.add.at(whole, number, scores)
    spread = covariance @ (whole.T @ whole) @ covariance * units / max(units - 1, 1)
    return _with(slope, float(np.sqrt(spread[-1, -1])), units)


def _scores(rows: Rows, method: str, pair: tuple[float, float]) -> list[Floats]:
    """Each row's part of the gradient."""
    intercept, slope = pair
    if method == TEMPERATURE:
        chances = softmax(slope * rows.values)
        own = rows.values[np.arange(len(rows)), rows.targets.astype(np.int64)]
        return [np.sum(chances * rows.values, axis=1) - own]
    score = intercept + slope * rows.values
    error = (expit(score) if method == LOGISTIC else score) - rows.targets
    return [error, error * rows.values]


# --- parts ----------------------------------------------------------------------------------------
def _with(value: float, error: float, units: int) -> Figure:
    if not math.isfinite(value):
        return [None, None, None]
    if not math.isfinite(error) or units < 2:
        return [value, None, None]
    reach = float(stdtrit(units - 1, 0.975)) * error
    return [value, value - reach, value + reach]


def _area(values: Floats, truth: NDArray[Any]) -> float:
    """Exactly: Mann and Whitney, ties one half."""
    ones, rows = int(truth.sum()), len(truth)
    if ones in (0, rows):
        return math.nan
    _, number, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    above = float(ranks[number][truth == 1].sum()) - ones * (ones + 1) / 2
    return above / (ones * (rows - ones))


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
