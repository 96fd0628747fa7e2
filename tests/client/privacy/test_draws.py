"""Noise that is drawn while the model trains: the same numbers, each once, and no thread stays."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from wardround.client.privacy import draws
from wardround.client.privacy.steps import PrivateSteps
from wardround.common.errors import PrivacyRefused
from wardround.common.privacy.mechanism import Grid
from wardround.common.privacy.noise import Integers, NoiseSource
from wardround.common.privacy.schedule import Bound, Schedule
from wardround.common.settings import PrivacyTable

UNITS, DIMENSION, STEPS = 33, (1 << 16) + 700, 4


class Zeros:
    """Gradients of nothing, which remember who was drawn; the step ``failing`` raises."""

    def __init__(self, dimension: int = DIMENSION, failing: int | None = None) -> None:
        self.parameters: list[tuple[str, nn.Parameter]] = []
        self.dimension, self.failing = dimension, failing
        self.chosen: list[Integers] = []

    def total(self, chosen: Integers, bound: Bound) -> NDArray[np.float64]:
        if len(self.chosen) == self.failing:
            raise RuntimeError("out of memory, say")
        self.chosen.append(chosen)
        return np.zeros(self.dimension)


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else runs here."""
    monkeypatch.setattr("os.getloadavg", lambda: (0.1, 9.0, 9.0))


def steps_of(source: NoiseSource, gradients: Zeros, clipping: str = "flat") -> PrivateSteps:
    table = PrivacyTable(unit="example", noise_multiplier=1.0, clipping=clipping)
    return PrivateSteps(gradients, UNITS, Schedule(1.0, 0.3, STEPS, 1, 9.9), table, 1.0, source)


def released(source: NoiseSource, gradients: Zeros, clipping: str = "flat") -> list[Integers]:
    """Of each step, the noise in grid units."""
    found, steps = [], steps_of(source, gradients, clipping)
    for _ in steps:
        step = Grid.for_local(steps.bound.sensitivity, gradients.dimension).step
        found.append(np.rint(steps.released / step).astype(np.int64))
    return found


def by_hand(source: NoiseSource, dimension: int = DIMENSION) -> Iterator[tuple[Integers, Integers]]:
    """Units, then noise, step after step."""
    for _ in range(STEPS):
        yield (
            source.poisson_sample(UNITS, 0.3),
            Grid.for_local(1.0, dimension).draw(source, 1.0, dimension),
        )


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("ahead")]


@pytest.mark.parametrize(("least", "most"), [(0, 1 << 24), (0, 1 << 16), (1 << 20, 1 << 24)])
def test_a_seed_gives_the_same_round_with_a_thread_in_parts_or_in_line(
    least: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draws, "LEAST_AHEAD", least)
    monkeypatch.setattr(draws, "MOST_DRAWN", most)
    monkeypatch.setattr("wardround.client.privacy.steps.MOST_DRAWN", most)
    source, gradients = NoiseSource.seeded(3, "round"), Zeros()
    found, again = released(source, gradients), NoiseSource.seeded(3, "round")
    for noise, chosen, (units, wanted) in zip(found, gradients.chosen, by_hand(again), strict=True):
        np.testing.assert_array_equal(chosen, units)
        np.testing.assert_array_equal(noise, wanted)
    assert source.random_bytes(16) == again.random_bytes(16), "more was drawn than used"
    assert not threads()


@pytest.mark.parametrize(("load", "thread"), [(0.3, True), (2.4, True), (2.6, False)])
def test_a_machine_without_an_idle_processor_draws_in_line(
    load: float, thread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with closing(iter(steps_of(NoiseSource.system(), Zeros()))) as noised:
        next(noised)
        assert bool(threads()) == thread
    assert not threads()


def test_an_adaptive_norm_changes_nothing_of_what_is_drawn() -> None:
    flat, adaptive = (
        released(NoiseSource.seeded(3, "round"), Zeros(), clipping)
        for clipping in ("flat", "adaptive")
    )
    for one, other in zip(flat, adaptive, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_round_that_fails_leaves_no_thread_and_its_noise_is_never_used() -> None:
    source = NoiseSource.system()
    with pytest.raises(RuntimeError, match="out of memory"):
        with closing(iter(steps_of(source, Zeros(failing=2)))) as noised:
            seen = sum(1 for _ in noised)
            assert seen == 2
    assert not threads()
    # the next round with the same source goes on behind all that was drawn: no step repeats
    every = [*released(source, Zeros()), *released(source, Zeros())]
    assert len({one.tobytes() for one in every}) == 2 * STEPS
    # and one that its caller leaves in the middle, as after an error of the optimiser
    with closing(iter(steps_of(source, Zeros()))) as noised:
        next(noised)
    assert not threads()


def test_noise_that_can_not_be_drawn_is_refused_where_it_is_due() -> None:
    table = PrivacyTable(unit="example", noise_multiplier=1.0)
    schedule = Schedule(1e-9, 0.3, STEPS, 1, 9.9)
    gradients = Zeros()
    with pytest.raises(PrivacyRefused, match="can't be drawn"):
        list(PrivateSteps(gradients, UNITS, schedule, table, 1.0, NoiseSource.system()))
    assert len(gradients.chosen) == 1 and not threads()
