"""Quantiles by histograms, against numpy's."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.procedures.spread import (
    QUANTILES,
    Range,
    first_range,
    next_range,
    quantiles,
)

finite = st.floats(-1e9, 1e9, allow_nan=False)


def histogram(where: Range, values: np.ndarray) -> np.ndarray:
    return np.bincount(where.places(values), minlength=where.bins + 2).astype(float)


@settings(max_examples=60, deadline=None)
@given(st.lists(finite | st.integers(0, 3).map(float), min_size=1, max_size=60))
def test_quantiles_are_within_their_error(numbers: list[float]) -> None:
    values = np.array(numbers)
    where = first_range(float(values.mean()), float(values.std()))
    if where is None:
        return
    for _ in range(4):
        rows = histogram(where, values)
        assert rows.sum() == len(values)
        found = quantiles(where, rows, rows, len(values), 1)
        assert set(found) >= {f"{p:g}" for p in QUANTILES if min(p, 1 - p) * len(values) >= 1}
        for p, (value, error) in found.items():
            slack = 1e-9 * (1 + abs(values).max())
            assert abs(np.quantile(values, float(p)) - value) <= error + slack
        finer = next_range(where, rows)
        if finer is None:
            break
        assert finer.width < where.width
        where = finer


def test_far_values_are_left_behind() -> None:
    values = np.concatenate([np.random.default_rng(1).normal(5, 1, 5000), np.full(20, 1e9)])
    where, steps = first_range(float(values.mean()), float(values.std())), 1
    assert where is not None and where.width > 1e5
    while (finer := next_range(where, histogram(where, values))) is not None:
        where, steps = finer, steps + 1
    assert steps == 4  # as many as there are: the width is 5e5, then 1e3, 2, and less
    rows = histogram(where, values)
    value, error = quantiles(where, rows, rows, len(values), 5)["0.5"]
    assert abs(value - np.median(values)) <= error < 0.05


def test_an_interval_holds_as_many_persons_as_a_shown_count() -> None:
    values = np.repeat(np.arange(200.0), 1)
    where = first_range(float(values.mean()), float(values.std()))
    assert where is not None
    rows = histogram(where, values)
    for least in (5, 20):
        for value, error in quantiles(where, rows, rows, 200, least).values():
            assert ((values >= value - error) & (values <= value + error)).sum() >= least
    # one patient's rows in many bins are one person: nothing may be shown
    alone = np.zeros_like(rows)
    alone[200] = 1
    assert quantiles(where, rows, alone, 1, 5) == {}
