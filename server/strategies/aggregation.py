"""The running weighted mean: one accumulator, whatever the number of clients.

Sums are kept in float64. What is added in the same order gives the same bits; another order may
show in the last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.flower.arrays import Arrays, Layout, Making
from wardround.common.flower.conforming import conform
from wardround.common.mapped import let_go, windows, zero_arrays

_PIECE = 1 << 15
"""Numbers that are worked on at once: they stay in a core's cache."""


class RunningMean:
    """Weighted mean of array sets of one layout, folded in one by one.

    It takes 8 bytes per coordinate, in a file where that is much (``common/mapped.py``), however
    many sets are added; an added set is looked at one array at a time. ``mean`` gives the sums'
    memory back as it goes.

    >>> from wardround.common.flower.arrays import ArraySpec
    >>> mean = RunningMean({"w": ArraySpec((2,), "float32")})
    >>> mean.add({"w": np.array([1.0, 4.0], np.float32)}, weight=1.0)
    >>> mean.add({"w": np.array([4.0, 1.0], np.float32)}, weight=2.0)
    >>> mean.mean()["w"].tolist()
    [3.0, 2.0]
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._sums = zero_arrays({name: (spec.shape, "float64") for name, spec in layout.items()})
        self._means: Arrays = {}
        self.weight = 0.0
        self.count = 0

    def add(self, arrays: Mapping[str, NDArray[Any]], weight: float) -> None:
        """Fold one set in. The caller has checked it against the layout; weight > 0."""
        if not weight > 0:
            raise ValueError(f"a weight must be positive, got {weight}")
        if self._means:
            raise ValueError("the mean was taken")
        for name, total in self._sums.items():
            _add_scaled(total.reshape(-1), np.asarray(arrays[name]).reshape(-1), weight)
        self.weight += weight
        self.count += 1

    def add_sums(self, sums: Mapping[str, NDArray[Any]], weight: float, count: int) -> None:
        """Fold in the weighted sums of ``count`` sets that were added elsewhere."""
        if not weight > 0 or count < 1:
            raise ValueError(f"no sums of {count} sets with a weight of {weight}")
        if self._means:
            raise ValueError("the mean was taken")
        for name, total in self._sums.items():
            total += sums[name]
        self.weight += weight
        self.count += count

    def sums(self) -> Arrays:
        """The weighted sums so far, float64; live."""
        return dict(self._sums)

    def mean(self) -> Arrays:
        """The mean in the layout's dtypes; whole-number arrays are rounded to the nearest. They are
        read-only, ready to be encoded without a copy, and the sums are gone: nothing more can be
        added.

        Raises ValueError if nothing was added.
        """
        if self.count == 0:
            raise ValueError("no mean of nothing")
        made = Making(self._layout) if self._sums else None
        for name, spec in self._layout.items():
            if made is not None and name in self._sums:
                goal = made.begun(name)
                _divide(self._sums.pop(name).reshape(-1), self.weight, goal.reshape(-1), spec.dtype)
                self._means[name] = made.finished(goal)
        return dict(self._means)


def _divide(total: NDArray[np.float64], weight: float, goal: NDArray[Any], dtype: str) -> None:
    """goal <- total / weight, both flat; ``total`` is of no use afterwards."""
    for window in windows(len(total), total.itemsize):
        part = total[window]
        np.divide(part, weight, out=part)
        goal[window] = conform(part, dtype)
        let_go(part, goal[window])


def _add_scaled(total: NDArray[np.float64], values: NDArray[Any], weight: float) -> None:
    """total <- total + weight * values in float64, both flat, without a copy of the whole."""
    product = np.empty(min(_PIECE, len(total)))
    for window in windows(len(total), total.itemsize):
        for start in range(window.start, window.stop, _PIECE):
            part = total[start : min(start + _PIECE, window.stop)]
            scaled = product[: len(part)]
            scaled[...] = values[start : start + len(part)]
            scaled *= weight
            part += scaled
        let_go(total[window], values[window])
