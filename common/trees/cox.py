"""``survival:cox``: risk sets over all hospitals, on an agreed grid of times.

Hospitals agree on cells of time as on bins (``agreeing``). In each round one more sum is asked:
for each cell c the hazards exp(f) of the rows whose time lies in it, each as a multiple of 2^-20,
so that they add to the same sum whoever has which row. With d_c events in c,

    S_c = sum of hazards in c and in all later cells      who is at risk in c
    r_c = sum over cells b <= c of d_b / S_b,   s_c = sum over b <= c of d_b / S_b^2
    g   = exp(f) r_c - event                              of a row in cell c
    h   = exp(f) r_c - exp(2 f) s_c

which is Breslow's form, all events of a cell as one tie. *Error.* Where every cell holds one time,
this is the pooled gradient itself. Otherwise rows of one cell count as at risk for each other: an
event's risk set is too large by those who left earlier in its own cell, at most the cell's share.

f is held to [-10, 10] here, so that sums of 300,000 rows are exact in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import TaskError
from wardround.common.trees.features import Floats32
from wardround.common.trees.objectives import Objective

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LARGEST_MARGIN = 10.0
_GRAIN = 2.0**20
_LARGEST = 64.0


def coded(time: Floats, event: NDArray[np.bool_]) -> Floats:
    """A target as xgboost has it: the time, negative where nothing happened by then.

    time : positive
    """
    return np.where(event, time, -time)


@dataclass(frozen=True, eq=False)
class Cox(Objective):
    """``survival:cox`` between two levels of a round.

    cuts : of time, float32, rising
    hazards : r_c and s_c of this round, 2 x cells; None before they are known
    base : the hazard before the first tree
    """

    cuts: Floats32
    hazards: Floats | None = None
    base: float = 1.0
    name: ClassVar[str] = "survival:cox"
    counts_rows: ClassVar[bool] = True

    @property
    def cells(self) -> int:
        """How many cells of time there are."""
        return len(self.cuts) + 1

    @property
    def base_score(self) -> float:
        """The hazard that every row begins with."""
        return self.base

    @property
    def base_margin(self) -> float:
        """Its logarithm."""
        return float(np.log(np.float32(self.base)))

    @property
    def largest(self) -> tuple[float, float]:
        """64 each: an event or more expected of a row before it had one."""
        return _LARGEST, _LARGEST

    def cell(self, target: Floats) -> Ints:
        """The cell of each row's time."""
        found: Ints = np.searchsorted(
            self.cuts, np.abs(target).astype(np.float32), side="right"
        ).astype(np.int64)
        return found

    def events(self, target: Floats) -> Ints:
        """A hospital's events in each cell: they are summed once."""
        return np.bincount(self.cell(target[target > 0]), minlength=self.cells).astype(np.int64)

    def at_risk(self, margins: Floats32, target: Floats) -> Floats:
        """A hospital's hazards in each cell, summed in each round."""
        whole = np.rint(self._hazard(margins) * _GRAIN)
        return np.bincount(self.cell(target), whole, self.cells).astype(np.float64) / _GRAIN

    def with_sums(self, events: Ints, hazards: Floats) -> Cox:
        """The objective of a round, by the totals of ``events`` and of ``at_risk``.

        Raises TaskError for totals that no hospitals could have given.
        """
        if events.shape != (self.cells,) or hazards.shape != (self.cells,):
            raise TaskError("totals of times have another number of cells")
        if (events < 0).any() or not (np.isfinite(hazards) & (hazards >= 0)).all():
            raise TaskError("totals of hazards aren't sums of hazards")
        left = np.cumsum(hazards[::-1])[::-1]
        if ((left <= 0) & (events > 0)).any():
            raise TaskError("totals of times have an event that nobody was at risk of")
        share = np.divide(1.0, left, out=np.zeros_like(left), where=left > 0)
        both: Floats = np.stack(
            [np.cumsum(events * share), np.cumsum(events * share * share)]
        ).astype(np.float64)
        return replace(self, hazards=both)

    def gradients(self, margins: Floats32, target: Floats) -> tuple[Floats32, Floats32]:
        """See the module."""
        if self.hazards is None:
            raise TaskError("gradients of survival:cox need the sums of who is at risk")
        hazard, cell = self._hazard(margins), self.cell(target)
        first, second = hazard * self.hazards[0][cell], hazard**2 * self.hazards[1][cell]
        gradient, hessian = first - (target > 0), np.maximum(first - second, 0)
        return gradient.astype(np.float32)[:, None], hessian.astype(np.float32)[:, None]

    def predicted(self, margins: Floats32) -> Floats32:
        """The hazard, beside that of the mean row of training."""
        return np.exp(margins[:, 0])

    @staticmethod
    def _hazard(margins: Floats32) -> Floats:
        held = np.clip(margins[:, 0].astype(np.float64), -LARGEST_MARGIN, LARGEST_MARGIN)
        found: Floats = np.exp(held)
        return found
