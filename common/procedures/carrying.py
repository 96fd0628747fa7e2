"""Procedures whose steps carry a state, as rounds of training carry a model.

    hospital: sums(parts, [state])  == one sum ==>  server: [state, kept] = after(..., total)

With thousands of steps, totals of all that was before can't travel with each. So the server folds
each total into a *state*, which is what the hospitals go by, and what it *keeps* for itself until
the next step. A hospital can't hold a state against totals that it never saw: it is data, as a
model is. What bounds it is its form (``check_state``), that it only grows, array by array
(``client/secagg/grown.py``), and that of each step one sum is opened.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from wardround.common.errors import RequestRefused
from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Earlier, Procedure
from wardround.common.protocol.sums import joined, parted

STEP = "now/step"
"""The number of the next step, in a state. Names that begin so may change; all else only grows."""
MOST_STATE_BYTES = 256 * 2**20


def at(step: int) -> Sums:
    """What says in a state that this step is next."""
    return {STEP: np.array([step])}


class CarryingProcedure(Procedure):
    """``earlier`` is empty before the first step, then [state] at a hospital, [state, kept] at the
    server. ``sums`` and ``shapes`` read the state alone.

    working : a side's own place for what it need not work out twice; it may be empty any time
    hospital : its name, at a hospital
    """

    carries: ClassVar[bool] = True

    def __init__(self) -> None:
        self.working: dict[str, Any] = {}
        self.hospital = ""

    @abstractmethod
    def fold(self, earlier: Earlier, total: Sums) -> tuple[Sums, Sums]:
        """At the server: the next state, with its ``STEP`` (``at``), and what it keeps for itself.
        Raises TaskError for totals that no hospitals could have given."""

    @abstractmethod
    def check_state(self, step: int, state: Sums) -> None:
        """At a hospital, of a step beyond the first: raise TaskError unless names, shapes, types
        and ranges are those of a state before this step."""

    def left(self, earlier: Earlier) -> list[Sums]:
        """At the server: the same, to be gone on with by fewer hospitals than before."""
        return list(earlier)

    # --- as every procedure ----------------------------------------------------------------------
    def step(self, earlier: Earlier) -> int:
        return int(earlier[0][STEP][0]) if earlier else 0

    def after(self, earlier: Earlier, total: Sums) -> list[Sums]:
        return [*self.fold(earlier, total)]

    def carried(self, earlier: Earlier) -> Sums:
        return joined(earlier[:1])

    def read(self, step: int, carried: Sums) -> list[Sums]:
        earlier: Sequence[Sums] = parted(carried, 1 if step else 0)
        if not step:
            return []
        state = earlier[0]
        number = state.get(STEP, np.zeros(0))
        if number.shape != (1,) or number.dtype != np.int64 or int(number[0]) != step:
            raise RequestRefused(f"the state that came is not the one before step {step + 1}")
        if any(value.ndim < 1 for value in state.values()):
            raise RequestRefused("the state that came has a number that is no array")
        if sum(value.nbytes for value in state.values()) > MOST_STATE_BYTES:
            raise RequestRefused("the state that came is too large")
        self.check_state(step, state)
        return [state]
