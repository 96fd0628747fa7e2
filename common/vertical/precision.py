"""Fixed point of a regression on products of exponentials: how many bits what has.

The weight of a row is a product of one number of each party, exp of its part of the linear
predictor. Nothing is ever cut off (that would need dealt randomness of its own), so the bits of all
factors add up, and with the sum over rows they must fit. Numbers are rounded at random to one of
their two neighbours (``dithered``), so that of few bits sums over rows are still right on average:
5 bits of each of two factors of size 1 add an error of 1.8 % of a row's weight, and of 0.006 % of
the sum of 100,000 rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wardround.common.errors import JointRefused
from wardround.common.vertical.deal import stream
from wardround.common.vertical.ring import BITS, Reals, Words, encode

_WIDE = 4
"""Bits of ``rows.WIDEST``, the largest value of a column."""
_FEWEST, _COARSEST = 3, 5
"""Bits of a factor, and of exposures, that are enough."""


@dataclass(frozen=True)
class Precision:
    """Bits after the point.

    column : of columns
    slope, curvature : of each party's factor where the slope, or the curvature, is opened
    exposure : of exposures
    """

    column: int
    slope: int
    curvature: int
    exposure: int

    @classmethod
    def of(cls, rows: int, parties: int) -> Precision:
        """For so many rows and parties. Raises JointRefused where too few bits are left.

        What must fit 62 bits: exposures times all factors, columns times all factors, twice
        columns times all factors, each summed over the rows.
        """
        free = BITS - int(np.ceil(np.log2(max(rows, 2))))
        column, heavy = 10 if parties < 4 else 8, heaviest(parties)
        slope = min(12, (free - _WIDE - column) // parties, (free - heavy - _COARSEST) // parties)
        curvature = min(12, (free - 2 * _WIDE - 2 * column) // parties)
        if curvature < _FEWEST:
            raise JointRefused("too many parties and persons for the range that shares have")
        exposure = min(14, free - heavy - parties * slope)
        return cls(column, slope, curvature, exposure)


def heaviest(parties: int) -> int:
    """log2 of how much the sum over rows of all factors' product may exceed the number of rows."""
    return 4 + 2 * parties


def dithered(values: Reals, bits: int, secret: bytes, label: str) -> Words:
    """Fixed-point words, each rounded up with the probability of its rest.

    The draw is of a party's own secret and a label. One label may serve for many vectors: a search
    whose numbers are rounded alike at each point settles; what hides them are masks, not this.

    Raises JointRefused as ``encode`` does.
    """
    drawn = stream(secret, f"dither {label}", values.shape, np.uint32) / 2.0**32
    return encode(np.floor(values * 2.0**bits + drawn) / 2.0**bits, bits)


def checked_factor(predictor: Reals, parties: int) -> Reals:
    """exp of a party's part of the linear predictor, (rows,).

    The mean over rows of a product of all parties' factors is at most that of each one's power of
    ``parties``, to the root (Hoelder): each holds its own below its part of ``heaviest``, so that
    the sum fits whatever the others' are. Of normal numbers with two parties, that is a standard
    deviation of up to 1.7 of each part; 1.2, 1.0 and .9 with three, four and five.

    Raises JointRefused where it isn't.
    """
    with np.errstate(over="ignore"):
        factor = np.exp(predictor)
        spread = float(np.mean(factor**parties))
    if not spread <= 2.0 ** heaviest(parties):
        raise JointRefused(
            "a party's part of the linear predictor leaves the range of exp on shares: "
            "a column has a long tail or an effect without end; transform it, or raise the ridge"
        )
    return factor
