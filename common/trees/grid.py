"""Gradients and hessians as whole numbers: sums of these are the same in any order, and the same
under masks.

A number v is the whole number nearest to v / unit, for a unit that is a power of two. So a sum
modulo 2^bits is the sum itself as long as ``fitting`` chose the unit:

    rows * bound / unit <= 2^(bits-1) - 1, and < 2^53, where float64 ends being exact.

*Error.* Each row's number is off by at most unit / 2. In words of 64 bits 100,000 rows leave
gradients of at most 1 a unit of 2^-35, where float32, which xgboost computes them in, has 2^-25 at
1/2; in words of 32 bits they leave 2^-13.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import ConfigError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FINEST = 36
COARSEST = 6
_EXACT = 53


@dataclass(frozen=True)
class Unit:
    """Of one kind of number.

    exponent : the unit is 2^exponent
    bound : what a number is clipped to, on both sides
    """

    exponent: int
    bound: float

    @property
    def size(self) -> float:
        """2^exponent, exact."""
        return math.ldexp(1.0, self.exponent)

    def whole(self, values: NDArray[np.floating]) -> Ints:
        """The whole numbers of these."""
        clipped = np.clip(values.astype(np.float64), -self.bound, self.bound)
        return np.rint(clipped / self.size).astype(np.int64)

    def numbers(self, whole: Ints) -> Floats:
        """The numbers that these whole ones stand for; exact."""
        return whole.astype(np.float64) * self.size


def fitting(rows: int, bound: float, bits: int, finest: int = FINEST) -> Unit:
    """The finest unit for which a sum over all rows stays within words of so many bits.

    Parameters
    ----------
    rows : over all hospitals, and no fewer
    bound : the largest magnitude of a row's number
    bits : 16, 32 or 64
    finest : the unit is no less than 2^-finest of the bound's power of two

    Raises ConfigError where so many rows leave no useful grid.
    """
    above = math.ceil(math.log2(bound))
    room = min(bits - 1, _EXACT) - 1 - math.ceil(math.log2(max(1, rows)))
    fraction = min(finest, room)
    if fraction < COARSEST:
        raise ConfigError(
            f"sums of {rows} rows leave a gradient {max(0, fraction)} bits in words of {bits}",
            mend="take wider words",
        )
    return Unit(above - fraction, bound)
