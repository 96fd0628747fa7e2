"""Times on a grid, and how far it must reach.

A time is the first multiple of the grid at or after it, its number from 0. Where the settings give
no horizon, the first sum counts rows by the power of two that their number is below: so the grid
ends less than twice as late as the last row, and nothing more exact of the longest time is told.

Shapes: N rows, M times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.procedures.statistics.frame import Frame
from wardround.common.settings.analyses.survival import MOST_TIMES, TimeOptions

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
POWERS = 64
"""Places of the first sum."""
_ROUNDING = 1e-9
"""A quotient so near to a whole number is it: 1.1 / 0.1 is 11."""


@dataclass(frozen=True)
class Observed:
    """Rows of a hospital, shapes (N,).

    usable : rows with a time of 0 or more and an event that is yes or no, and which came before
        their time where entries are named
    start, time : as they stand in the columns, a horizon applied; 0 in rows that aren't usable
    event : 1 or 0
    """

    usable: Mask
    start: Floats
    time: Floats
    event: Floats


def observed(frame: Frame, options: TimeOptions) -> Observed:
    """What the columns say. Raises DataError at a cell that can't be read, by its place."""
    time, event = frame.values(options.time), frame.truths(options.event)
    start = np.zeros(len(time)) if options.entry is None else frame.values(options.entry)
    if options.horizon is not None:
        event = np.where(time > options.horizon, 0.0 * event, event)
        time = np.minimum(time, options.horizon)
    usable = np.isfinite(time) & np.isfinite(event) & np.isfinite(start) & (time >= 0)
    if options.entry is not None:
        usable &= start < time
    values = (np.where(usable, one, 0.0) for one in (np.maximum(start, 0.0), time, event))
    return Observed(usable, *values)


def numbers(times: Floats, grid: float) -> Ints:
    """Of each time the number of the first multiple of the grid at or after it."""
    raw = times / grid
    near = np.rint(raw)
    whole = np.abs(raw - near) <= _ROUNDING * np.maximum(1.0, near)
    return np.minimum(np.where(whole, near, np.ceil(raw)), 2.0**62).astype(np.int64)


def entry_numbers(starts: Floats, grid: float, late: bool) -> Ints:
    """Of each entry the first number at which the row is at risk: after it, where entries are
    named."""
    if not late:
        return np.zeros(len(starts), np.int64)
    raw = starts / grid
    near = np.rint(raw)
    whole = np.abs(raw - near) <= _ROUNDING * np.maximum(1.0, near)
    after = np.minimum(np.where(whole, near, np.floor(raw)), 2.0**62).astype(np.int64) + 1
    return np.where(starts > 0, after, 0)


def powers(places: Ints) -> Floats:
    """How many numbers are 0, 1, 2 to 3, 4 to 7, ...: (POWERS,)."""
    found = np.array([int(place).bit_length() for place in places], np.int64)
    return np.bincount(found, minlength=POWERS).astype(np.float64)


def reach(options: TimeOptions, counted: Floats | None) -> int:
    """M: how many numbers there are, from 0. ``counted``: the first sum; None with a horizon."""
    if options.horizon is not None:
        return int(numbers(np.array([options.horizon]), options.grid)[0]) + 1
    there = np.flatnonzero(counted if counted is not None else [])
    return 2 ** int(there[-1]) if len(there) else 1


def too_many(size: int, grid: float) -> str:
    """A sentence where the grid has too many times; '' where it hasn't."""
    if size <= MOST_TIMES:
        return ""
    wanted = 10.0 ** math.ceil(math.log10(grid * size / MOST_TIMES))
    return (
        f"Times go on to at least {grid * size / 2:g}, which is too many multiples of the grid "
        f"({grid:g}): ask with grid = {wanted:g}, or with a horizon."
    )
