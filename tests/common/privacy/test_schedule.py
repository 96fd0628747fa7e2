"""Schedules: sampling, steps, calibration and adaptive norms against closed forms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.config.load import Config, PrivacyTable, parse_config
from wardround.common.privacy.accounting import Release, epsilon
from wardround.common.privacy.schedule import (
    adapted_norm,
    clipping_bound,
    hospital_schedule,
    stepwise_schedule,
    summed_sampling,
    summed_schedule,
)


def config(*sets: str) -> Config:
    return parse_config("", ["privacy.unit=patient", *sets])


def test_local_steps_sample_at_batch_over_units() -> None:
    found = stepwise_schedule(
        config("privacy.noise_multiplier=1.0", "training.batch_size=20"), 130, 7
    )
    assert found.sampling_rate == 20 / 130 and found.expected_units == pytest.approx(20)
    assert found.steps == 7  # one epoch: ceil(130 / 20)
    found = stepwise_schedule(
        config("privacy.noise_multiplier=1.0", "training.local_steps=3"), 10, 7
    )
    assert (found.sampling_rate, found.steps, found.expected_units) == (1.0, 3, 10)


def test_a_summed_step_takes_every_unit_at_the_same_rate() -> None:
    settings = config("privacy.noise_multiplier=1.0", "training.batch_size=10")
    rate, expected = summed_sampling(settings, [100, 60, 40])
    assert rate == pytest.approx(30 / 200) and expected == pytest.approx(10)
    assert summed_sampling(settings, [5, 3]) == (1.0, 4.0)


@pytest.mark.parametrize("target", [0.5, 3.0])
def test_epsilon_is_reached_in_the_last_round_and_sizes_are_in_it(target: float) -> None:
    settings = config(f"privacy.epsilon={target}", "training.batch_size=32")
    for found in (stepwise_schedule(settings, 300, 10), summed_schedule(settings, 0.1, 30.0, 50)):
        spent = found.epsilon(1e-5)
        assert 0.99 * target < spent <= target
        steps = found.steps * found.rounds
        train = Release(found.noise_multiplier, found.sampling_rate, steps)
        assert epsilon([train], 1e-5) < spent  # announcing sizes costs something
        assert epsilon([train, Release(20.0)], 1e-5) == pytest.approx(spent)
        assert found.epsilon(1e-5, 0) == pytest.approx(epsilon([Release(20.0)], 1e-5))


def test_a_hospital_announces_no_size() -> None:
    found = hospital_schedule(parse_config("", ["privacy.unit=hospital", "privacy.epsilon=5"]), 9)
    assert found.before == () and (found.sampling_rate, found.steps) == (1.0, 1)


@given(z=st.floats(0.3, 20), units=st.floats(1, 1e5), norm=st.floats(1e-3, 1e3), bit=st.booleans())
def test_an_adaptive_norm_costs_what_the_multiplier_says(
    z: float, units: float, norm: float, bit: bool
) -> None:
    """Noise z S on both queries is z' C on the gradient, with 1/z^2 = 1/z'^2 + 1/(2 sigma_b)^2."""
    table = PrivacyTable(unit="example", noise_multiplier=z, clipping="adaptive")
    bound = clipping_bound(table, norm, z, units)
    noise = z * bound.sensitivity
    z_gradient, sigma_b = noise / norm, noise / bound.quantile_scale
    assert 1 / z**2 == pytest.approx(1 / z_gradient**2 + 1 / (2 * sigma_b) ** 2)
    assert z_gradient <= 1.03 * z  # the gradient pays at most 3 %
    unit = math.hypot(norm, (0.5 if bit else -0.5) * bound.quantile_scale)
    assert unit <= bound.sensitivity * (1 + 1e-12)


def test_a_fixed_norm_has_no_further_query() -> None:
    table = PrivacyTable(unit="example", noise_multiplier=1.0)
    assert clipping_bound(table, 3.0, 1.0, 10).sensitivity == 3.0


def test_the_norm_follows_the_quantile() -> None:
    """Andrew et al. 2021, algorithm 1: C exp(-eta (b - gamma))."""
    table = PrivacyTable(unit="example", noise_multiplier=1.0, clipping="adaptive")
    assert adapted_norm(table, 2.0, 0.5) == 2.0
    assert adapted_norm(table, 2.0, 1.0) == pytest.approx(2 * math.exp(-0.1))
    assert adapted_norm(table, 2.0, -7.0) == pytest.approx(2 * math.exp(0.1))  # noise, cut off
