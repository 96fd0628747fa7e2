"""Preparation under differential privacy: sums of what units add, bounded whatever the rows are.

A task says what each *row* adds, a vector of bounded norm. A unit (a patient, or a row) adds the
mean of its rows', which is no longer than the longest of them: so a patient of many rows moves the
sums no more than one of a single row, and means are over units. What a unit adds is rounded to
multiples of 1 / ``GRID``, so sums are whole numbers, to which noise is added (``common/privacy``).

The most that one unit, come or gone, changes all sums of a phase together is

    GRID * sqrt(sum of the parts' bounds^2)  +  sqrt(D) / 2        (L2, in grid units)

with D numbers, each off by half a unit at most. Which parts there are depends on settings, names of
columns and earlier totals, on no cell.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.figures.sums import Sums

Matrix = NDArray[np.float64]
Rows = NDArray[np.int64]
GRID = 2.0**16
_ROUNDING = 1 + 1e-9
"""Of the means over a unit's rows, in float64."""


@dataclass(frozen=True)
class Bounded:
    """What rows add to a sum of one or more numbers.

    values : N x K; each row's norm is at most the part's bound
    """

    values: Matrix

    def shape(self) -> tuple[int, ...]:
        """Of the sum."""
        return self.values.shape[1:]


@dataclass(frozen=True)
class Cells:
    """Which of ``count`` cells each row is in; -1 for none. Its bound is 1.

    index : N
    """

    index: Rows
    count: int

    def shape(self) -> tuple[int, ...]:
        """Of the sum."""
        return (self.count,)


Parts = dict[str, Bounded | Cells]


class PrivatePreparation(ABC):
    """How a task prepares where ``[privacy]`` covers the preparation.

    phases : how many sums it takes

    It is worked out alike at the server and at every hospital; a hospital adds noise for the
    bounds that it works out itself.
    """

    phases: int

    @abstractmethod
    def parts(self, train: Any, phase: int, totals: Sums) -> Parts:
        """What each row of a training part adds in this phase, by the sum's name. Names and shapes
        are the same for no rows. Raises DataError by place; TaskError for totals that hide too
        much to go on."""

    def check(self, phase: int, totals: Sums) -> None:
        """On the server, before a phase is asked: raise TaskError, with the mend, where noise
        hides what it needs. Default: it needs nothing."""
        return

    @abstractmethod
    def bound(self, names: frozenset[str]) -> float:
        """The most (L2) that one row adds to all sums of these names together."""

    @abstractmethod
    def condense(self, totals: Sums, noise: float) -> Sums:
        """On the server, after the last phase: as ``Task.condense`` gives it.

        noise : standard deviation of what is on each number of the last phase, in grid units

        Raises TaskError, with the mend, where noise hides what is needed.
        """


def unit_sums(parts: Parts, rows: Rows, starts: Rows) -> Sums:
    """The sums of what units add, in grid units: whole numbers, float64.

    rows, starts : unit i has the rows ``rows[starts[i]:starts[i + 1]]``
    """
    sizes = np.diff(starts)
    unit = np.repeat(np.arange(len(sizes)), sizes)
    return {
        name: _of_cells(part, rows, unit, sizes)
        if isinstance(part, Cells)
        else _of_values(part.values, rows, unit, sizes)
        for name, part in parts.items()
    }


def _of_values(values: Matrix, rows: Rows, unit: Rows, sizes: Rows) -> Matrix:
    added = np.zeros((len(sizes), *values.shape[1:]))
    np.add.at(added, unit, values[rows])
    added /= np.maximum(sizes, 1).reshape(-1, *[1] * (values.ndim - 1))
    total: Matrix = np.rint(GRID * added).sum(axis=0)
    return total


def _of_cells(part: Cells, rows: Rows, unit: Rows, sizes: Rows) -> Matrix:
    index = part.index[rows]
    inside = index >= 0
    pairs, counts = np.unique(unit[inside] * part.count + index[inside], return_counts=True)
    whole = np.rint(GRID * counts / sizes[pairs // part.count])
    total: Matrix = np.bincount(pairs % part.count, whole, part.count).astype(np.float64)
    return total


def shapes_of(parts: Parts) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the sums."""
    return {name: part.shape() for name, part in parts.items()}


def sensitivity(preparation: PrivatePreparation, shapes: Mapping[str, tuple[int, ...]]) -> float:
    """The most (L2) that one unit changes these sums together, in grid units."""
    numbers = sum(math.prod(shape) for shape in shapes.values())
    bound = preparation.bound(frozenset(shapes))
    return GRID * bound * _ROUNDING + math.sqrt(numbers) / 2
