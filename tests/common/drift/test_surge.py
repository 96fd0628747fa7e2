"""Shares against their own history: the test by scipy and by hand, quiet and lasting streams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, fisher_exact

from wardround.common.drift.surge import LEAST_ROWS, SHORTEST, spread, surges

ROWS = np.full((1, 6), 50)


def test_the_chance_is_fishers() -> None:
    """Of 50 rows 19 against 25 of 250, one-sided: the history varies less than draws do."""
    found = surges(np.array([[5, 6, 4, 5, 5, 19]]), ROWS)[-1]
    expected = fisher_exact([[19, 31], [25, 225]], alternative="greater")[1]
    assert found.spread == 1 and found.chance == pytest.approx(expected, rel=1e-9)
    assert (found.count, found.rows, found.before, found.of) == (19, 50, 25, 250)
    assert found.alarm and found.limit == 0.01


def test_the_spread_is_pearsons_statistic() -> None:
    counts, rows = np.array([2, 20, 5, 18]), np.array([40, 50, 45, 60])
    table = np.stack([counts, rows - counts])
    expected = chi2_contingency(table, correction=False)[0] / 3
    assert spread(counts, rows) == pytest.approx(expected)
    assert spread(np.zeros(4), rows) == spread(rows, rows) == spread(counts[:1], rows[:1]) == 1


def test_a_history_that_varies_hides_what_draws_would_show() -> None:
    steady = surges(np.array([[10, 11, 9, 10, 10, 19]]), ROWS)[-1]
    loud = surges(np.array([[2, 18, 3, 19, 8, 19]]), ROWS)[-1]
    assert steady.before == loud.before and steady.alarm
    assert loud.spread > 4 and loud.chance > steady.chance and not loud.alarm


def test_a_surge_is_no_history_and_a_fall_is_no_alarm() -> None:
    rows = np.full((1, 9), 50)
    found = surges(np.array([[5, 6, 4, 5, 5, 30, 30, 30, 5]]), rows)
    assert [one.alarm for one in found] == [False, True, True, True, False]
    assert {one.before for one in found[1:]} == {25}
    assert not any(one.alarm for one in surges(np.array([[30, 29, 31, 30, 30, 1]]), ROWS))


def test_a_small_rise_of_many_rows_is_no_alarm() -> None:
    rows = np.full((1, 6), 100_000)
    (*_, last) = surges(np.array([[10_000] * 5 + [14_000]]), rows)
    assert last.chance < 1e-100 and not last.alarm


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_short_and_empty_histories_say_nothing(data: st.DataObject) -> None:
    groups, windows = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 8))
    cells = st.integers(0, 12)
    rows = np.array([[data.draw(cells) for _ in range(windows)] for _ in range(groups)])
    counts = np.array([[data.draw(st.integers(0, int(n))) for n in line] for line in rows])
    for one in surges(counts, rows):
        earlier = rows[one.group, : one.window]
        assert (earlier > 0).sum() >= SHORTEST and earlier.sum() >= LEAST_ROWS
        assert one.rows > 0 and 0 <= one.chance <= 1 and one.of <= earlier.sum()


@pytest.mark.parametrize(("rows_of", "share"), [(30, 0.2), (8, 0.05)])
def test_of_quiet_windows_at_most_one_in_a_hundred_raises_an_alarm(
    rows_of: int, share: float
) -> None:
    """Twelve streams of four topics in 26 weeks: 264 windows. With a chance of 1 % each, 9 alarms
    or more would come in one of 1,000 tries."""
    draw, alarms = np.random.default_rng(5), 0
    for _ in range(12):
        rows = draw.poisson(rows_of, (4, 26))
        found = surges(draw.binomial(rows, share), rows)
        alarms += len({one.window for one in found if one.alarm})
    assert alarms < 9
