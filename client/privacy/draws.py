"""What a round of local DP-SGD draws: units and noise, made by a thread while the model trains.

Noise for a small model takes as long as its gradient. What is drawn and in which order doesn't
depend on when or by whom: a step's noise, in grid units, follows from the multiplier and the number
of parameters alone (``Grid.for_local``), so a seed gives the same round with a thread or without.

Nothing is drawn twice or handed over twice. What a round that fails has not used is gone with it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator

import numpy as np

from wardround.client.training.ahead import made_ahead
from wardround.common.privacy.mechanism import Grid
from wardround.common.privacy.noise import Integers, NoiseSource
from wardround.common.privacy.schedule import Schedule

LEAST_AHEAD = 1 << 14
"""Numbers of noise from which a thread saves more time than it takes."""
MOST_DRAWN = 1 << 24
"""Numbers at a time, 128 MiB; whole pieces of a source's stream, so that parts are the whole."""
_NONE: Integers = np.zeros(0, np.int64)


def draws_of(
    source: NoiseSource, schedule: Schedule, units: int, dimension: int
) -> Generator[tuple[Integers, Integers], None, None]:
    """All draws of a round, in the source's order, each as (noise, units).

    First no noise and the units of the first step; then for each step its noise, int64 in grid
    units, in parts of ``MOST_DRAWN`` numbers, and with the last part the units of the next step.
    Until it ends or is closed, the source is its own.

    Raises PrivacyRefused, at the first noise, if the grid is too coarse for it.
    """
    grid = Grid.for_local(1.0, dimension)  # of any sensitivity: the noise is the same

    def draw(job: tuple[int, bool]) -> tuple[Integers, Integers]:
        count, samples = job
        noise = grid.draw(source, schedule.noise_multiplier, count) if count else _NONE
        return noise, source.poisson_sample(units, schedule.sampling_rate) if samples else _NONE

    def jobs() -> Iterator[tuple[int, bool]]:
        yield 0, True
        for step in range(1, schedule.steps + 1):
            for start in range(0, dimension, MOST_DRAWN):
                rest = dimension - start
                yield min(MOST_DRAWN, rest), rest <= MOST_DRAWN and step < schedule.steps

    ahead = dimension >= LEAST_AHEAD and not crowded()
    yield from made_ahead(draw, jobs()) if ahead else map(draw, jobs())


def crowded() -> bool:
    """Whether more is running on this machine than it has processors for. Two threads of Python
    hand over to each other many times a step, and each time wait for their turn among the others:
    there one thread is faster by far."""
    with contextlib.suppress(OSError, AttributeError):  # a system that doesn't tell
        return os.getloadavg()[0] > (os.cpu_count() or 1) + 0.5
    return False
