"""The search for the coefficients that all parties follow, each by itself, by what was opened.

The slope is opened at each point; the curvature once, at the first. From there it is corrected by
the differences of slopes (Broyden, Fletcher, Goldfarb, Shanno 1970), so that the many sums of a
curvature needn't be opened at every point: it takes four to ten points where Newton's steps take
four to six (docs/vertical.md).

Everything here is sums, products and quotients of single numbers in an order that is written down:
parties on unlike machines get the same bits, as they must to stop at the same point and to tell the
same coefficients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from wardround.common.errors import JointRefused
from wardround.common.vertical.ring import Reals

LONGEST = 1.0
"""The most that a coefficient changes in one step, in units of its column's deviation: the first
step may be far too long where most of the weight lies in few rows."""
_SINGULAR = 1e-6


@dataclass(frozen=True)
class Search:
    """Where it stands; P coefficients.

    point : (P,), where the next slope is opened
    slope : (P,), the last that was opened, at ``point - step``
    step : (P,), what the last point and this one differ by
    inverse : (P, P), of the curvature as it is known so far
    """

    point: Reals
    slope: Reals
    step: Reals
    inverse: Reals

    @classmethod
    def begun(cls, slope: Reals, inverse: Reals) -> Self:
        """By the slope and the curvature's inverse where no column has an effect."""
        step = _limited(applied(inverse, slope))
        return cls(step, slope, step, inverse)

    def next(self, slope: Reals, least: float = 0.0) -> Search:
        """By the slope at ``point``.

        least : of step times change of slope, below which a change is taken for rounding and the
            curvature stays as it is known
        """
        change = self.slope - slope
        along = math.fsum(self.step * change)
        inverse = self.inverse
        if along > least:
            moved = applied(inverse, change)
            crossed = self.step[:, None] * moved[None, :]
            factor = (1.0 + math.fsum(change * moved) / along) / along
            outer = self.step[:, None] * self.step[None, :]
            inverse = inverse - (crossed + crossed.T) / along + factor * outer
        step = _limited(applied(inverse, slope))
        return Search(self.point + step, slope, step, inverse)


def inverse(curvature: Reals, least: float = _SINGULAR) -> Reals:
    """Of a symmetric, positive definite matrix, by Gauss and Jordan without exchange of rows.

    least : the part of a column's own square that must be left of it beside those before it
    Raises JointRefused where it is singular: a column is made of others.
    """
    size = len(curvature)
    left, found = curvature.copy(), np.eye(size)
    scale = np.sqrt(np.maximum(np.diagonal(curvature), 1e-300))
    for place in range(size):
        pivot = left[place, place]
        if not pivot > least * scale[place] ** 2:
            raise JointRefused(
                "columns of the parties determine each other, or one hardly varies: "
                "leave one out, or raise procedure.ridge"
            )
        left[place] /= pivot
        found[place] /= pivot
        factors = left[:, place].copy()
        factors[place] = 0.0
        left -= factors[:, None] * left[place][None, :]
        found -= factors[:, None] * found[place][None, :]
    return (found + found.T) / 2


def dot(first: Reals, second: Reals) -> float:
    """The sum of products, rounded once."""
    return math.fsum((first * second).tolist())


def multiplied(left: Reals, right: Reals) -> Reals:
    """The product of two square matrices."""
    found = np.zeros_like(left)
    for column, row in zip(left.T, right, strict=True):
        found += column[:, None] * row[None, :]
    return found


def applied(matrix: Reals, vector: Reals) -> Reals:
    """The product of a matrix and a vector."""
    found = np.zeros(len(matrix))
    for column, value in zip(matrix.T, vector, strict=True):
        found += column * value
    return found


def _limited(step: Reals) -> Reals:
    longest = float(np.abs(step).max(initial=0.0))
    return step if longest <= LONGEST else step * (LONGEST / longest)
