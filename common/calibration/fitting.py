"""A correction is fitted to rows that lie here, and tried on rows that it wasn't fitted on.

Steps and sums are those that hospitals would add (``newton.py``, ``families.py``). To try it, rows
are dealt into parts, a patient's rows into one; each part is corrected by what the others give.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.calibration import isotonic
from wardround.common.calibration.correction import (
    BINARY,
    ISOTONIC,
    MULTICLASS,
    REGRESSION,
    SURVIVAL,
    Correction,
    Predictions,
    values_of,
)
from wardround.common.calibration.families import (
    FAMILIES,
    INTERCEPT,
    OF_KIND,
    Family,
    Floats,
)
from wardround.common.calibration.newton import MOST_STEPS, course
from wardround.common.errors import CalibrationRefused, DataError
from wardround.common.figures.sums import Sums
from wardround.common.rng import numpy_generator

LEAST = 10
"""Fewest patients (or rows, where the data name no patients), and events of a survival model."""
PARTS = 10
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """What a model said of rows, and what was true.

    values : as ``correction.values_of``; of a regression standardised by ``scale``
    targets : 0 or 1; the class's number; the standardised value; time and event, N x 2
    groups : the patient's number, or the row's
    scale : mean and deviation
    """

    kind: str
    values: Floats
    targets: NDArray[Any]
    groups: Ints
    scale: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def of(
        cls,
        kind: str,
        predictions: Predictions,
        targets: NDArray[Any],
        groups: Ints,
        scale: tuple[float, float] = (0.0, 1.0),
    ) -> Rows:
        """Of predictions and targets in their own unit."""
        values, truth = values_of(kind, predictions), np.asarray(targets, dtype=np.float64)
        if kind == REGRESSION:
            values, truth = ((one - scale[0]) / scale[1] for one in (values, truth))
        return cls(kind, values, truth, groups, scale)

    def __len__(self) -> int:
        return len(self.targets)

    def select(self, rows: Ints) -> Rows:
        """The given rows, in that order."""
        return replace(
            self, values=self.values[rows], targets=self.targets[rows], groups=self.groups[rows]
        )

    @property
    def rarer(self) -> int:
        """Rows with outcome 1, or an event; of other kinds all."""
        if self.kind == BINARY:
            return int(self.targets.sum())
        return int(self.targets[:, 1].sum()) if self.kind == SURVIVAL else len(self)

    @property
    def one_class(self) -> bool:
        """Whether a binary target has one value only."""
        return self.kind == BINARY and self.rarer in (0, len(self))

    def sums(self, family: Family, at: tuple[float, ...]) -> Sums:
        """Of a Newton step."""
        return family.sums(self.values, self.targets, at)


def check_enough(rows: Rows) -> None:
    """Raise DataError where so few rows say nothing."""
    units = len(np.unique(rows.groups))
    if units < LEAST:
        raise DataError(
            f"{units} patients (or rows, where the data name none) are too few to recalibrate by: "
            f"bring at least {LEAST}"
        )
    if rows.kind == SURVIVAL and rows.rarer < LEAST:
        raise DataError(
            f"{rows.rarer} events are too few to recalibrate a risk by: bring at least {LEAST}"
        )


def methods(rows: Rows) -> list[str]:
    """What can be fitted, the usual one first."""
    if rows.one_class:
        return [INTERCEPT]
    found = [OF_KIND[rows.kind].method]
    if rows.kind == BINARY and isotonic.rows_suffice(len(rows), rows.rarer):
        found.append(ISOTONIC)
    return found


def fit(rows: Rows, method: str) -> Correction:
    """The correction of these rows; with the numbers rounded to twelve digits, so that a file has
    what was tried. Raises CalibrationRefused where the order of rows would be turned round."""
    if method == ISOTONIC:
        return Correction(rows.kind, method, knots=isotonic.fit(rows.values, rows.targets))
    family = FAMILIES[method]
    steps: list[Sums] = []
    found = course(steps, family.pull)
    while not found.done:
        if len(steps) == MOST_STEPS:
            raise CalibrationRefused("its Newton steps come to no end on these rows")
        steps.append(rows.sums(family, found.at))
        found = course(steps, family.pull)
    return corrected(rows.kind, family, found.at, rows.scale)


def corrected(
    kind: str, family: Family, at: tuple[float, ...], scale: tuple[float, float] = (0.0, 1.0)
) -> Correction:
    """The correction that these numbers are. Raises CalibrationRefused for a slope of 0 or less."""
    intercept, slope = family.pair(at)
    if not slope > 0:
        raise CalibrationRefused(
            "the model ranks these rows the wrong way round (its slope would be "
            f"{slope:.2f}): no correction mends that",
            mend="look at the units and the meaning of the columns, or use another model",
        )
    mean, deviation = scale
    intercept = intercept * deviation + mean * (1 - slope)
    return Correction(kind, family.method, float(f"{intercept:.12g}"), float(f"{slope:.12g}"))


def parts_of(groups: Ints) -> Ints:
    """Which part each row is in, from 0: groups dealt at random, always alike."""
    names, number = np.unique(groups, return_inverse=True)
    parts = min(PARTS, len(names))
    order = numpy_generator(0, "parts to try a calibration on").permutation(len(names))
    found: Ints = (order % parts)[number].astype(np.int64)
    return found


def tried(rows: Rows, method: str) -> Floats:
    """The values of all rows, each corrected by what the rows of other parts give, in the form of
    ``Rows.values``. Raises CalibrationRefused."""
    part, found = parts_of(rows.groups), np.empty_like(rows.values)
    for one in range(int(part.max()) + 1):
        inside = np.flatnonzero(part == one)
        others = rows.select(np.flatnonzero(part != one))
        own = method if method == ISOTONIC else _method(others, method)
        found[inside] = moved(fit(others, own), rows.values[inside], rows.scale)
    return found


def _method(rows: Rows, method: str) -> str:
    return INTERCEPT if rows.one_class else method


def moved(found: Correction, values: Floats, scale: tuple[float, float]) -> Floats:
    """Corrected values, in the form of ``Rows.values``."""
    if found.kind == BINARY:
        return found.logits(values)
    if found.kind in (MULTICLASS, SURVIVAL):
        return found.slope * values
    mean, deviation = scale
    return (found.intercept + found.slope * (values * deviation + mean) - mean) / deviation
