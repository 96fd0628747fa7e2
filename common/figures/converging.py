"""Whether a run ended while its loss was still falling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST = 10
"""Rounds with a loss, below which nothing is said."""
_PARTS = 5
_SHARE = 0.05
"""Of the whole fall: a last fifth that brings less has all but ended it. Of an exponential decay it
brings less once the run is three and a half times as long as its time constant."""
_CHANCES = 2.0
"""Standard errors by which the fall must stand out of the rounds' own scatter."""


@dataclass(frozen=True)
class Falling:
    """since : the first round, from 1, of the last fifth; share : of the fall that it brought"""

    since: int
    share: float


def still_falling(losses: Sequence[float]) -> Falling | None:
    """How much of the whole fall the last fifth of the rounds has brought, by the means of the last
    two fifths; None where it is little, within the scatter, or there are too few rounds.

    losses : finite, one a round

    >>> still_falling([1 - 0.01 * n for n in range(50)])
    Falling(since=41, share=0.22...)
    >>> still_falling([0.5 + 0.5**n for n in range(50)]) is None
    True
    """
    if len(losses) < LEAST:
        return None
    values = np.asarray(losses, dtype=np.float64)
    part = len(values) // _PARTS
    before, last = values[-2 * part : -part], values[-part:]
    fall, whole = float(before.mean() - last.mean()), float(values[0] - last.mean())
    steps = np.diff(values[-2 * part :])
    error = float(steps.std()) / np.sqrt(part)  # of the trend nothing is in their scatter
    if not (whole > 0 and fall >= _SHARE * whole and fall > _CHANCES * error):
        return None
    return Falling(len(values) - part + 1, fall / whole)
