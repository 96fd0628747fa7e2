"""What follows from an analysis' totals, step by step, without beginning anew for each question.

A hospital works out all steps before the present one, and an analysis with k steps would fold 1, 2,
... k totals. Kept are the states after each; they are used again as long as the very same totals
come. So it changes nothing but the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from wardround.common.figures.sums import Sums

S = TypeVar("S")


class Fold(Generic[S]):
    """States after each of an analysis' totals.

    begin : the state before any
    step : the state after one more
    """

    def __init__(self, begin: Callable[[], S], step: Callable[[S, Sums], S]) -> None:
        self._begin, self._step = begin, step
        self._seen: list[Sums] = []
        self._states: list[S] = []

    def after(self, totals: Sequence[Sums]) -> S:
        """The state after all of these.

        >>> fold = Fold(lambda: 0.0, lambda state, sums: state + float(sums["n"][0]))
        >>> import numpy as np
        >>> fold.after([{"n": np.ones(1)}, {"n": np.ones(1)}])
        2.0
        """
        if not self._states:
            self._states.append(self._begin())
        same = 0
        while same < min(len(self._seen), len(totals)) and self._seen[same] is totals[same]:
            same += 1
        if same < len(totals):
            del self._seen[same:], self._states[same + 1 :]
            for sums in totals[same:]:
                self._states.append(self._step(self._states[-1], sums))
                self._seen.append(sums)
        return self._states[len(totals)]
