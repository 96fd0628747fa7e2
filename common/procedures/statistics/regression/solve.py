"""Symmetric equations, solved alike on every machine.

Hospitals and server work out by themselves where a search stands, from the same totals: with steps
of elementwise operations alone, which IEEE 754 fixes to the last bit, they have the same bytes,
whatever libraries they have. So nothing here adds up with BLAS, LAPACK or ``numpy.sum``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
ALIASED = 1e-11
"""A pivot below so much of its diagonal is none: the column follows from those before it."""


def upper(matrix: Floats) -> Floats:
    """The upper triangle row by row, as it is sent: Q (Q + 1) / 2 numbers of Q x Q."""
    return matrix[np.triu_indices(len(matrix))]


def symmetric(sent: Floats, size: int) -> Floats:
    """The matrix of ``upper``."""
    found = np.zeros((size, size))
    found[np.triu_indices(size)] = sent
    return found + np.triu(found, 1).T


def triangle(size: int) -> tuple[int, ...]:
    """The shape of ``upper``."""
    return (size * (size + 1) // 2,)


def cholesky(matrix: Floats) -> tuple[Floats, Mask]:
    """L with L L' = matrix in the rows and columns that are kept, and which those are: a column
    that follows from earlier ones, or whose diagonal isn't positive, isn't."""
    rest, size = matrix.copy(), len(matrix)
    found, kept = np.zeros((size, size)), np.zeros(size, dtype=np.bool_)
    for at in range(size):
        pivot = rest[at, at]
        if not pivot > ALIASED * abs(matrix[at, at]):
            continue
        column = rest[:, at] / np.sqrt(pivot)
        column[:at] = 0.0
        found[:, at], kept[at] = column, True
        rest = rest - column[:, None] * column[None, :]
    found[~kept] = 0.0
    return found, kept


def solve(factor: Floats, kept: Mask, right: Floats) -> Floats:
    """x with L L' x = right where kept, 0 elsewhere. ``right``: Q, or Q x R."""
    places = np.flatnonzero(kept)
    rest = right.astype(np.float64)
    for at in places:
        rest[at] = rest[at] / factor[at, at]
        below = places[places > at]
        rest[below] = rest[below] - _times(factor[below, at], rest[at])
    for at in places[::-1]:
        rest[at] = rest[at] / factor[at, at]
        above = places[places < at]
        rest[above] = rest[above] - _times(factor[at, above], rest[at])
    rest[~kept] = 0.0
    return rest


def inverse(factor: Floats, kept: Mask) -> Floats:
    """Of the kept rows and columns; 0 elsewhere."""
    return solve(factor, kept, np.eye(len(factor)))


def dot(left: Floats, right: Floats) -> float:
    """Of two vectors, from first to last."""
    total = 0.0
    for one in (left * right).tolist():
        total += one
    return total


def _times(column: Floats, value: Floats) -> Floats:
    return column * value if np.ndim(value) == 0 else column[:, None] * value[None, :]
