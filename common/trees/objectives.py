"""What trees minimise: gradients and hessians of each row, in float32 as xgboost computes them.

    binary:logistic      g = p - y            h = p (1 - p)       p = 1 / (1 + exp(-f))
    multi:softprob       g = p_k - [y = k]    h = 2 p_k (1 - p_k) p = softmax(f)
    reg:squarederror     g = f - y            h = 1
    survival:cox         ``cox.py``: needs risk sets over hospitals

f is the margin, one for each class with several. Targets are float64: 0 and 1, classes from 0, the
number itself. Where training starts (the *base score*) follows from sums over hospitals.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.trees.features import Floats32

Floats = NDArray[np.float64]
_MIN_HESSIAN = np.float32(1e-16)
_LARGEST_EXP = np.float32(88.7)
_DEVIATIONS = 64.0


class Objective(ABC):
    """One of them, with what was agreed for it.

    name : as xgboost has it
    outputs : K, how many margins a row has
    """

    name: ClassVar[str]
    counts_rows: ClassVar[bool] = False
    """Whether hessians say too little of how many rows there are, so that these are counted."""

    @property
    def outputs(self) -> int:
        """K."""
        return 1

    @property
    @abstractmethod
    def base_score(self) -> float:
        """Where training starts, in the outcome's unit, as the file has it."""

    @property
    @abstractmethod
    def base_margin(self) -> float:
        """The same as a margin, for each output."""

    @property
    @abstractmethod
    def largest(self) -> tuple[float, float]:
        """The largest magnitude of a row's gradient and hessian: beyond it they are clipped."""

    @abstractmethod
    def gradients(self, margins: Floats32, target: Floats) -> tuple[Floats32, Floats32]:
        """Gradients and hessians, each N x K, of margins N x K."""

    @abstractmethod
    def predicted(self, margins: Floats32) -> Floats32:
        """Of margins N x K: probabilities, N of one output and N x K of classes; numbers, N."""


@dataclass(frozen=True)
class Binary(Objective):
    """``binary:logistic``. share : of positive rows."""

    share: float
    name: ClassVar[str] = "binary:logistic"

    @classmethod
    def sums(cls, target: Floats) -> Sums:
        """A hospital's rows, and those of them that are positive."""
        return {"rows": np.array([float(len(target))]), "positive": np.array([target.sum()])}

    @classmethod
    def of(cls, totals: Sums) -> Binary:
        """By the totals. A class that nobody has counts as half a row: its share is not 0."""
        rows, positive = float(totals["rows"][0]), float(totals["positive"][0])
        if not 0 <= positive <= rows or rows < 1:
            raise TaskError("totals of positive rows aren't a part of all rows")
        return cls(float(np.float32(min(max(positive, 0.5), rows - 0.5) / rows)))

    @property
    def base_score(self) -> float:
        """The share of positive rows."""
        return self.share

    @property
    def base_margin(self) -> float:
        """Its log odds, float32."""
        return float(np.float32(-np.log(np.float32(1) / np.float32(self.share) - np.float32(1))))

    @property
    def largest(self) -> tuple[float, float]:
        """1 and 1/4."""
        return 1.0, 0.25

    def gradients(self, margins: Floats32, target: Floats) -> tuple[Floats32, Floats32]:
        """See the module."""
        p = self.predicted(margins)
        slope = np.maximum(p * (np.float32(1) - p), _MIN_HESSIAN)
        return (p - target.astype(np.float32))[:, None], slope[:, None]

    def predicted(self, margins: Floats32) -> Floats32:
        """The probability of a positive."""
        return sigmoid(margins[:, 0])


@dataclass(frozen=True)
class Multi(Objective):
    """``multi:softprob``. It starts where all classes are equally likely: a base score of each
    class is known to xgboost since 3.1 only.

    classes : K, at least 2
    base : added to the margins of all classes alike
    """

    classes: int
    base: float = 0.5
    name: ClassVar[str] = "multi:softprob"

    @property
    def outputs(self) -> int:
        """K."""
        return self.classes

    @property
    def base_score(self) -> float:
        """As it is added to all margins."""
        return self.base

    @property
    def base_margin(self) -> float:
        """The same."""
        return self.base

    @property
    def largest(self) -> tuple[float, float]:
        """1 and 1/2."""
        return 1.0, 0.5

    def gradients(self, margins: Floats32, target: Floats) -> tuple[Floats32, Floats32]:
        """See the module."""
        p = self.predicted(margins)
        hit = (target[:, None] == np.arange(self.classes)).astype(np.float32)
        return p - hit, np.maximum(np.float32(2) * p * (np.float32(1) - p), _MIN_HESSIAN)

    def predicted(self, margins: Floats32) -> Floats32:
        """The probability of each class."""
        raised = np.exp(margins - margins.max(axis=1, keepdims=True))
        shares: Floats32 = raised / raised.sum(axis=1, keepdims=True, dtype=np.float32)
        return shares


@dataclass(frozen=True)
class Squared(Objective):
    """``reg:squarederror``.

    A row's gradient is clipped to 64 standard deviations of the target; among n rows none lies
    further than sqrt(n - 1) from the mean, so up to 4,000 rows nothing is.

    mean, deviation : of the target, over all hospitals
    """

    mean: float
    deviation: float
    name: ClassVar[str] = "reg:squarederror"

    @classmethod
    def sums(cls, target: Floats) -> Sums:
        """A hospital's rows and the sum of their targets."""
        return {"rows": np.array([float(len(target))]), "target": np.array([target.sum()])}

    @classmethod
    def squares(cls, target: Floats, totals: Sums) -> Sums:
        """Its squared distances from the mean that ``totals`` of ``sums`` give."""
        apart = target - cls._mean(totals)
        return {"squares": np.array([(apart * apart).sum()])}

    @classmethod
    def of(cls, totals: Sums) -> Squared:
        """By the totals of ``sums`` and of ``squares``, together."""
        squares = float(totals["squares"][0])
        if not 0 <= squares < np.inf:
            raise TaskError("totals of squared distances aren't a number")
        deviation = float(np.sqrt(squares / float(totals["rows"][0])))
        mean = cls._mean(totals)
        return cls(float(np.float32(mean)), deviation or max(abs(mean), 1.0))

    @staticmethod
    def _mean(totals: Sums) -> float:
        rows, target = float(totals["rows"][0]), float(totals["target"][0])
        if rows < 1 or not np.isfinite(target):
            raise TaskError("totals of the target aren't a number over rows")
        return target / rows

    @property
    def base_score(self) -> float:
        """The mean."""
        return self.mean

    @property
    def base_margin(self) -> float:
        """The mean."""
        return self.mean

    @property
    def largest(self) -> tuple[float, float]:
        """64 standard deviations, and 1."""
        return _DEVIATIONS * self.deviation, 1.0

    def gradients(self, margins: Floats32, target: Floats) -> tuple[Floats32, Floats32]:
        """See the module."""
        return margins - target.astype(np.float32)[:, None], np.ones_like(margins)

    def predicted(self, margins: Floats32) -> Floats32:
        """The margin."""
        return margins[:, 0]


def sigmoid(margins: Floats32) -> Floats32:
    """1 / (1 + exp(-f)) in float32."""
    found: Floats32 = np.float32(1) / (
        np.float32(1) + np.exp(np.minimum(-margins, _LARGEST_EXP)) + _MIN_HESSIAN
    )
    return found
