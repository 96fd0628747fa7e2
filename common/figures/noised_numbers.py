"""Figures of a predicted number from noised sums of clipped errors on a whole-number grid.

Everything is in deviations of the target (those that the preparation agreed on), cut off at
``MOST`` of them, and counted in parts of 1 / ``GRID``: of each row six whole numbers between -1024
and 1024, [1, error above 0, error below 0, squared error, target, squared target], of which one of
the two errors is 0. So a row changes all of them together by at most sqrt(5) 1024 (L2), whatever is
in it. What is cut off makes errors smaller than they are where some are beyond three deviations.

Intervals hold noise and chance: of mean errors as ``noised.Share``; RMSE with the spread of squares
of normal errors, as ``intervals.py`` has it; R2 by the delta method on the logarithm of 1 - R2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.figures.areas import Z
from wardround.common.figures.noised import Found, Measured, Share, narrow, positive, stands_out
from wardround.common.figures.noised_classes import rows_found
from wardround.common.figures.sums import Floats, Sums

MOST = 3.0
"""Deviations of the target at which errors and targets are cut off."""
GRID = 1024
SENSITIVITY = math.sqrt(5) * GRID
_NAME, _NUMBERS = "numbers", 6
_COUNT, _ABOVE, _BELOW, _SQUARE, _TARGET, _TARGET_SQUARE = np.eye(_NUMBERS)


def number_sums(predictions_N: Floats, targets_N: Floats) -> Sums:
    """``numbers`` (6,), of predictions and targets in deviations from the agreed mean. A row of
    which one isn't finite adds nothing."""
    known = np.isfinite(predictions_N) & np.isfinite(targets_N)
    with np.errstate(over="ignore"):
        error = np.clip((predictions_N[known] - targets_N[known]) / MOST, -1.0, 1.0)
    target = np.clip(targets_N[known] / MOST, -1.0, 1.0)
    parts = [
        np.ones(len(error)),
        np.maximum(error, 0.0),
        np.maximum(-error, 0.0),
        error**2,
        target,
        target**2,
    ]
    return {_NAME: np.array([np.rint(part * GRID).sum() for part in parts])}


def numbers_measured(sums: Mapping[str, NDArray[Any]], noise: float, deviation: float) -> Measured:
    """Figures of noised ``number_sums``, in the target's own unit but for the loss.

    noise : standard deviation on each number
    deviation : of the target, as agreed. Raises ValueError for sums of another form.
    """
    cells = np.asarray(sums.get(_NAME, np.zeros(0)), dtype=np.float64) / GRID
    if cells.shape != (_NUMBERS,) or not np.isfinite(cells).all():
        raise ValueError(f"{_NAME}: found shape {cells.shape}, expected {_NUMBERS} finite numbers")
    noise, found, unit = noise / GRID, Measured(), MOST * deviation
    rows = float(cells @ _COUNT)
    square = max(0.0, float(cells @ _SQUARE))
    mean_square = square / rows if rows > 0 else math.nan

    def mean(weights: Floats, spread: float) -> Found:
        return Share(weights, _COUNT, max(0.0, spread)).found(cells, noise, clipped=False)

    squares = mean(_SQUARE, 2 * rows * mean_square**2)
    size = float(cells @ (_ABOVE + _BELOW)) / rows if rows > 0 else math.nan
    shift = float(cells @ (_ABOVE - _BELOW)) / rows if rows > 0 else math.nan
    found.add("rmse", positive(_scaled(_root(squares), unit)))
    absolute = mean(_ABOVE + _BELOW, rows * (mean_square - size**2))
    found.add("mae", positive(_scaled(absolute, unit)))
    found.add("r2", _r2(cells, noise))
    bias = narrow(mean(_ABOVE - _BELOW, rows * (mean_square - shift**2)), 1 / MOST)
    found.add("bias", _scaled(bias, unit))
    found.add("examples", rows_found(cells[:1], noise))
    found.add("loss", positive(_scaled(squares, MOST**2)))
    return found


def _root(found: Found) -> Found:
    if found is None or found[0] < 0 or found[1][0] < 0:
        return None
    return math.sqrt(found[0]), (math.sqrt(found[1][0]), math.sqrt(found[1][1]))


def _scaled(found: Found, unit: float) -> Found:
    return found and (found[0] * unit, (found[1][0] * unit, found[1][1] * unit))


def _r2(cells: Floats, noise: float) -> Found:
    """1 - E / S, S = sum y^2 - (sum y)^2 / n; where both stand out."""
    rows, square = float(cells @ _COUNT), float(cells @ _SQUARE)
    if not stands_out(rows, noise):
        return None
    mean = float(cells @ _TARGET) / rows
    spread = float(cells @ _TARGET_SQUARE) - mean**2 * rows
    by_noise = noise * math.sqrt(1 + (2 * mean) ** 2 + mean**4)
    if not (stands_out(square, noise) and stands_out(spread, by_noise)):
        return None
    share = square / spread
    chance = 4 * (1 - min(share, 1 / share)) / rows
    reach = Z * math.sqrt((noise / square) ** 2 + (by_noise / spread) ** 2 + chance)
    low, high = 1 - share * math.exp(reach), 1 - share * math.exp(-reach)
    return narrow((1 - share, (low, high)), 1.0)
