"""What the outcome's holder makes of time: against Cox's regression, whose limit it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.duration.hazard_regression import PHReg

from wardround.common.vertical.exposure import Exposure, by_intervals, constant


def solved(columns: Any, events: Any, exposure: Exposure) -> Any:
    """Coefficients by Newton's steps in the clear; columns (n, P)."""
    found = np.zeros(columns.shape[1])
    for _ in range(30):
        each = np.exp(columns @ found)
        rates = exposure.events / (exposure.of.T @ each)
        weight = each * (exposure.of @ rates)
        parts = columns.T @ (exposure.of * rates * each[:, None])
        curved = (columns * weight[:, None]).T @ columns - (parts / exposure.events) @ parts.T
        found = found + np.linalg.solve(curved, columns.T @ (events - weight))
    return found


def survival(rows: int, columns: int, effect: float, tied: bool, seed: int) -> Any:
    """(columns, time, event) with about half of the rows seen until their event."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, columns))
    hazard = np.exp(values @ (effect * random.normal(size=columns)))
    time, until = random.exponential(1 / hazard), random.exponential(1, rows)
    event = (time <= until).astype(float)
    time = np.minimum(time, until)
    return values, np.ceil(time * 8) if tied else time, event


@pytest.mark.parametrize(
    ("ties", "tied", "within"), [("breslow", False, 1e-7), ("efron", True, 2e-4)]
)
def test_an_interval_for_each_event_is_cox(ties: str, tied: bool, within: float) -> None:
    values, time, event = survival(300, 3, 0.3, tied, 1)
    reference = PHReg(time, values, status=event, ties=ties).fit(disp=0).params
    found = solved(values, event, by_intervals(time, event, 300, 1))
    np.testing.assert_allclose(found, reference, atol=within)
    if tied:  # the others' ties are farther away
        other = PHReg(time, values, status=event, ties="breslow").fit(disp=0).params
        assert np.abs(other - reference).max() > 10 * within


def test_twenty_intervals_are_near_cox_and_more_are_nearer() -> None:
    values, time, event = survival(3000, 4, 0.5, False, 2)
    reference = PHReg(time, values, status=event, ties="efron").fit(disp=0).params
    apart = [
        np.abs(solved(values, event, by_intervals(time, event, count, 5)) - reference).max()
        for count in (1, 5, 20, 80)
    ]
    assert apart == sorted(apart, reverse=True) and apart[2] < 0.002 < 0.01 < apart[0]


def test_counts_of_equal_times_are_poissons() -> None:
    exposure = constant(np.array([0.0, 3.0, 1.0]))
    assert exposure.events.tolist() == [4.0] and (exposure.of == 1).all()


@settings(max_examples=50, deadline=None)
@given(st.data(), st.integers(1, 8), st.integers(1, 6))
def test_intervals_have_enough_events(data: Any, intervals: int, fewest: int) -> None:
    rows = data.draw(st.integers(2, 60))
    time = np.array(data.draw(st.lists(st.integers(1, 12), min_size=rows, max_size=rows)), float)
    event = np.array(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)), float)
    event[0] = 1.0
    found = by_intervals(time, event, intervals, fewest)
    assert found.events.sum() == event.sum() and len(found.events) <= intervals
    assert len(found.events) == 1 or found.events.min() >= fewest
    assert found.of.min() >= 0 and found.of.max() <= 1 + 1e-9
    assert (found.of[time < time[event > 0].min()] == 0).all()
    last = found.of[(event == 0) & (time >= time[event > 0].max())]
    np.testing.assert_allclose(last, 1.0)
