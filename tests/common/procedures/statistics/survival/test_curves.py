"""Curves and tests from counts, against lifelines on the rows."""

from __future__ import annotations

import numpy as np
import pytest
from lifelines import KaplanMeierFitter, NelsonAalenFitter
from lifelines.statistics import multivariate_logrank_test
from lifelines.utils import median_survival_times, restricted_mean_survival_time

from wardround.common.procedures.statistics.survival.curves import (
    LifeTable,
    curve,
    least,
    median,
    restricted_mean,
)
from wardround.common.procedures.statistics.survival.logrank import log_rank

pytestmark = pytest.mark.filterwarnings("ignore:Starting with pandas")  # lifelines' calls


def rows(seed: int, count: int, last: float) -> tuple[np.ndarray, np.ndarray]:
    """Whole days with ties; the longest ones are events where ``last`` is 1."""
    draw = np.random.default_rng(seed)
    days = np.ceil(draw.exponential(20, count)).clip(0, 60)
    died = draw.random(count) < 0.6
    died[days == days.max()] = bool(last)
    return days, died.astype(float)


def table(days: np.ndarray, died: np.ndarray, entry: np.ndarray | None = None) -> LifeTable:
    size = int(days.max()) + 1
    late = np.zeros(len(days), int) if entry is None else entry.astype(int) + 1
    return LifeTable.of(
        np.arange(size, dtype=float),
        np.bincount(days.astype(int), died, size),
        np.bincount(days.astype(int), 1 - died, size),
        np.bincount(late, minlength=size).astype(float)[:size],
    )


@pytest.mark.parametrize(("count", "last"), [(1, 1), (1, 0), (33, 0), (400, 1)])
def test_kaplan_meier_and_nelson_aalen_are_those_of_lifelines(count: int, last: float) -> None:
    days, died = rows(count, count, last)
    found = curve(table(days, died))
    theirs = KaplanMeierFitter().fit(days, died, timeline=found.times)
    np.testing.assert_allclose(found.survival, theirs.survival_function_.iloc[:, 0], atol=1e-12)
    limits = theirs.confidence_interval_.to_numpy()
    np.testing.assert_allclose(np.c_[found.lower, found.upper], limits, atol=1e-12)
    hazard = NelsonAalenFitter().fit(days, died, timeline=found.times)
    np.testing.assert_allclose(found.hazard, hazard.cumulative_hazard_.iloc[:, 0], atol=1e-12)
    limits = hazard.confidence_interval_.to_numpy()
    np.testing.assert_allclose(np.c_[found.hazard_lower, found.hazard_upper], limits, rtol=1e-12)
    middle, low, high = median(found)
    assert middle == theirs.median_survival_time_
    assert (low, high) == tuple(median_survival_times(theirs.confidence_interval_).iloc[0])
    horizon = float(days.max()) * 0.7
    mean, _ = restricted_mean(table(days, died), horizon)
    assert mean == pytest.approx(restricted_mean_survival_time(theirs, t=horizon), rel=1e-12)


def test_many_ties_at_a_time_lose_no_digits_of_the_hazard() -> None:
    died = np.array([0.0, 3_000.0, 400.0])
    found = curve(LifeTable.of(np.arange(3.0), died, np.zeros(3), np.array([10_000.0, 0, 0])))
    by_hand = (1 / np.arange(7_001.0, 10_001)).sum(), (1 / np.arange(6_601.0, 7_001)).sum()
    np.testing.assert_allclose(np.diff(found.hazard), by_hand, rtol=1e-12)


def test_who_comes_late_is_at_risk_from_then_on() -> None:
    days, died = rows(3, 300, 0)
    days = 2 * days + 2  # events on even days, entries on odd ones: no ties between them
    entry = (np.random.default_rng(4).integers(0, 20, 300) * 2 + 1).clip(max=days - 1)
    theirs = KaplanMeierFitter().fit(days, died, entry=entry)
    found = curve(table(days, died, entry))
    there = theirs.survival_function_at_times(found.times).to_numpy()
    np.testing.assert_allclose(found.survival[1:], there[1:], atol=1e-12)


def test_the_error_of_a_restricted_mean_is_that_of_a_mean_where_nobody_is_censored() -> None:
    days, _ = rows(5, 200, 1)
    mean, error = restricted_mean(table(days, np.ones(200)), 30.0)
    cut = np.minimum(days, 30)
    assert (mean, error) == pytest.approx((cut.mean(), cut.std() / 200**0.5), rel=1e-12)


@pytest.mark.parametrize("groups", [2, 4])
def test_the_log_rank_test_is_that_of_lifelines(groups: int) -> None:
    days, died = rows(6, 300, 1)
    which = np.random.default_rng(7).integers(0, groups, 300)
    size = int(days.max()) + 1
    tables = []
    for group in range(groups):
        own, ended = days[which == group].astype(int), died[which == group]
        start = np.zeros(size)
        start[0] = len(own)
        counts = np.bincount(own, ended, size), np.bincount(own, 1 - ended, size)
        tables.append(LifeTable.of(np.arange(float(size)), *counts, start))
    found, theirs = log_rank(tables), multivariate_logrank_test(days, which, died)
    assert found is not None and found.freedom == groups - 1
    assert found.statistic == pytest.approx(theirs.test_statistic, rel=1e-11)
    assert found.p == pytest.approx(theirs.p_value, rel=1e-11)


def test_no_test_of_one_group_or_without_an_event_beside_another() -> None:
    one = LifeTable.of(np.arange(3.0), np.array([0, 2.0, 0]), np.ones(3), np.array([5.0, 0, 0]))
    gone = LifeTable.of(np.arange(3.0), np.zeros(3), np.array([4.0, 0, 0]), np.array([4.0, 0, 0]))
    assert log_rank([one]) is None
    assert log_rank([one, gone]) is None


def test_the_least_holds_the_curve_of_finer_times() -> None:
    days, died = rows(8, 250, 0)
    fine, coarse = curve(table(days, died)), table(np.ceil(days / 10), died)
    size = len(coarse.times)
    low = least(coarse, np.zeros(size), np.ones(size, bool))
    exact = fine.survival[np.minimum(coarse.times * 10, fine.times[-1]).astype(int)]
    assert (low <= exact + 1e-12).all() and (exact <= curve(coarse).survival + 1e-12).all()
    np.testing.assert_allclose(least(coarse, low, np.zeros(size, bool)), curve(coarse).survival)
