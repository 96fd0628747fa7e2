"""T6: a run says where it ended before its loss had stopped falling."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wardround.common.figures.converging import Falling, still_falling


def test_a_line_down_has_brought_its_share() -> None:
    """Of n rounds the means of the last two fifths are n / 5 steps apart."""
    found = still_falling([3 - 0.5 * n for n in range(100)])
    assert found == Falling(81, pytest.approx(20 / 89.5))


@pytest.mark.parametrize(("times", "told"), [(1, True), (3, True), (4, False), (8, False)])
def test_an_exponential_decay_is_over_after_a_few_of_its_times(times: float, told: bool) -> None:
    losses = [0.3 + math.exp(-times * n / 200) for n in range(200)]
    assert (still_falling(losses) is not None) is told


@pytest.mark.parametrize("seed", range(8))
def test_scatter_alone_is_no_fall_and_hides_none(seed: int) -> None:
    draw = np.random.default_rng(seed)
    decayed = 0.5 + np.exp(-np.arange(60) / 3) + 0.02 * draw.normal(size=60)
    assert still_falling(decayed.tolist()) is None
    falling = 0.7 - 0.01 * np.arange(60) + 0.02 * draw.normal(size=60)
    assert still_falling(falling.tolist()) is not None


def test_what_rises_stays_or_is_short_says_nothing() -> None:
    assert still_falling([0.1 * n for n in range(40)]) is None
    assert still_falling([0.7] * 40) is None
    assert still_falling([1.0 - 0.1 * n for n in range(9)]) is None
