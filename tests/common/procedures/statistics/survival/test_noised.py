"""Bands of noised counts hold what they say."""

from __future__ import annotations

import numpy as np
import pytest

from wardround.common.procedures.statistics.survival.curves import LifeTable, Z, curve
from wardround.common.procedures.statistics.survival.noised import noised_survival


def counts(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    time = np.ceil(draw.exponential(10, rows)).astype(int).clip(max=24)
    event = (draw.random(rows) < 0.7) & (time < 24)
    return np.bincount(time, event, 25), np.bincount(time, ~event, 25)


def test_without_noise_it_is_kaplan_meier_with_greenwood() -> None:
    events, censored = counts(0, 2_000)
    start = np.zeros(25)
    start[0] = 2_000
    exact = curve(LifeTable.of(np.arange(25.0), events, censored, start))
    survival, error = noised_survival(events, censored, 0.0)
    np.testing.assert_allclose(survival, exact.survival[: len(survival)], rtol=1e-12)
    np.testing.assert_allclose(error**2, exact.greenwood[: len(survival)], rtol=1e-12)


@pytest.mark.parametrize("noise", [5.0, 20.0])
def test_bands_hold_the_true_curve_as_often_as_they_say(noise: float) -> None:
    """Of 400 draws of rows and noise, at each time; by chance alone 95 % come out at 92 to 98 %."""
    leaving, held, times = 1 - np.exp(-0.1), np.zeros(12), 400
    truth = np.cumprod(np.concatenate([[1.0], np.full(24, 1 - 0.7 * leaving)]))
    for seed in range(times):
        events, censored = counts(seed, 3_000)
        draw = np.random.default_rng(10_000 + seed)
        noisy = [np.rint(one + draw.normal(0, noise, 25)) for one in (events, censored)]
        survival, error = noised_survival(*noisy, noise)
        off = np.abs(survival[:12] - truth[:12])
        held += off <= Z * error[:12] * survival[:12] + 1e-12
    assert (held / times >= 0.92).all()


def test_a_curve_ends_where_noise_is_larger_than_who_is_left() -> None:
    events, censored = counts(1, 300)
    survival, _ = noised_survival(events, censored, 10.0)
    assert 0 < len(survival) < 25
    assert (np.diff(survival) <= 0).all()
    lost, _ = noised_survival(events * 0 - 3, censored * 0, 10.0)
    assert len(lost) == 0
