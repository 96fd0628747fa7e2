"""How exactly sums are opened: as coefficients need them, and no more.

A sum over rows with known factors is an equation for whoever knows these, and of a column of 0 and
1 one exact equation says as much as its numbers have bits. Here each party clears the last bits of
its share before it sends it. A sum of p shares is short by what was cleared, from 0 to p units:
that hides what is below a unit, and is corrected on average. A unit is

    of slopes        1/64 of the sum's standard error
    of curvatures    2^-10 of the number of rows
    by interval      such that the coefficients' error by it is below 1/32 standard errors

``points`` adds up what may be opened about each party's columns, in bits, and says how many slopes
may be: altogether no more than one bit for each person and column. So rows can't be solved for,
were there a way to solve such equations at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import JointRefused
from wardround.common.vertical.ring import Reals, Words, decode

SINGULAR = 2.0**-7
"""Of a curvature so opened: a column of which others leave less may be one that they determine."""
_SLOPE, _CURVATURE = 6, 10
_WIDE = 2
"""Bits that a sum is larger than what it is measured by, with its sign."""
_FEWEST = 4
"""Points without which no search ends."""


@dataclass(frozen=True)
class Coarse:
    """Of so many rows and events, and intervals. Units of sums over rows, as powers of two."""

    rows: int
    events: float
    intervals: int

    @property
    def slope(self) -> int:
        return math.floor(math.log2(self.rows) - math.log2(self.events) / 2) - _SLOPE

    @property
    def curvature(self) -> int:
        return math.floor(math.log2(self.rows)) - _CURVATURE

    @property
    def interval_bits(self) -> int:
        """Of a sum by interval, below the power of two of what it is without any effect."""
        return max(4, math.ceil(math.log2(6 * math.sqrt(self.events / self.intervals)))) + 1

    def bits(self, own: int, columns: int, points: int) -> float:
        """What is opened of ``own`` of all columns, in bits, with so many slopes; of curvatures
        two parts at two points."""
        slopes = own * points * (_SLOPE + _WIDE + max(0.0, math.log2(self.events) / 2))
        pairs = own * (own + 1) // 2 + own * (columns - own)
        curved = 4 * pairs * (_CURVATURE + _WIDE)
        return slopes + curved + self.intervals * points * self.interval_bits

    def points(self, counts: Sequence[int], most: int) -> int:
        """How many slopes may be opened, at most ``most``; counts: of columns of each party.

        Raises JointRefused where they are too few to find anything.
        """
        found = most
        for own in counts:
            while own and found and self.bits(own, sum(counts), found) > self.rows * own:
                found -= 1
        if found < min(_FEWEST, most):
            raise JointRefused(
                "too few persons for so many inputs and intervals: what would be opened might be "
                "solved for rows; ask for fewer"
            )
        return found


def cleared(share: Words, units: NDArray[np.int64] | int, bits: int) -> Words:
    """A share without what is below 2^units, of a fixed point of ``bits``."""
    drop = np.clip(np.asarray(units) + bits, 0, 62).astype(np.uint64)
    kept: Words = (share >> drop) << drop
    return kept


def opened(words: Words, units: NDArray[np.int64] | int, bits: int, parties: int) -> Reals:
    """What a sum of ``parties`` cleared shares stands for: its mean, given what was opened."""
    drop = np.clip(np.asarray(units) + bits, 0, 62)
    found: Reals = decode(words, bits) + parties / 2 * (2.0**drop - 1) / 2.0**bits
    return found
