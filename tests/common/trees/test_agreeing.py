"""Cuts from counts over hospitals: bins of equal shares, whatever the scale, and no value told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tree_hospitals import agreed_bins
from wardround.common.errors import TaskError
from wardround.common.trees.agreeing import Cells, cells_at, cuts_of, keys_of, values_of
from wardround.common.trees.bins import Bins
from wardround.common.trees.features import Feature, as_rows

numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(numbers, numbers)
def test_keys_order_as_numbers_do(one: float, other: float) -> None:
    both = np.array([one, other], np.float32)
    first, second = keys_of(both)
    assert (first < second) == (both[0] < both[1]) and (first == second) == (both[0] == both[1])
    assert (values_of(keys_of(both)) == both).all()


def bins_of(*parts: np.ndarray, most: int = 32, fewest: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Cuts, and how many of all rows lie in each bin."""
    rows = [as_rows([one]) for one in parts]
    bins = agreed_bins(rows, [Feature("x")], most, fewest)
    places = bins.place(np.concatenate(rows))[0]
    return bins.cuts[0], np.bincount(places, minlength=bins.places + 1)[: bins.places]


@pytest.mark.parametrize(
    ("shift", "scale"), [(0, 1), (1e6, 3), (0, 1e-20), (0, 1e35), (1.6e9, 3e6), (37, 0.5)]
)
def test_bins_hold_equal_shares_at_any_scale(shift: float, scale: float) -> None:
    draws = np.random.default_rng(1)
    parts = [shift + scale * draws.normal(size=size) for size in (3000, 1, 33, 966)]
    parts[2][:5] = 1e38  # outliers
    cuts, counts = bins_of(*parts)
    assert len(cuts) == 31 and counts.sum() == 4000
    assert counts.max() <= 1.3 * 4000 / 32 and counts.min() >= 0.7 * 4000 / 32


def test_few_values_get_bins_of_their_own_and_a_constant_none() -> None:
    visits = np.random.default_rng(2).poisson(3, 500).astype(float)
    cuts, counts = bins_of(visits[:200], visits[200:])
    assert counts.tolist() == [n for n in np.bincount(visits.astype(int)) if n]
    assert ((cuts > np.unique(visits)[:-1]) & (cuts <= np.unique(visits)[1:])).all()
    assert len(bins_of(np.full(70, 7.25), np.full(1, 7.25))[0]) == 0
    assert len(bins_of(np.full(70, np.nan))[0]) == 0
    cuts, counts = bins_of(np.r_[np.zeros(900), np.random.default_rng(0).normal(size=100)])
    assert counts.max() == 900  # one value that many rows have is a bin of its own


def test_no_bin_holds_fewer_rows_than_it_must() -> None:
    values = np.random.default_rng(3).normal(size=150)
    _, counts = bins_of(values, most=64, fewest=7)
    assert 10 < len(counts) <= 150 / 7 and counts.min() >= 7
    assert bins_of(np.r_[np.zeros(40), np.ones(3)], fewest=5)[1].tolist() == [43]
    values = np.random.default_rng(3).normal(size=900)
    first = [Cells.first().counted(values.astype(np.float32))]
    second = cells_at(first, 64, 7)
    assert second is not None
    held = first[0][np.searchsorted(Cells.first().edges, second.edges, "right") - 1]
    assert len(second) < 300 and held.max() >= 14
    assert cells_at([np.minimum(first[0], 13)], 64, 7) is None  # nothing more is asked


@settings(max_examples=40, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=60), st.integers(2, 12), st.integers(1, 4))
def test_cuts_rise_and_bins_are_as_promised(values: list[float], most: int, fewest: int) -> None:
    cuts, counts = bins_of(np.array(values, np.float32), most=most, fewest=fewest)
    assert len(cuts) < most and (np.diff(cuts) > 0).all() and np.isfinite(cuts).all()
    assert counts.sum() == len(values) and (len(cuts) == 0 or counts.min() >= fewest)


def test_a_value_has_its_place_and_what_is_none_has_the_last() -> None:
    bins = Bins((Feature("x"), Feature("w", ("a", "b"))), (np.array([1, 2], np.float32), NONE))
    rows = as_rows([np.array([0.5, 1, 2, np.nan, 1e300]), np.array([0, 1, 2, -1, 0.5])])
    assert bins.place(rows).tolist() == [[0, 1, 2, 5, 5], [3, 4, 5, 5, 5]]
    for cuts in ([2, 1], [1, 1], [np.nan], [np.inf]):
        with pytest.raises(TaskError, match="the cuts of 'x'"):
            Bins((Feature("x"),), (np.array(cuts, np.float32),))


NONE = np.empty(0, np.float32)


def test_totals_that_are_no_counts_are_refused() -> None:
    for false in (np.zeros(7, np.int64), np.full(2048, -1)):
        with pytest.raises(TaskError, match="aren't counts"):
            cells_at([false], 32)
        with pytest.raises(TaskError, match="aren't counts"):
            cuts_of([false], 32)
