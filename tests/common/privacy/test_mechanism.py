"""The integer mechanism: what rounding may do to a sensitivity, and that the noise is all there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from wardround.common.errors import PrivacyRefused
from wardround.common.privacy.accounting import share_of_noise
from wardround.common.privacy.mechanism import NOISE_REACH, Grid, ring_reach
from wardround.common.privacy.noise import NoiseSource
from wardround.common.secagg.encoding import Encoding, add_whole, dequantise

EACH = 1e-8


@given(
    dimension=st.integers(1, 40),
    sensitivity=st.floats(1e-3, 1e3),
    fineness=st.floats(0.2, 1e4),
    seed=st.integers(0, 2**32),
    most=st.sampled_from([None, 3]),
)
def test_rounded_neighbours_are_no_further_apart_than_the_bound(
    dimension: int, sensitivity: float, fineness: float, seed: int, most: int | None
) -> None:
    grid = Grid(sensitivity / fineness, sensitivity, dimension)
    generator = np.random.default_rng(seed)
    vector = generator.normal(size=dimension) * sensitivity
    unit = generator.normal(size=dimension)
    unit *= sensitivity / np.linalg.norm(unit)
    apart = grid.round(vector + unit, most) - grid.round(vector, most)
    assert np.linalg.norm(apart) <= grid.sensitivity_steps


def test_the_bound_is_nearly_reached() -> None:
    """Every coordinate rounded apart: without the root of D the bound would be wrong."""
    dimension = 10_000
    grid = Grid(1.0, 0.01, dimension)
    vector = np.full(dimension, 0.5 - 0.4999e-4)
    apart = grid.round(vector + 1e-4) - grid.round(vector)
    assert np.linalg.norm(apart) == 100.0 > grid.sensitivity
    assert np.linalg.norm(apart) <= grid.sensitivity_steps


@pytest.mark.parametrize("dimension", [1, 31, 5000])
def test_local_noise_has_its_multiplier_with_a_thousandth_for_rounding(dimension: int) -> None:
    grid = Grid.for_local(2.5, dimension)
    assert 1 < grid.sensitivity_steps * grid.step / 2.5 < 1.0021
    values = np.linspace(-1, 1, dimension)
    source, z, times = NoiseSource.system(), 1.5, max(1, min(40_000, 200_000 // dimension))
    noise = np.concatenate([grid.release(values, z, source) - values for _ in range(times)])
    wanted = 1.5 * 2.5
    assert abs(noise.std() / wanted - 1) < norm.isf(EACH / 2) / math.sqrt(2 * noise.size) + 0.0021
    assert abs(noise.mean()) < norm.isf(EACH / 2) * wanted / math.sqrt(noise.size) + grid.step


def test_what_is_released_lies_on_the_grid() -> None:
    """Nothing of the low bits of the values is left."""
    grid = Grid.for_local(1.0, 3)
    released = grid.release(np.array([0.1, 0.2, 0.3]), 1.0, NoiseSource.system()) / grid.step
    np.testing.assert_allclose(released, np.rint(released), rtol=0, atol=1e-6)


@given(
    scale=st.sampled_from([0.0, 1.0, 1e20]), size=st.integers(0, 40_000), seed=st.integers(0, 99)
)
@settings(max_examples=20, deadline=None)
def test_noise_is_added_to_whole_numbers_without_rounding(
    scale: float, size: int, seed: int
) -> None:
    """Beyond what float64 has of whole numbers values are cut; then every sum is exact."""
    grid, generator = Grid(0.37, 1.0, max(1, size)), np.random.default_rng(seed)
    values = generator.normal(size=size).astype(np.float32) * np.float32(scale)
    noise = generator.integers(-(2**44), 2**44, size)
    wanted = (grid.round(values) + noise) * np.float64(grid.step)
    np.testing.assert_array_equal(grid.noised(values, noise), wanted)
    assert np.abs(grid.round(values)).max(initial=0) <= 2**52


@pytest.mark.parametrize("most", [1, 2, 1000])
def test_no_rounded_number_is_beyond_what_the_ring_has_room_for(most: int) -> None:
    """Also where one is, and the others are small."""
    found = Grid(0.5, 1.0, 4).round(0.5 * np.array([most, most + 1, -most - 3, 0.2]), most)
    assert found.tolist() == [most, most, -most, 0]


@given(st.floats(1e-6, 1e6), st.integers(1, 10**8), st.floats(0.1, 30))
def test_local_noise_in_steps_does_not_depend_on_the_sensitivity(
    sensitivity: float, dimension: int, z: float
) -> None:
    """To the last bit: it is drawn before an adaptive bound is known."""
    grid, other = Grid.for_local(sensitivity, dimension), Grid.for_local(1.0, dimension)
    assert grid.sigma(z) == other.sigma(z)
    divided = Grid(grid.step, sensitivity, dimension)
    assert math.isclose(grid.sigma(z), divided.sigma(z), rel_tol=1e-14)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(PrivacyRefused, match="NaN or infinite"):
        Grid.for_local(1.0, 2).round(np.array([0.0, bad]))
    with pytest.raises(PrivacyRefused, match="positive"):
        Grid(0.1, bad, 1)


def test_a_grid_too_coarse_for_gaussian_sums_is_refused() -> None:
    with pytest.raises(PrivacyRefused, match="can't be drawn"):
        Grid(1.0, 0.5, 1).draw(NoiseSource.system(), 1.9, 1)


@pytest.mark.parametrize("clients", [1, 3, 10, 1000])
@pytest.mark.parametrize("z", [0.3, 1.0, 30.0])
def test_the_ring_holds_the_sum_of_extremes(clients: int, z: float) -> None:
    """All clients at the bound and the sum of their noise twelve deviations out: no wrap."""
    sensitivity, bound = 1.0, 2.0
    share = share_of_noise(z, clients) * sensitivity
    encoding = Encoding(32, ring_reach(bound, share, clients), clients, 1, fine=True)
    grid = Grid(encoding.step, sensitivity, 1)
    words, total = np.zeros(1, np.uint32), 0
    reach = NOISE_REACH * grid.sigma(share_of_noise(z, clients)) * math.sqrt(clients)
    for index in range(clients):
        own = int(grid.round(np.array([bound]), encoding.levels)[0])
        own += int(reach / 1.01) if index == 0 else 0  # as if one had drawn all of it
        total += own
        add_whole(np.array([own]), words)
    assert dequantise(words, 1.0)[0] == pytest.approx(total, rel=1e-6)


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=20))
def test_whole_numbers_add_up_modulo_the_ring(numbers: list[int]) -> None:
    words = np.zeros(1, np.uint32)
    for number in numbers:
        add_whole(np.array([number], np.int64), words)
    assert int(words[0]) == sum(numbers) % 2**32
