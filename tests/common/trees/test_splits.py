"""The split that is found is the best of all that there are, and hospitals' sums add to it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.trees.bins import Bins
from wardround.common.trees.features import Feature, as_rows
from wardround.common.trees.gains import NO_BOUNDS, Rules
from wardround.common.trees.grid import Unit, fitting
from wardround.common.trees.histograms import Units, level_sums
from wardround.common.trees.plan import Growth
from wardround.common.trees.splits import Search, Split

UNITS = Units(Unit(0, 8.0), Unit(0, 8.0))
"""Whole gradients and hessians, so that gains are exact to compare."""
BINS = Bins(
    (Feature("x"), Feature("few", ("a", "b", "c")), Feature("many", tuple("abcde"))),
    (np.array([1, 2, 3], np.float32), np.empty(0, np.float32), np.empty(0, np.float32)),
)
Row = tuple[float, float, float, int, int]
rows_of = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 2.0, 3.0, np.nan]),
        st.sampled_from([0.0, 1.0, 2.0, np.nan]),
        st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, np.nan]),
        st.integers(-4, 4),
        st.integers(1, 3),
    ),
    min_size=2,
    max_size=14,
)


def gain(rows: list[Row], left: list[bool], least: float) -> float:
    """Of a split that sends these left; -1 where a side is too light."""
    sides = np.array(left)
    g, h = np.array([row[3] for row in rows], float), np.array([row[4] for row in rows], float)
    found = -(g.sum() ** 2) / (h.sum() + 1)
    for side in (sides, ~sides):
        if h[side].sum() < max(least, 1e-9):
            return -1.0
        found += g[side].sum() ** 2 / (h[side].sum() + 1)
    return float(found)


def every_split(rows: list[Row]) -> dict[tuple[int, object, bool], list[bool]]:
    """All that a number's cuts and any part of the categories allow, with what goes left."""
    found: dict[tuple[int, object, bool], list[bool]] = {}

    def put(feature: int, key: object, is_left: set[float]) -> None:
        for missing in (False, True):
            sides = [missing if np.isnan(r[feature]) else r[feature] in is_left for r in rows]
            found[feature, key, missing] = sides

    for last in range(4):
        put(0, last, set(range(last + 1)))
    for feature, size, most in ((1, 3, 1), (2, 5, 4)):
        for count in range(1, most + 1):
            for right in combinations(range(size), count):
                put(feature, right, set(range(size)) - set(right))
    return found


def sums_of(rows: list[Row]) -> np.ndarray:
    places = BINS.place(as_rows([np.array([row[j] for row in rows]) for j in range(3)]))
    whole = np.array([[row[3], row[4]] for row in rows])
    return level_sums(places, [np.arange(len(rows))], [whole], BINS)


def best_of(rows: list[Row], least: float = 1.0) -> Split | None:
    growth = Growth(min_child_weight=least)
    search = Search(BINS, UNITS, growth, Rules.of(growth, least, False))
    lower, upper = (np.array([one]) for one in NO_BOUNDS)
    return search.best(sums_of(rows), np.ones((1, 3), np.bool_), lower, upper)[0]


@settings(max_examples=80, deadline=None)
@given(rows_of, st.integers(1, 6))
def test_no_split_of_any_kind_gains_more(rows: list[Row], least: int) -> None:
    all_of_them = every_split(rows)
    most = max(gain(rows, left, least) for left in all_of_them.values())
    found = best_of(rows, least)
    if found is None:
        # of many categories only parts of their order are tried, and it may be that none of those
        # is heavy enough
        assert (
            most < 1e-5
            or max(
                gain(rows, left, least) for (place, *_), left in all_of_them.items() if place < 2
            )
            < 1e-5
        )
        return
    key = found.last if found.feature == 0 else found.right_categories
    left = all_of_them[found.feature, key, found.default_left]
    assert np.isclose(found.gain, gain(rows, left, least), rtol=1e-5, atol=1e-5)
    assert found.left.tolist() == [
        sum(row[channel] for row, goes in zip(rows, left, strict=True) if goes)
        for channel in (3, 4)
    ]
    apart = {place: 0.0 for place in range(3)}
    for (place, *_), sides in all_of_them.items():
        apart[place] = max(apart[place], gain(rows, sides, least))
    assert found.gain >= max(apart[0], apart[1]) - 1e-4  # exhaustive for these two


@given(rows_of, st.integers(1, 13))
def test_sums_of_hospitals_and_of_children_add(rows: list[Row], cut: int) -> None:
    one, other = rows[:cut], rows[cut:]
    both = sums_of(one) + (sums_of(other) if other else 0)
    assert (both == sums_of(rows)).all()
    places = BINS.place(as_rows([np.array([row[j] for row in rows]) for j in range(3)]))
    whole = np.array([[row[3], row[4]] for row in rows])
    sides = [np.arange(len(rows))[:cut], np.arange(len(rows))[cut:]]
    children = level_sums(places, sides, [whole, whole], BINS)
    assert (sums_of(rows)[0] - children[0] == children[1]).all()


@given(
    st.integers(1, 10**7),
    st.floats(1e-3, 1e6),
    st.sampled_from([32, 64]),
    st.lists(st.floats(-1e7, 1e7), min_size=1, max_size=20),
)
def test_a_sum_over_all_rows_fits_the_words(
    rows: int, bound: float, bits: int, values: list[float]
) -> None:
    if bits == 32 and rows > 2**23:
        return
    unit = fitting(rows, bound, bits)
    whole = unit.whole(np.array(values))
    assert int(np.abs(whole).max()) * rows < min(2 ** (bits - 1), 2**53)
    back, held = unit.numbers(whole), np.clip(values, -bound, bound)
    assert np.abs(back - held).max() <= unit.size / 2
