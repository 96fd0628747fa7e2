"""Newton steps towards one or two numbers, from sums that hospitals can add.

What is minimised is a loss, summed over rows, plus a *pull*: half of precision times the squared
distance from a centre, summed over the numbers. As a prior it is normal, of variance 1/precision.
With it the minimum is there and is one, whatever the rows are: none, one class only, all equal.

Each step asks for loss, gradient and curvature at one point, and the next point follows from the
totals so far alone: whoever has them works out the same, so a hospital knows what will be asked.
Far from the minimum steps go by a bound of the curvature where there is one (Jaakkola and Jordan
2000), which always lowers the loss. A full step is taken where it does; else a part of it, where a
straight line through the slopes at its two ends is 0. Arithmetic is in Python's
floats: the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.figures.sums import Sums

Numbers = Sequence[float] | NDArray[np.float64]
Point = tuple[float, ...]
MOST_STEPS = 40
"""Most starts take six; what hasn't come to an end then is refused."""
_DECREMENT = 1e-10
"""Squared, of the last step: it is taken, and what is left of the way is its square."""
_FAR = 1.0
"""Squared decrement from which on a loss of chances is nowhere near to its Newton step's."""
_LONE = ("loss", "rows", "rarer")
_SLACK = 1e-9
_MOST_SHORTER = 30
_LEAST_SHARE = 0.02


@dataclass(frozen=True)
class Pull:
    """Towards what the numbers are pulled, and how strongly."""

    centre: Point
    precision: Point

    def penalty(self, at: Point) -> float:
        """Its part of what is minimised."""
        parts = zip(self.precision, at, self.centre, strict=True)
        return sum(0.5 * p * (x - c) ** 2 for p, x, c in parts)


@dataclass(frozen=True)
class Course:
    """How far the steps have come.

    at : where the next sums are taken; where it is done, the result
    done : nothing more is asked
    """

    at: Point
    done: bool


def entries(numbers: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the sums of a step over so many numbers.

    ``bound``: a curvature that lies above that of the loss, or the same again; ``rarer``: how many
    rows have outcome 1, or an event (``families.py``).
    """
    curvature = (numbers * (numbers + 1) // 2,)
    found: dict[str, tuple[int, ...]] = {"gradient": (numbers,)}
    return found | {"curvature": curvature, "bound": curvature} | dict.fromkeys(_LONE, (1,))


def course(earlier: Sequence[Sums], pull: Pull) -> Course:
    """Where the totals so far lead. ``earlier``: of each step, in order, with ``entries``.

    Raises ValueError for totals that no rows could have given.
    """
    at = best = step = pull.centre
    value, down, shorter = float("inf"), 0.0, 0
    for sums in earlier:
        found = float(sums["loss"][0]) + pull.penalty(at)
        if not found <= value + _SLACK * (1 + abs(value)) and value < float("inf"):
            up = _along(sums, pull, at, step)
            share = down / (down - up) if up > 0 else 0.5
            share = min(max(share, _LEAST_SHARE), 1 - _LEAST_SHARE)
            step, down, shorter = tuple(x * share for x in step), down * share, shorter + 1
            if shorter > _MOST_SHORTER:
                return Course(best, True)
        else:
            step, decrement = _newton(sums, pull, at)
            best, value, shorter, down = at, found, 0, -decrement
            if decrement <= _DECREMENT:
                return Course(_moved(best, step), True)
        at = _moved(best, step)
    return Course(at, False)


def inverse_curvature(sums: Sums, pull: Pull) -> list[list[float]]:
    """The inverse of the curvature with the pull: the covariance of the numbers, as the model of
    their family has it. Raises ValueError where it isn't positive."""
    return _inverse(_matrix(sums["curvature"], pull.precision))


def _along(sums: Sums, pull: Pull, at: Point, step: Point) -> float:
    """The slope at a point in the direction of a step."""
    return sum(a * b for a, b in zip(_gradient(sums, pull, at), step, strict=True))


def _gradient(sums: Sums, pull: Pull, at: Point) -> Point:
    parts = zip(sums["gradient"], pull.precision, at, pull.centre, strict=True)
    return tuple(float(g) + p * (x - c) for g, p, x, c in parts)


def _newton(sums: Sums, pull: Pull, at: Point) -> tuple[Point, float]:
    """The step, and its squared decrement."""
    wanted = entries(len(at))
    if any(np.shape(sums.get(name, 0)) != shape for name, shape in wanted.items()):
        raise ValueError("the sums of a step have another form")
    slope = _gradient(sums, pull, at)
    found = _down(sums["curvature"], pull, slope)
    if found[1] > _FAR:
        found = _down(sums["bound"], pull, slope)
    return found


def _down(curvature: Numbers, pull: Pull, slope: Point) -> tuple[Point, float]:
    inverse = _inverse(_matrix(curvature, pull.precision))
    step = tuple(-sum(a * b for a, b in zip(row, slope, strict=True)) for row in inverse)
    decrement = -sum(a * b for a, b in zip(step, slope, strict=True))
    if not all(abs(x) < float("inf") for x in (*step, decrement)):
        raise ValueError("the sums of a step aren't finite")
    return step, decrement


def _matrix(upper: Numbers, precision: Point) -> list[list[float]]:
    """The whole of an upper triangle, row by row, with the pull on its diagonal."""
    count = len(precision)
    whole = [[0.0] * count for _ in range(count)]
    places = [(i, j) for i in range(count) for j in range(i, count)]
    for (i, j), value in zip(places, upper, strict=True):
        whole[i][j] = whole[j][i] = float(value) + (precision[i] if i == j else 0.0)
    return whole


def _inverse(matrix: list[list[float]]) -> list[list[float]]:
    """Of one or two numbers. Raises ValueError unless the matrix is positive definite."""
    if len(matrix) == 1:
        if not matrix[0][0] > 0:
            raise ValueError("the curvature of a step isn't positive")
        return [[1 / matrix[0][0]]]
    (a, b), (_, d) = matrix
    determinant = a * d - b * b
    if not (a > 0 and determinant > 0):
        raise ValueError("the curvature of a step isn't positive")
    return [[d / determinant, -b / determinant], [-b / determinant, a / determinant]]


def _moved(at: Point, step: Point) -> Point:
    return tuple(a + b for a, b in zip(at, step, strict=True))
