"""The steps of ``calibrate``: a finished model's correction, fitted and tried by added sums.

    step 0, 1, ...   loss, gradient and curvature at the present numbers (``calibration/newton.py``)
    the last one     figure sums of the model's own predictions, and of corrected ones

Patients are dealt into two halves by a digest of who they are (of the row, where nobody says), and
numbers are fitted three times side by side: to all rows, and to each half. All rows' numbers are
what is published; the figures after are of each half corrected by the other's. The next numbers
follow from the totals so far, so a hospital computes at the ones that it works out itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wardround.common.calibration.calibration import CALIBRATION, FORMAT, Calibration
from wardround.common.calibration.correction import (
    BINARY,
    MULTICLASS,
    REGRESSION,
    SURVIVAL,
    kind_of,
)
from wardround.common.calibration.families import (
    OF_KIND,
    Family,
    Floats,
    expit,
    log_probabilities,
    logit,
    softmax,
)
from wardround.common.calibration.fitting import LEAST, corrected
from wardround.common.calibration.newton import (
    MOST_STEPS,
    Course,
    course,
    entries,
    inverse_curvature,
)
from wardround.common.config.load import Config
from wardround.common.errors import CalibrationRefused, DataError, TaskError
from wardround.common.figures.figure import is_number
from wardround.common.figures.sums import (
    Sums,
    binary_figures,
    binary_sums,
    multiclass_figures,
    multiclass_sums,
    regression_figures,
    regression_sums,
    scalar,
)
from wardround.common.figures.survival import survival_figures, survival_sums
from wardround.common.procedures.finished import scored
from wardround.common.procedures.on_model import OnModel
from wardround.common.procedures.procedure import (
    Asked,
    Earlier,
    FinishedModel,
    Parts,
    Shapes,
)
from wardround.common.settings import CALIBRATE, CalibrateOptions
from wardround.common.tasks.base import Task
from wardround.common.tasks.classes import UNLABELLED
from wardround.common.tasks.targets import scale

WHOLE, FIRST, SECOND = "all", "first", "second"
FITS = (WHOLE, FIRST, SECOND)
"""What is fitted side by side: all rows, and each half."""
BEFORE, AFTER = "before", "after"
_GAIN, _GAIN_SQUARES = "gain", "gain_squares"
_BINS = 1000
_Z = 1.959963984540054


class Calibrate(OnModel):
    """A finished model's correction."""

    name = CALIBRATE
    steps = MOST_STEPS + 1

    def __init__(self, config: Config, task: Task[Any], model: FinishedModel | None) -> None:
        super().__init__(config, task, model)
        self._options = cast(CalibrateOptions, config.procedure.settings)
        self._kind = kind_of(model.schema) if model is not None else ""

    @classmethod
    def of(cls, config: Config, task: Task[Any], model: FinishedModel | None = None) -> Self:
        cls.refuse_privacy(config, "or let each hospital calibrate at home")
        found = cls(config, task, model)
        if model is not None and not found._kind:
            raise config.error(
                "procedure.model",
                "predicts no probability, number or risk of a row, so nothing can be corrected",
                "name a classifier, a regression or a survival model",
            )
        return found

    # --- what is asked ----------------------------------------------------------------------------
    def shapes(self, earlier: Earlier) -> Shapes | None:
        if earlier and f"{BEFORE}/examples" in earlier[-1]:
            return {}
        found, shape = self._courses(earlier), entries(len(self._family.pull.centre))
        if going := [name for name in FITS if not found[name].done]:
            return {f"{name}/{key}": one for name in going for key, one in shape.items()}
        none: NDArray[Any] = np.zeros((0, 2) if self._kind == SURVIVAL else 0)
        values = np.zeros((0, self._classes) if self._kind == MULTICLASS else 0)
        return {key: one.shape for key, one in self._figures(values, values, none).items()}

    def sums(self, parts: Parts, earlier: Earlier) -> Sums:
        chosen = self._splits(parts)
        device = self._config.training.device
        outputs, targets = scored(self._task, self._model, parts, chosen, device)
        values, truth = self._values(outputs), self._targets(targets)
        half = np.concatenate([halves(self._task.row_keys(parts[split])) for split in chosen])
        if not len(half) == len(values) == len(truth):
            raise DataError("the task makes other examples than one of each row")
        if self._kind == MULTICLASS:
            known = truth != UNLABELLED
            values, truth, half = values[known], truth[known], half[known]
        rows = {WHOLE: np.ones(len(half), np.bool_), FIRST: half == 0, SECOND: half == 1}
        found = self._courses(earlier)
        if going := [name for name in FITS if not found[name].done]:
            made = {
                name: self._family.sums(values[rows[name]], truth[rows[name]], found[name].at)
                for name in going
            }
            return {f"{name}/{key}": one for name in going for key, one in made[name].items()}
        other = {FIRST: found[SECOND].at, SECOND: found[FIRST].at}
        after = np.empty_like(values)
        for name, at in other.items():
            intercept, slope = self._family.pair(at)
            after[rows[name]] = intercept + slope * values[rows[name]]
        return self._figures(values, after, truth)

    # --- what comes of it -------------------------------------------------------------------------
    def result(self, earlier: Earlier, asked: Asked) -> Mapping[str, str]:
        whole, last = self._steps(earlier, WHOLE), earlier[-1]
        if f"{BEFORE}/examples" not in last:
            raise TaskError("the steps of 'calibrate' came to no end on these rows")
        unit = scale(dict(self._model.totals)) if self._kind == REGRESSION else (0.0, 1.0)
        at = course(whole, self._family.pull).at
        try:
            made = corrected(self._kind, self._family, at, unit)
        except CalibrationRefused as error:
            raise TaskError(error.what or str(error), mend=error.mend) from None
        gain = _mean(last[_GAIN][0], last[_GAIN_SQUARES][0], last["before/examples"][0])
        better = gain[0] is not None and gain[0] > 0
        found = Calibration(
            model=self._options.model_digest,
            run="",
            kind=made.kind,
            method=made.method,
            intercept=made.intercept,
            slope=made.slope,
            rows=int(whole[0]["rows"][0]),
            figures={
                "hospitals": asked.hospitals,
                "numbers": self._numbers(whole, at),
                BEFORE: self._shown(last, BEFORE),
                AFTER: self._shown(last, AFTER),
                _GAIN: gain,
            },
            notes=[_NOTE] if better else [_NO_BETTER, _NOTE],
        )
        return {CALIBRATION: found.to_bytes().decode()}

    # --- parts ------------------------------------------------------------------------------------
    @property
    def _family(self) -> Family:
        return OF_KIND[self._kind]

    @property
    def _classes(self) -> int:
        return len(self._model.schema.outputs)

    def _steps(self, earlier: Earlier, name: str) -> list[Sums]:
        """The totals of one of the fits, step by step, for as long as it went on."""
        return [
            {key.partition("/")[2]: one for key, one in sums.items() if key.startswith(f"{name}/")}
            for sums in earlier
            if f"{name}/loss" in sums
        ]

    def _courses(self, earlier: Earlier) -> dict[str, Course]:
        """How far each fit has come. Raises TaskError for totals that no rows could have given, or
        that are of too few."""
        steps = {name: self._steps(earlier, name) for name in FITS}
        try:
            if steps[WHOLE]:
                self._check_enough(steps)
            return {name: course(one, self._family.pull) for name, one in steps.items()}
        except (ValueError, KeyError, IndexError) as error:
            raise TaskError("the totals of 'calibrate' are none that rows could give") from error

    def _check_enough(self, steps: Mapping[str, list[Sums]]) -> None:
        for name in FITS:
            rows, rarer = (steps[name][0][key][0] for key in ("rows", "rarer"))
            least = min(rarer, rows - rarer) if self._kind == BINARY else rarer
            if least < LEAST:
                what = {BINARY: "rows of an outcome", SURVIVAL: "events"}.get(self._kind, "rows")
                raise TaskError(
                    f"too few {what} to recalibrate by, in all or in a half of the patients: at "
                    f"least {LEAST} are needed",
                    mend="ask more hospitals, or all rows where no hospital had a part in training",
                )

    def _values(self, outputs: Tensor) -> Floats:
        """What a correction is a line in, as ``correction.values_of`` has it of predictions."""
        values = outputs.double().numpy()
        if self._kind == BINARY:
            return logit(expit(values[:, 0]))
        if self._kind == MULTICLASS:
            return log_probabilities(softmax(values))
        found: Floats = values[:, 0]
        return found

    def _targets(self, targets: Tensor) -> NDArray[Any]:
        values = targets.double().numpy()
        return values[:, 0] if self._kind == REGRESSION and values.ndim > 1 else values

    def _figures(self, before: Floats, after: Floats, truth: NDArray[Any]) -> Sums:
        """Figure sums of both, and by how much the squared error of a row falls."""
        found = {f"{BEFORE}/{key}": x for key, x in self._sums_of(before, truth).items()}
        found |= {f"{AFTER}/{key}": x for key, x in self._sums_of(after, truth).items()}
        gain = self._errors(before, truth) - self._errors(after, truth)
        return found | {_GAIN: scalar(gain.sum()), _GAIN_SQUARES: scalar(np.sum(gain**2))}

    def _sums_of(self, values: Floats, truth: NDArray[Any]) -> Sums:
        if self._kind == BINARY:
            return binary_sums(expit(values), truth, _BINS)
        if self._kind == MULTICLASS:
            return multiclass_sums(softmax(values), truth, 1)
        if self._kind == SURVIVAL:
            return survival_sums(values, truth[:, 0], truth[:, 1])
        return regression_sums(values, truth)

    def _errors(self, values: Floats, truth: NDArray[Any]) -> Floats:
        """The squared error of each row; 0 for a survival model, whose risk has no outcome of its
        own kind."""
        if self._kind == BINARY:
            found: Floats = (expit(values) - truth) ** 2
        elif self._kind == MULTICLASS:
            wrong = softmax(values)
            wrong[np.arange(len(wrong)), truth.astype(np.int64)] -= 1
            found = np.sum(wrong**2, axis=1)
        else:
            found = np.zeros(len(values)) if self._kind == SURVIVAL else (values - truth) ** 2
        return found

    def _shown(self, sums: Mapping[str, Any], which: str) -> dict[str, float | None]:
        """Figures of these sums; a regression's in standard deviations of the target."""
        own = {key.partition("/")[2]: x for key, x in sums.items() if key.startswith(f"{which}/")}
        made = {
            BINARY: binary_figures,
            MULTICLASS: multiclass_figures,
            SURVIVAL: survival_figures,
            REGRESSION: regression_figures,
        }
        found = made[self._kind](own)
        if self._kind == BINARY:
            rows = found["examples"]
            found["in_the_large"] = -float(own["calibration"].sum()) / rows if rows else math.nan
        names = _SHOWN[self._kind]
        return {name: found[name] if is_number(found[name]) else None for name in names}

    def _numbers(self, whole: list[Sums], at: tuple[float, ...]) -> dict[str, list[float]]:
        """The fitted numbers with intervals of the curvature, the pull in it; a regression's by the
        squared error that is left."""
        spread = inverse_curvature(whole[-1], self._family.pull)
        left = 1.0
        if self._kind == REGRESSION:
            left = 2 * float(whole[-1]["loss"][0]) / max(float(whole[-1]["rows"][0]), 1.0)
        names = ["intercept"] * self._family.intercept + ["slope"] * self._family.slope
        found = {}
        for place, (name, value) in enumerate(zip(names, at, strict=True)):
            reach = _Z * math.sqrt(left * spread[place][place])
            found[name] = [value, value - reach, value + reach]
        return found


_NO_BETTER = (
    "On rows that it didn't see the correction is no better than the model as it is: don't use it."
)
_NOTE = (
    "Of all hospitals together: a hospital whose patients differ is corrected better by its own "
    "rows (wardround client calibrate)."
)
_SHOWN = {
    BINARY: ("brier", "calibration_error", "in_the_large", "auc"),
    MULTICLASS: ("brier", "accuracy"),
    REGRESSION: ("rmse", "bias"),
    SURVIVAL: ("c_index",),
}


def halves(keys: NDArray[np.str_]) -> NDArray[np.int64]:
    """The half, 0 or 1, of each row by its key; equal keys are in one. Nobody's choice: it is a bit
    of a digest."""
    return np.array(list(_bits(keys)), dtype=np.int64)


def _bits(keys: NDArray[np.str_]) -> Iterator[int]:
    for key in keys.tolist():
        yield hashlib.sha256(f"half\x1f{key}".encode()).digest()[0] & 1


def _mean(total: float, squares: float, rows: float) -> list[float | None]:
    """A mean with the normal interval of its rows."""
    if rows < 2:
        return [None, None, None]
    mean = float(total / rows)
    reach = _Z * math.sqrt(max(float(squares) / rows - mean**2, 0.0) / (rows - 1))
    return [mean, mean - reach, mean + reach]


__all__ = ["CALIBRATION", "FORMAT", "Calibrate"]
