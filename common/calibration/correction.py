"""What corrects predictions: one or two numbers, or a curve, applied to columns by name.

Predictions are what a predictor gives, whether torch or an exported graph made them, so the same
correction goes with both. The order of rows stays: numbers have a positive slope, and a curve rises
(where it is flat, rows become equal).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.calibration import isotonic
from wardround.common.calibration.families import (
    Floats,
    expit,
    log_probabilities,
    logit,
    softmax,
)
from wardround.common.errors import CalibrationRefused
from wardround.common.tasks.schema import (
    LABELS,
    PAIRS,
    PREDICTION,
    PROBABILITY,
    RISK,
    Schema,
    probability_of,
)

ISOTONIC = "isotonic"
BINARY, MULTICLASS, REGRESSION, SURVIVAL = "binary", "multiclass", "regression", "survival"
_NAMES = {
    BINARY: PROBABILITY,
    MULTICLASS: probability_of(""),
    REGRESSION: PREDICTION,
    SURVIVAL: RISK,
}
KINDS = tuple(_NAMES)
"""Of models that can be corrected."""
Predictions = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Correction:
    """Of one kind of model.

    kind : binary, multiclass, regression, survival
    method : of ``families.FAMILIES``, or 'isotonic'
    intercept, slope : a + b x: of the logit, the logarithms of probabilities, the value in the
        target's own unit, or the log hazard
    knots : of 'isotonic', instead: (logit, probability)
    """

    kind: str
    method: str
    intercept: float = 0.0
    slope: float = 1.0
    knots: Sequence[Sequence[float]] = ()

    def apply(self, predictions: Predictions) -> dict[str, NDArray[Any]]:
        """The predictions, corrected; columns that aren't of this kind stay as they are, and so do
        dtypes. Raises CalibrationRefused if there is none."""
        own = own_columns(self.kind, predictions)
        found = {key: np.asarray(value) for key, value in predictions.items()}
        values = values_of(self.kind, predictions)
        if self.kind == MULTICLASS:
            corrected = softmax(self.slope * values)
            new = {key: corrected[:, place] for place, key in enumerate(own)}
        elif self.kind == BINARY:
            new = {own[0]: expit(self.logits(values))}
        else:
            new = {own[0]: self.intercept + self.slope * values}
        return found | {key: value.astype(found[key].dtype) for key, value in new.items()}

    def logits(self, logits_N: Floats) -> Floats:
        """Of a binary model: corrected logits."""
        if self.method == ISOTONIC:
            return isotonic.logits_of(self.knots, logits_N)
        return self.intercept + self.slope * logits_N


def kind_of(schema: Schema) -> str:
    """What kind of model it is, by its outputs; '' for any other, such as tags of words."""
    if schema.kind in (LABELS, PAIRS):
        return ""
    kinds = {one.kind for one in schema.outputs}
    if kinds == {"probability"}:
        return BINARY if len(schema.outputs) == 1 else MULTICLASS
    return {"number": REGRESSION, "risk": SURVIVAL}.get(next(iter(kinds)), "") if kinds else ""


def own_columns(kind: str, predictions: Predictions) -> list[str]:
    """The columns that are corrected, in their order. Raises CalibrationRefused."""
    name, several = _NAMES[kind], kind == MULTICLASS
    own = [one for one in predictions if (one.startswith(name) if several else one == name)]
    if not own:
        raise CalibrationRefused(f"it is of a {kind} model, and this one predicts other things")
    return own


def values_of(kind: str, predictions: Predictions) -> Floats:
    """What a correction is a line in: logits, logarithms of probabilities (N x C), values or log
    hazards. Raises CalibrationRefused."""
    own = [np.asarray(predictions[name]) for name in own_columns(kind, predictions)]
    if kind == BINARY:
        return logit(own[0])
    if kind == MULTICLASS:
        return log_probabilities(np.stack(own, axis=1))
    found: Floats = own[0].astype(np.float64)
    return found
