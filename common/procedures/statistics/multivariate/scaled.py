"""Complete rows of several columns of numbers, put to scale by all hospitals' mean and deviation.

Two steps: how many rows and their sums; squared distances from the mean. So large values with small
differences lose no digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.frame import Floats, Frame
from wardround.common.procedures.statistics.regression import few
from wardround.common.tasks.features import one

Earlier = Sequence[Sums]
CONSTANT = 1e-12
"""A deviation below so much of the mean is rounding."""
TOO_FEW = "Too few persons have a number in all of these columns."
COUNTS = ("rows", "people")


@dataclass(frozen=True)
class Scale:
    """Of D columns over M complete rows of all hospitals.

    deviations : with M as the divisor; 1 of a constant column
    varies : which columns aren't constant
    """

    rows: float
    people: float
    means: Floats
    deviations: Floats
    varies: NDArray[np.bool_]

    @classmethod
    def of(cls, earlier: Earlier) -> Scale:
        """From the totals of both steps."""
        rows, means = float(earlier[0]["rows"][0]), mean_of(earlier)
        deviations = np.sqrt(np.maximum(earlier[1]["squares"], 0.0) / rows)
        varies = deviations > CONSTANT * np.maximum(1.0, np.abs(means))
        people = float(earlier[0]["people"][0])
        return cls(rows, people, means, np.where(varies, deviations, 1.0), varies)

    def scaled(self, values: Floats) -> Floats:
        """M x D rows to scale, without constant columns."""
        return ((values - self.means) / self.deviations)[:, self.varies]

    def in_units(self, scaled: Floats) -> Floats:
        """The reverse, of rows without the constant columns."""
        return scaled * self.deviations[self.varies] + self.means[self.varies]


def mean_of(earlier: Earlier) -> Floats:
    """Of each column, from the totals of the first step."""
    return earlier[0]["sums"] / earlier[0]["rows"]


def enough(earlier: Earlier, least: int) -> bool:
    """Whether so many persons have complete rows, after the first step."""
    return float(earlier[0]["people"][0]) >= least


def scale_shapes(wide: int, earlier: Earlier) -> Shapes:
    """Of the step that is asked for, of these two."""
    if not earlier:
        return {"rows": (1,), "people": (1,), "sums": (wide,)}
    return {"squares": (wide,)}


def scale_sums(frame: Frame, columns: Sequence[str], earlier: Earlier) -> Sums:
    """A hospital's, of the step that is asked for."""
    values, whole = complete(frame, columns)
    if not earlier:
        return first_sums(frame, values, whole)
    return {"squares": ((values - mean_of(earlier)) ** 2).sum(0)}


def first_sums(frame: Frame, values: Floats, whole: NDArray[np.bool_]) -> Sums:
    """Of the first step."""
    people = one(frame.people(whole))
    return {"rows": one(len(values)), "people": people, "sums": values.sum(0)}


def complete(frame: Frame, columns: Sequence[str]) -> tuple[Floats, NDArray[np.bool_]]:
    """Rows without a gap in any of D columns, M x D, and which of the N they are."""
    values = np.column_stack([frame.values(name) for name in columns])
    whole = np.logical_not(np.isnan(values).any(axis=1))
    return values[whole], whole


def value_sums(frame: Frame, scaled: Floats, whole: NDArray[np.bool_]) -> Floats:
    """D x BINS persons in each bin of the M x D scaled rows."""
    places, found = few.scaled_bins(scaled), np.zeros((scaled.shape[1], few.BINS))
    codes = np.full(len(whole), -1, np.int64)
    for column in range(scaled.shape[1]):
        codes[whole] = places[:, column]
        found[column] = frame.counted_people(codes, few.BINS)
    return found


def categories_in(names: Sequence[str], values: Floats) -> list[str]:
    """Which columns have so few values that each is a category. ``values``: D x BINS."""
    return [name for name, one in zip(names, values, strict=True) if few.handful(one) is not None]


def as_categories(names: Sequence[str]) -> str:
    """A note of those that keep it from being shown."""
    return (
        f"Five bins or fewer hold all values of {', '.join(names)}: centres in full would be "
        "counts of these. Leave such columns out ('crosstab' counts them), or take logarithms."
    )


def of_all(rows: float, agreed: Agreed) -> str:
    """A note of which rows count."""
    share = rows / agreed.rows if agreed.rows else 0.0
    return f"Of rows without a gap in these columns: {share:.0%} of all."


def left_out(names: Sequence[str], varies: NDArray[np.bool_]) -> list[str]:
    """A note of constant columns, if there are any."""
    bad = [f"'{name}'" for name, there in zip(names, varies, strict=True) if not there]
    return [f"Constant over all hospitals, and left out: {', '.join(bad)}."] if bad else []
