"""The running weighted mean: one accumulator, whatever the number of clients.

Sums are kept in float64, where adding float32 values is exact enough that the order of arrival
practically never shows in the float32 result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.arrays import Arrays, Layout


class RunningMean:
    """Weighted mean of array sets of one layout, folded in one by one.

    Memory is 8 bytes per coordinate, independent of how many sets are added.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._sums = {name: np.zeros(spec.shape) for name, spec in layout.items()}
        self.weight = 0.0
        self.count = 0

    def add(self, arrays: Mapping[str, NDArray[Any]], weight: float) -> None:
        """Fold one set in. The caller has checked it against the layout; weight > 0."""
        if not weight > 0:
            raise ValueError(f"a weight must be positive, got {weight}")
        for name, total in self._sums.items():
            total += np.multiply(arrays[name], weight, dtype=np.float64)
        self.weight += weight
        self.count += 1

    def mean(self) -> Arrays:
        """The mean in the layout's dtypes; whole-number arrays are rounded to the nearest.

        Raises ValueError if nothing was added.
        """
        if self.count == 0:
            raise ValueError("no mean of nothing")
        return {
            name: conform(self._sums[name] / self.weight, spec.dtype)
            for name, spec in self._layout.items()
        }


def conform(value: NDArray[Any], dtype: str) -> NDArray[Any]:
    """``value`` as ``dtype``; floats that become whole numbers are rounded, not cut."""
    if np.dtype(dtype).kind in "iub" and value.dtype.kind == "f":
        value = np.rint(value)
    return value.astype(dtype)
