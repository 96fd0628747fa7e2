"""Discrete Gaussian noise: its table, its distribution, its sources."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kstest, norm

from wardround.common.privacy import noise
from wardround.common.privacy.noise import MOST_TOGETHER, NoiseSource, discrete_gaussians

EACH = 1e-8  # probability that one comparison with real randomness fails by chance


def masses(sigma: float) -> dict[int, float]:
    """The definition, in 60 digits: exp(-k^2 / (2 sigma^2)) over its sum."""
    with localcontext() as context:
        context.prec = 60
        reach = math.ceil(12 * sigma)
        scale = 2 * Decimal(sigma) ** 2
        weights = {k: (-Decimal(k * k) / scale).exp() for k in range(-reach, reach + 1)}
        total = sum(weights.values())
        return {k: float(weight / total) for k, weight in weights.items()}


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.3, 20.0])
def test_the_table_is_the_definitions_distribution_to_64_bits(sigma: float) -> None:
    table = noise._table(sigma)
    thresholds = [0, *(int(x) for x in table.thresholds), 2**64]
    drawn = {i - table.reach: b - a for i, (a, b) in enumerate(itertools.pairwise(thresholds))}
    for k, mass in masses(sigma).items():
        assert abs(drawn.get(k, 0) / 2**64 - mass) <= 2 * 2.0**-64 + 1e-15 * mass


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0, 17.5])
def test_draws_have_the_definitions_frequencies(sigma: float) -> None:
    size = 400_000
    drawn = NoiseSource.system().discrete_gaussian(sigma, size)
    expected = {k: mass * size for k, mass in masses(sigma).items() if mass * size >= 20}
    observed = np.array([np.count_nonzero(drawn == k) for k in expected], np.float64)
    wanted = np.array(list(expected.values()))
    rest = size - observed.sum(), size - wanted.sum()
    statistic = ((observed - wanted) ** 2 / wanted).sum()
    if rest[1] >= 5:
        statistic += (rest[0] - rest[1]) ** 2 / rest[1]
    assert statistic < chi2.isf(EACH, len(expected))


@pytest.mark.parametrize("sigma", [300.0, 2048.0, 2049.0, 1e5, 3e7, 2.0**40])
def test_a_large_sigma_is_normal_in_variance_and_in_distribution(sigma: float) -> None:
    """Micciancio and Walter's sums: a wrong factor would show in the variance."""
    size = 200_000
    drawn = NoiseSource.system().discrete_gaussian(sigma, size) / sigma
    assert abs(drawn.mean()) < norm.isf(EACH / 2) / math.sqrt(size)
    assert abs(drawn.var() - 1) < norm.isf(EACH / 2) * math.sqrt(2 / size)
    assert (
        kstest(drawn + np.random.default_rng(0).uniform(-0.5, 0.5, size) / sigma, "norm").pvalue
        > EACH
    )


@given(st.floats(2049, 2.0**40))
@settings(deadline=None, max_examples=40)
def test_every_sum_of_tables_has_its_sigma_and_is_smooth_enough(sigma: float) -> None:
    """sigma^2 adds up, and both parts are at least 2.14 times what they are scaled against."""
    factors, base = noise._decompose(sigma)
    variance = base[0] ** 2
    for factor, small in zip(factors, base[1:], strict=True):
        assert min(math.sqrt(variance), small) >= 2.14 * factor or small >= 2.14 * factor
        variance = variance * factor**2 + small**2
    assert math.isclose(math.sqrt(variance), sigma, rel_tol=1e-12)
    assert max(base) <= noise._LARGEST_TABLE and min(base) >= noise.SMALLEST_SIGMA


@pytest.mark.parametrize("sigma", [0.5, 3.3, 300.0, 1023.0])
def test_the_guide_is_a_shortcut_and_nothing_else(sigma: float) -> None:
    """A draw is the number of thresholds that its 64 bits have reached, however it is found: by the
    first 16 alone where all that begin so agree, else by the rest."""
    table, generator = noise._table(sigma), np.random.default_rng(0)
    for low in (0, 2**48 - 1, generator.integers(2**48, size=2**16, dtype=np.uint64)):
        high = np.arange(2**16, dtype=np.uint16)
        low = np.broadcast_to(np.asarray(low, np.uint64), high.shape)
        full = high.astype(np.uint64) << np.uint64(48) | low
        wanted = np.searchsorted(table.thresholds, full, side="right") - table.reach
        found, closed = table.guide.copy(), table.guide < noise._OPEN
        found[~closed] = table.decide(high[~closed], low[~closed], table.guide[~closed])
        np.testing.assert_array_equal(found, wanted)
    on = table.thresholds[table.thresholds < 2**64 - 1]  # at a threshold, and just below it
    for full in (on, on - np.uint64(1)):
        high, low = (full >> np.uint64(48)).astype(np.uint16), full & np.uint64(2**48 - 1)
        guided = table.guide[high]
        opened = guided >= noise._OPEN
        found = table.decide(high[opened], low[opened], guided[opened])
        wanted = np.searchsorted(table.thresholds, full[opened], side="right") - table.reach
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("sigma", [3.3, 409_600.7, 2.0**33])
def test_draws_are_what_their_definition_makes_of_the_stream(sigma: float) -> None:
    """Two bytes for each number of a piece, eight for each that these leave open, table after
    table: by plain searches, of bytes that are taken beside."""
    size, bits = noise._PIECE + 999, NoiseSource.seeded(5, "stream")
    drawn = NoiseSource.seeded(5, "stream").discrete_gaussian(sigma, size)
    factors, base = noise._decompose(sigma)
    for start in range(0, size, noise._PIECE):
        count = min(noise._PIECE, size - start)
        total = np.zeros(count, np.int64)
        for factor, small in zip([0, *factors], base, strict=True):
            table = noise._table(small)
            full = np.frombuffer(bits.random_bytes(2 * count), np.uint16).astype(np.uint64)
            full <<= np.uint64(48)
            last = full | np.uint64(2**48 - 1)
            ends = (np.searchsorted(table.thresholds, one, side="right") for one in (full, last))
            open_ = np.flatnonzero(np.not_equal(*ends))
            low = np.frombuffer(bits.random_bytes(8 * len(open_)), np.uint64)
            full[open_] |= low >> np.uint64(16)
            found = np.searchsorted(table.thresholds, full, side="right") - table.reach
            total = total * factor + found
        np.testing.assert_array_equal(drawn[start : start + count], total)


def test_seeded_draws_repeat_and_say_that_they_are_simulated() -> None:
    def draw(*parts: int | str) -> list[int]:
        return NoiseSource.seeded(1, "test", *parts).discrete_gaussian(5.0, 20).tolist()

    assert draw(3, "a") == draw(3, "a")
    assert draw(3, "a") != draw(3, "b") != draw(4, "a")
    assert NoiseSource.seeded(1, "test").simulated and not NoiseSource.system().simulated
    real = [NoiseSource.system().random_bytes(16) for _ in range(2)]
    assert real[0] != real[1]


def test_a_call_in_pieces_goes_on_in_the_stream() -> None:
    """No piece of the vector repeats another's noise."""
    drawn = NoiseSource.seeded(1, "test").discrete_gaussian(1e6, 3 << 16)
    assert len(np.unique(drawn)) > 0.95 * len(drawn) * (1 - 0.05)


@pytest.mark.parametrize("rate", [1e-3, 0.1, 0.5, 0.999])
def test_poisson_sampling_takes_each_unit_with_its_rate(rate: float) -> None:
    source, size, times = NoiseSource.system(), 1000, 200
    taken = np.zeros(size)
    for _ in range(times):
        chosen = source.poisson_sample(size, rate)
        assert (np.diff(chosen) > 0).all()
        taken[chosen] += 1
    total, deviation = size * times * rate, math.sqrt(size * times * rate * (1 - rate))
    assert abs(taken.sum() - total) < norm.isf(EACH / 2) * deviation


def test_a_rate_of_one_takes_all_and_an_impossible_one_is_an_error() -> None:
    source = NoiseSource.system()
    assert source.poisson_sample(5, 1.0).tolist() == [0, 1, 2, 3, 4]
    for rate in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="sampling rate"):
            source.poisson_sample(5, rate)
    for sigma in (0.4, 2.0**41, math.nan):
        with pytest.raises(ValueError, match="sigma"):
            source.discrete_gaussian(sigma, 5)


@settings(max_examples=20)
@given(
    sigma=st.sampled_from([0.5, 3.0, 800.0, 5e4, 3e8]),
    size=st.sampled_from([1, 62, 5000]),
    clients=st.integers(1, 5),
    steps=st.integers(1, 3),
)
def test_many_sources_at_once_draw_what_each_draws_alone(
    sigma: float, size: int, clients: int, steps: int
) -> None:
    one, other = (
        [NoiseSource.seeded(7, "many", number) for number in range(clients)] for _ in range(2)
    )
    for _ in range(steps):
        together = discrete_gaussians(one, sigma, size)
        for source, found in zip(other, together, strict=True):
            assert np.array_equal(source.discrete_gaussian(sigma, size), found)
        for a, b in zip(one, other, strict=True):  # the streams stand at the same place
            assert np.array_equal(a.poisson_sample(9, 0.5), b.poisson_sample(9, 0.5))


def test_no_more_are_drawn_at_once_than_a_piece_holds() -> None:
    with pytest.raises(ValueError, match="sigma"):
        discrete_gaussians([NoiseSource.seeded(1, "x")], 3.0, MOST_TOGETHER + 1)
