"""Figure sums that noise can be made for: what ``privacy.covers = ['evaluation']`` asks for.

The sums of ``Task.metrics`` are exact, and one row may change some of them by any amount. These are
whole numbers, and each row adds its own, which no other row has a part in: so what one row changes
all of them by, together, is bounded (``sensitivity``). A row that a model says nothing finite of
adds nothing, and hides nobody else's.

Shapes: N examples, O outputs, C classes, E types of entities.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wardround.common.figures.areas import Interval
from wardround.common.figures.figure import FigureTable, is_number
from wardround.common.figures.noised import Measured
from wardround.common.figures.noised_classes import (
    binary_measured,
    bins_for,
    multiclass_measured,
    shown_sums,
)
from wardround.common.figures.noised_numbers import SENSITIVITY, number_sums, numbers_measured
from wardround.common.figures.sums import Sums, binary_sums, multiclass_sums
from wardround.common.tasks.class_limits import UNLABELLED

_DRAWS, _GRID = 200, 1024


class Summing(Protocol):
    """What a task's own metrics are."""

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        """See ``Task.metrics``."""

    def summarise(self, sums: Sums) -> dict[str, float]:
        """See ``Task.summarise``."""

    def figure_table(self) -> FigureTable:
        """See ``Task.figure_table``."""


class PrivateSums(ABC):
    """What a task gives instead of ``metrics`` and ``summarise`` where figures carry noise."""

    @property
    @abstractmethod
    def sensitivity(self) -> float:
        """The most (L2) that one example changes all sums of a split together."""

    @abstractmethod
    def sums(self, outputs: Tensor, targets: Tensor) -> Sums:
        """Whole numbers in float64, added over examples; of no example names and shapes alone."""

    @abstractmethod
    def measured(self, sums: Sums, noise: float) -> Measured:
        """Figures of (added, noised) sums.

        noise : standard deviation on each number. Raises ValueError or KeyError for other sums.
        """

    def shown(self, sums: Sums, noise: float) -> Sums:
        """Of them what curves and thresholds are drawn of; nothing by default."""
        return {}


class ClassSums(PrivateSums):
    """Of two classes (outputs N x 1, the logit of the second) or of C (N x C): see
    ``common/figures/noised_classes.py``.

    noise : about what will be on each number, which the number of bins follows from
    """

    def __init__(self, kind: str, classes: int, noise: float) -> None:
        self._kind, self._classes = kind, classes
        self.bins = bins_for(noise * self.sensitivity)

    @property
    def sensitivity(self) -> float:
        return 1.0 if self._kind == "binary" else math.sqrt(self._classes + 1)

    def sums(self, outputs: Tensor, targets: Tensor) -> Sums:
        known = finite_rows(outputs) & (targets != UNLABELLED)
        values, truth = outputs[known].double(), targets[known].numpy()
        if self._kind == "binary":
            found = binary_sums(torch.sigmoid(values[:, 0]).numpy(), truth, self.bins)
            return {name: found[name] for name in ("positives", "negatives")}
        found = multiclass_sums(torch.softmax(values, dim=1).numpy(), truth, self.bins)
        return {name: found[name] for name in ("confusion", "positives", "negatives")}

    def measured(self, sums: Sums, noise: float) -> Measured:
        return (binary_measured if self._kind == "binary" else multiclass_measured)(sums, noise)

    def shown(self, sums: Sums, noise: float) -> Sums:
        return shown_sums(sums, noise)


class NumberSums(PrivateSums):
    """Of a predicted number: outputs N x 1, targets N x 2 [value, deviation], both in deviations of
    the target: see ``common/figures/noised_numbers.py``.

    deviation : the one of the whole federation
    """

    sensitivity = SENSITIVITY

    def __init__(self, deviation: float) -> None:
        self._deviation = deviation

    def sums(self, outputs: Tensor, targets: Tensor) -> Sums:
        return number_sums(outputs[:, 0].double().numpy(), targets[:, 0].double().numpy())

    def measured(self, sums: Sums, noise: float) -> Measured:
        return numbers_measured(sums, noise, self._deviation)


class ClippedSums(PrivateSums):
    """Of a task of one's own: ``metrics`` of each example by itself, each sum cut off at its bound.

    A sum's bound is the largest norm (L2) that one example may have in it; it is counted in parts
    of 1 / 1024 of that, towards 0. So all n sums together have the sensitivity sqrt(n) 1024,
    whatever ``metrics`` does. ``summarise`` gets these sums, in their own unit, and no others.
    Intervals hold the noise alone: what chance does with the rows, only the task could say.
    """

    def __init__(self, task: Summing, bounds: Mapping[str, float]) -> None:
        self._task, self._bounds = task, dict(sorted(bounds.items()))
        if bad := [name for name, one in self._bounds.items() if not 0 < one < math.inf]:
            raise ValueError(f"metric_bounds: '{bad[0]}' must be a number above 0")

    @property
    def sensitivity(self) -> float:
        return math.sqrt(len(self._bounds)) * _GRID

    def sums(self, outputs: Tensor, targets: Tensor) -> Sums:
        whole = self._of(outputs[:0], targets[:0])
        found = {name: np.zeros_like(value) for name, value in whole.items()}
        for place in range(len(outputs)):
            one = slice(place, place + 1)
            try:
                own = self._of(outputs[one], targets[one])
            except Exception:  # this row's own affair: another one's sums stay as they are
                continue
            for name, value in own.items():
                norm = float(np.linalg.norm(value))
                if math.isfinite(norm) and norm > 0 and value.shape == found[name].shape:
                    bound = self._bounds[name]
                    found[name] += np.trunc(value * (min(1.0, bound / norm) / bound * _GRID))
        return found

    def _of(self, outputs: Tensor, targets: Tensor) -> Sums:
        sums = self._task.metrics(outputs, targets)
        return {name: np.asarray(sums[name], dtype=np.float64) for name in self._bounds}

    def measured(self, sums: Sums, noise: float) -> Measured:
        generator, found = np.random.default_rng(0), Measured()
        figures = self._figures(sums)
        noised = {
            name: value + generator.normal(0.0, noise, (_DRAWS, *value.shape))
            for name, value in sorted(sums.items())
        }
        drawn = [self._tried({k: v[draw] for k, v in noised.items()}) for draw in range(_DRAWS)]
        table = self._task.figure_table()
        for name, value in figures.items():
            others = [one[name] for one in drawn if is_number(one.get(name))]
            scaled = table[name].better in ("higher", "lower")
            found.add(name, _spread(value, others, scaled) if is_number(value) else None)
        return found

    def _figures(self, sums: Sums) -> Mapping[str, float]:
        units = {name: sums[name] * (bound / _GRID) for name, bound in self._bounds.items()}
        return self._task.summarise(units)

    def _tried(self, sums: Sums) -> Mapping[str, float]:
        try:
            return self._figures(sums)
        except Exception:  # no figure of such numbers: one draw that it isn't measurable by
            return {}


def _spread(value: float, drawn: Sequence[float], scaled: bool) -> tuple[float, Interval] | None:
    """A figure with how far noise moves it; None where some draws have none, or it is moved by
    more than half of itself."""
    if len(drawn) < 0.95 * _DRAWS:
        return None
    low, high = (float(one) for one in np.quantile(drawn, [0.025, 0.975]))
    span = min(low, value, 2 * value - high), max(high, value, 2 * value - low)
    return None if scaled and span[1] - span[0] > abs(value) else (value, span)


def finite_rows(outputs: Tensor) -> Tensor:
    """Of each example whether all that the model says is finite."""
    return torch.isfinite(outputs).flatten(1).all(dim=1)
