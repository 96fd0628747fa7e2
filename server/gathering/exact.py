"""Sums of named numbers as masks add them: in the exact ring, whatever their order.

So what comes out in plain and what comes out under masks are the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import ReplyRefused
from wardround.common.figures.sums import Sums
from wardround.common.secagg.encoding import decode_exact, encode_exact
from wardround.common.secagg.ring import Limbs, add_limbs


class ExactTotal:
    """Hospitals' named sums as they come. ``hospitals``: the most that are added."""

    def __init__(self, hospitals: int) -> None:
        self._hospitals = hospitals
        self._limbs: dict[str, Limbs] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def add(self, sums: Mapping[str, NDArray[Any]]) -> None:
        """Add a hospital's; a name that it lacks counts as zero there. Raises ReplyRefused for
        another shape than before, and for what can't be summed exactly (NaN, beyond 2^94)."""
        for name, value in sums.items():
            if self._shapes.setdefault(name, value.shape) != value.shape:
                raise ReplyRefused(
                    f"sum '{name[:100]}': found shape {value.shape}, expected {self._shapes[name]}"
                )
            limbs = encode_exact(value.reshape(-1), self._hospitals)
            if name in self._limbs:
                add_limbs(self._limbs[name], limbs)
            else:
                self._limbs[name] = limbs

    def total(self) -> Sums:
        """What was added, float64."""
        return {
            name: np.asarray(decode_exact(limbs).reshape(self._shapes[name]))
            for name, limbs in self._limbs.items()
        }
