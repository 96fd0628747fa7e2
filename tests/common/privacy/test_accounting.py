"""Accounting against closed forms, dp-accounting, Opacus' PRV, and properties."""

from __future__ import annotations

import math
import warnings
from functools import cache

import pytest
from dp_accounting.pld import privacy_loss_distribution
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from wardround.common.errors import PrivacyRefused
from wardround.common.privacy import accounting as a
from wardround.common.privacy.accounting import Release

few = settings(max_examples=8, deadline=None)
noises, rates = st.floats(0.5, 20), st.floats(1e-4, 0.9)
counts, deltas = st.integers(1, 3000), st.sampled_from([1e-9, 1e-6, 1e-4, 1e-3])


def analytic_delta(z: float, epsilon: float) -> float:
    """Balle and Wang 2018, theorem 8, for sensitivity 1."""
    a, b = 1 / (2 * z) - epsilon * z, -1 / (2 * z) - epsilon * z
    return float(norm.cdf(a) - math.exp(epsilon) * norm.cdf(b))


@cache
def pld(releases: tuple[Release, ...], spacing: float) -> privacy_loss_distribution:
    total = privacy_loss_distribution.identity(spacing)
    for one in releases:
        step = privacy_loss_distribution.from_gaussian_mechanism(
            one.noise_multiplier,
            value_discretization_interval=spacing,
            sampling_prob=one.sampling_rate,
        )
        total = total.compose(step.self_compose(one.steps))
    return total


@pytest.mark.parametrize("z", [0.3, 1.0, 4.0, 50.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-5, 1e-2])
def test_one_gaussian_is_the_analytic_one(z: float, delta: float) -> None:
    found = a.epsilon([Release(z)], delta)
    if analytic_delta(z, 0) <= delta:
        assert found == 0
        return
    exact = brentq(lambda e: analytic_delta(z, e) - delta, 0, 100, xtol=1e-13)
    assert exact * (1 - 1e-6) <= found <= exact * (1 + 1e-6)
    assert a.delta([Release(z)], exact) == pytest.approx(delta, rel=1e-5)


def test_releases_of_everything_add_up_to_one_gaussian() -> None:
    several = [Release(2.0, 1.0, 3), Release(5.0), Release(1.5, 1.0, 2)]
    z = (3 / 4 + 1 / 25 + 2 / 2.25) ** -0.5
    assert a.epsilon(several, 1e-5) == pytest.approx(a.epsilon([Release(z)], 1e-5), rel=1e-9)


@pytest.mark.parametrize(
    ("releases", "spacing"),
    [
        ([Release(1.0, 0.01, 1000)], 1e-4),
        ([Release(0.3, 0.01, 200)], 1e-3),
        ([Release(0.5, 1e-4, 50)], 1e-4),
        ([Release(5.0, 1e-4, 100_000)], 2e-6),
        ([Release(2.0, 0.001, 1)], 1e-6),
        ([Release(20.0, 0.3, 1000)], 1e-4),
        ([Release(1.0, 0.01, 500), Release(2.0, 0.2, 40), Release(6.0, 1.0, 2)], 1e-4),
    ],
)
@pytest.mark.parametrize("delta", [1e-9, 1e-5, 1e-3])
def test_it_agrees_with_dp_accounting(
    releases: list[Release], spacing: float, delta: float
) -> None:
    reference = pld(tuple(releases), spacing)
    upper = reference.get_epsilon_for_delta(delta)
    found = a.epsilon(releases, delta)
    assert found == pytest.approx(upper, rel=0.01, abs=2e-3)
    # dp-accounting's curve at our epsilon, from below: we are never under the true one
    assert reference.get_delta_for_epsilon(found * 1.003 + 1e-5) <= delta
    assert a.delta(releases, found) == pytest.approx(delta, rel=0.01) or found < 2e-3


def test_one_sampled_step_is_the_integral() -> None:
    z, q = 0.8, 0.05

    def exact(epsilon: float) -> float:
        def density(x: float) -> float:
            with_unit = (1 - q) * norm.pdf(x, 0, z) + q * norm.pdf(x, 1, z)
            return max(0.0, with_unit - math.exp(epsilon) * norm.pdf(x, 0, z))

        return float(quad(density, -8, 10, points=[0, 0.5, 1, 1.5, 2], epsabs=1e-13, limit=500)[0])

    for epsilon in (0.1, 0.5, 1.0, 2.0):
        value = exact(epsilon)
        assert value * (1 - 1e-6) <= a.delta([Release(z, q)], epsilon) <= value * 1.002


@pytest.mark.parametrize(
    ("z", "q", "steps", "delta"), [(1.1, 0.01, 2000, 1e-5), (0.7, 0.2, 75, 1e-4)]
)
def test_it_is_within_two_percent_of_opacus_prv(
    z: float, q: float, steps: int, delta: float
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus.accountants import PRVAccountant, RDPAccountant

        prv, rdp = PRVAccountant(), RDPAccountant()
        prv.history = rdp.history = [(z, q, steps)]
        upper, loose = prv.get_epsilon(delta), rdp.get_epsilon(delta)
    found = a.epsilon([Release(z, q, steps)], delta)
    assert found == pytest.approx(upper, rel=0.02)
    assert found < loose


def test_nothing_costs_nothing_and_no_noise_costs_everything() -> None:
    assert a.epsilon([], 1e-5) == a.delta([], 0.0) == 0
    free = [Release(0.0, 1.0, 0), Release(0.0, 0.0, 5), Release(math.inf, 0.5, 5)]
    assert a.epsilon(free, 1e-5) == 0
    assert a.epsilon([Release(0.0, 0.01, 1)], 1e-5) == math.inf
    assert a.delta([Release(0.0)], 5.0) == 1.0
    assert a.delta([Release(1.0, 0.5)], math.inf) == 0


@few
@given(noises, rates, counts, deltas, st.floats(1.05, 3))
def test_more_steps_cost_more_and_more_noise_less(
    z: float, q: float, steps: int, delta: float, factor: float
) -> None:
    here = a.epsilon([Release(z, q, steps)], delta)
    slack = 1.002
    assert a.epsilon([Release(z, q, math.ceil(steps * factor))], delta) * slack + 1e-6 >= here
    assert a.epsilon([Release(z * factor, q, steps)], delta) <= here * slack + 1e-6
    assert here <= a.epsilon([Release(z, 1.0, steps)], delta) * slack + 1e-6


@few
@given(st.lists(st.tuples(noises, rates, st.integers(1, 50)), min_size=1, max_size=4), st.randoms())
def test_order_and_grouping_make_no_difference(
    parts: list[tuple[float, float, int]], random
) -> None:
    releases = [Release(*part) for part in parts] + [Release(3.0), Release(4.0)]
    split = [Release(r.noise_multiplier, r.sampling_rate) for r in releases for _ in range(r.steps)]
    random.shuffle(split)
    assert a.epsilon(split, 1e-5) == a.epsilon(releases, 1e-5)


@pytest.mark.parametrize(
    ("z", "q", "steps", "delta"),
    [
        (0.3, 1e-4, 100_000, 1e-9),
        (0.3, 0.5, 100_000, 1e-5),
        (1000.0, 1e-4, 1, 1e-9),
        (1000.0, 0.99, 100_000, 1e-9),
        (1.0, 1e-4, 1, 1e-9),
        (0.01, 0.5, 10, 1e-5),
        (1e6, 1e-4, 100_000, 1e-12),
    ],
)
def test_extremes_are_finite_and_below_the_cost_without_sampling(
    z: float, q: float, steps: int, delta: float
) -> None:
    found = a.epsilon([Release(z, q, steps)], delta)
    assert 0 <= found <= 1.01 * a.epsilon([Release(z, 1.0, steps)], delta) + 1e-4
    assert a.delta([Release(z, q, steps)], found) <= delta * 1.02


def test_hundreds_of_different_releases_compose() -> None:
    many = [Release(1 + k / 100, 0.01 + k / 10_000, 5) for k in range(150)]
    middle = a.epsilon([Release(1.75, 0.0175, 750)], 1e-5)
    assert middle < a.epsilon(many, 1e-5) < a.epsilon([Release(1.0, 0.025, 750)], 1e-5)


@pytest.mark.parametrize(
    ("target", "delta", "rate", "steps"),
    [(3, 1e-5, 0.01, 1000), (1, 1e-5, 1, 1), (0.1, 1e-9, 1e-4, 100_000), (50, 1e-4, 0.5, 3)],
)
def test_calibrated_noise_meets_its_target_and_no_less_would_do(
    target: float, delta: float, rate: float, steps: int
) -> None:
    z = a.calibrate(target, delta, rate, steps)
    assert a.epsilon([Release(z, rate, steps)], delta) <= target
    assert a.epsilon([Release(z / 1.0012, rate, steps)], delta) > target


def test_calibration_leaves_room_for_what_came_before() -> None:
    before = [Release(10.0), Release(1.0, 0.01, 200)]
    z = a.calibrate(2.0, 1e-5, 0.02, 300, before)
    assert z > a.calibrate(2.0, 1e-5, 0.02, 300)
    assert 1.98 < a.epsilon([*before, Release(z, 0.02, 300)], 1e-5) <= 2.0
    assert a.calibrate(2.0, 1e-5, 0.02, 0, before) == 0
    with pytest.raises(PrivacyRefused, match=r"epsilon = 0.1 leaves nothing .* took 1\.\d+ at"):
        a.calibrate(0.1, 1e-5, 0.02, 300, [*before, Release(4.0)])


def test_steps_left_is_where_the_limit_lies() -> None:
    before, release = [Release(20.0)], Release(1.0, 0.01, 7)
    steps = a.steps_left(release, 2.0, 1e-5, before)
    assert a.epsilon([*before, Release(1.0, 0.01, steps)], 1e-5) <= 2.0
    assert a.epsilon([*before, Release(1.0, 0.01, steps + 1)], 1e-5) > 2.0
    assert a.steps_left(Release(0.3), 1.0, 1e-5) == 0
    assert a.steps_left(release, 0.1, 1e-5, before) == 0
    assert a.steps_left(Release(math.inf), 1.0, 1e-5) == a.MOST_STEPS


def test_published_flamby_settings_undercount() -> None:
    """Calibrated for 15 epochs and then run for 1,500 steps: true epsilon is far above nominal."""
    rate = 4 / 172
    nominal = a.calibrate(1.0, 1e-4, rate, 15 * 43)
    assert 1.4 < a.epsilon([Release(nominal, rate, 1500)], 1e-4) < 2.0


def test_a_coarser_unit_counts_by_two_and_a_finer_one_not_at_all() -> None:
    hospital, patient = ("hospital", Release(4.0)), ("patient", Release(1.0, 0.01, 100))
    assert a.unit_epsilon([hospital], "hospital", 1e-5) == a.epsilon([Release(4.0)], 1e-5)
    halved = a.epsilon([Release(2.0)], 1e-5)
    assert a.unit_epsilon([hospital], "example", 1e-5) == halved
    # the closed form of two centres 2 C apart
    assert a.delta([Release(2.0)], halved) == pytest.approx(analytic_delta(2.0, halved), rel=1e-9)
    assert a.unit_epsilon([hospital, patient], "hospital", 1e-5) == math.inf
    assert a.unit_epsilon([("patient", Release(math.inf))], "hospital", 1e-5) == 0
    both = a.unit_epsilon([patient], "example", 1e-5)
    each = both / 2
    assert (1 + math.exp(each)) * a.delta([patient[1]], each) <= 0.5e-5
    assert both < 2 * 1.6 * a.epsilon([patient[1]], 1e-5)
    assert a.unit_epsilon([("patient", Release(0.3, 0.5, 9000))], "example", 1e-5) == math.inf


@few
@given(st.floats(0.1, 20), st.floats(0.6, 20))
def test_gradient_and_count_together_cost_what_was_asked(z: float, factor: float) -> None:
    count = factor * z
    own = a.adaptive_noise(z, count)
    assert own > z
    together = [Release(own), Release(2 * count)]
    assert a.epsilon(together, 1e-5) == pytest.approx(a.epsilon([Release(z)], 1e-5), rel=1e-6)
    with pytest.raises(ValueError, match="too small"):
        a.adaptive_noise(z, z / 2)


def test_shares_of_noise_add_up_among_the_honest() -> None:
    assert a.share_of_noise(2.0, 4) ** 2 * 4 == pytest.approx(4.0)
    for honest in (0, -1):
        with pytest.raises(ValueError, match="no honest hospital"):
            a.share_of_noise(1.0, honest)


def test_integer_noise_excess_is_the_papers_and_holds_for_a_sum() -> None:
    assert a.integer_noise_excess(3.0, 100) < 1e-35
    assert a.integer_noise_excess(0.5, 1) == 0
    sigma, reach = 0.7, 40
    weights = {k: math.exp(-(k**2) / (2 * sigma**2)) for k in range(-reach, reach + 1)}
    one = {k: w / sum(weights.values()) for k, w in weights.items()}
    wide = {k: math.exp(-(k**2) / (4 * sigma**2)) for k in range(-4, 5)}
    total = sum(math.exp(-(k**2) / (4 * sigma**2)) for k in range(-2 * reach, 2 * reach + 1))
    tau = a.integer_noise_excess(sigma, 2)
    assert tau == pytest.approx(10 * math.exp(-(math.pi**2) * sigma**2))
    for k, weight in wide.items():
        summed = sum(p * one.get(k - j, 0.0) for j, p in one.items())
        assert abs(math.log(summed / (weight / total))) <= tau


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Release(-1.0), "noise_multiplier"),
        (lambda: Release(math.nan), "noise_multiplier"),
        (lambda: Release(1.0, 1.5), "sampling_rate"),
        (lambda: Release(1.0, 0.5, -1), "steps"),
        (lambda: a.epsilon([], 0.0), "delta"),
        (lambda: a.delta([], -1.0), "epsilon"),
        (lambda: a.calibrate(0.0, 1e-5, 0.1, 1), "positive"),
        (lambda: a.integer_noise_excess(0.0, 2), "sigma"),
    ],
)
def test_wrong_arguments_are_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
