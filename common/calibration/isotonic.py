"""The non-decreasing curve that fits outcomes best: pool adjacent violators (Ayer et al. 1955).

Between its knots the curve is straight, outside it is flat, as scikit-learn's IsotonicRegression
has it with ``out_of_bounds="clip"``. Logits are rounded to hundredths first, so that no knot is one
patient's score, and no probability is nearer to 0 or 1 than half a row of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.calibration.families import Floats, logit

STEP = 0.01
LEAST_ROWS, LEAST_OF_EACH = 1000, 100
"""With fewer rows, or rows of one outcome, the curve follows chance more than the model's error."""
Knots = tuple[tuple[float, float], ...]
"""(logit, probability), both rising."""


def rows_suffice(rows: int, rarer: int) -> bool:
    """Whether a curve may be fitted at all."""
    return rows >= LEAST_ROWS and min(rarer, rows - rarer) >= LEAST_OF_EACH


def fit(logits_N: Floats, targets_N: NDArray[Any]) -> Knots:
    """The curve of these rows, at least one."""
    places, number = np.unique(np.round(logits_N / STEP) * STEP, return_inverse=True)
    counts = np.bincount(number).astype(np.float64)
    ones = np.bincount(number, targets_N.astype(np.float64)).astype(np.float64)
    values = _pooled(ones, counts)
    least = 0.5 / len(logits_N)
    values = np.clip(values, least, 1 - least)
    ends = np.flatnonzero(np.diff(values) > 0)
    kept = np.unique(np.concatenate([[0], ends, ends + 1, [len(values) - 1]]))
    return tuple(
        (round(float(places[k]), 2), round(float(values[k]), 6)) for k in kept.astype(int).tolist()
    )


def logits_of(knots: Sequence[Sequence[float]], logits_N: Floats) -> Floats:
    """The curve's value at each logit, as a logit."""
    places, values = np.array(knots, dtype=np.float64).T
    return logit(np.interp(logits_N, places, values))


def _pooled(ones: Floats, counts: Floats) -> Floats:
    """The mean of each place, where places that fall are one: O(N)."""
    blocks: list[list[float]] = []  # ones, rows, places
    for found, rows in zip(ones.tolist(), counts.tolist(), strict=True):
        blocks.append([found, rows, 1])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    means = np.array([one / rows for one, rows, _ in blocks])
    return np.repeat(means, [int(places) for *_, places in blocks])
