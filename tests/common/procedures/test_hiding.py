"""What is shown of counts, and what somebody can make of it who knows the method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.common.procedures.attacker import solve_persons
from wardround.common.procedures.describe.columns import Column
from wardround.common.procedures.describe.figures import cells_values, column_of_numbers
from wardround.common.procedures.hiding import (
    Cell,
    dominated,
    few_values,
    grain,
    mover,
    rounded,
    shown_cells,
)
from wardround.common.procedures.spread import first_range


def published(
    cells: Sequence[Cell], least: int, persons: int | None = None
) -> list[dict[str, Any]]:
    return cells_values(shown_cells(cells, least, persons), persons is not None)


def test_counts_are_rounded_and_few_are_none() -> None:
    cells = [Cell("a", 502, 502), Cell("b", 480, 480), Cell("c", 4, 4), Cell("d", 0, 0)]
    found = published(cells, 5)
    assert [cell["state"] for cell in found] == ["shown", "shown", "few", "few"]
    assert [cell.get("rows") for cell in found] == [500, 480, None, None]
    assert [rounded(x, 5) for x in (0, 2, 2.5, 7, 8)] == [0, 0, 5, 5, 10]


def test_a_lone_small_cell_takes_another_with_it() -> None:
    # about 95 of 101 would leave 4 at least, for who knows the 101
    found = published([Cell("present", 97, 97), Cell("missing", 4, 4)], 5)
    assert [cell["state"] for cell in found] == ["kept back", "few"]
    assert "rows" not in found[0]


@pytest.mark.parametrize(
    ("numbers", "least"), [([0, 6, 6], 4), ([0, 6, 10], 4), ([1, 5, 13], 5), ([0, 8, 8], 5)]
)
def test_of_a_small_total_one_cell_kept_back_is_not_enough(numbers: list[int], least: int) -> None:
    """Of 12 rows, 6 at least and 4 at least would leave 2 for a cell that may have 3."""
    found = published([Cell(f"c{place}", n, n) for place, n in enumerate(numbers)], least)
    assert [cell["state"] for cell in found] == ["few", "kept back", "kept back"]
    low, high = solve_persons(found, least, sum(numbers), None)["c0"]
    assert low <= 1 and high >= min(least - 1, sum(numbers) - 2 * least)


counts = st.lists(st.integers(0, 40) | st.integers(0, 6), min_size=2, max_size=6)


@settings(max_examples=40, deadline=None)
@given(counts, st.sampled_from([3, 4, 5, 10]))
def test_no_small_cell_is_solved_for(numbers: list[int], least: int) -> None:
    cells = [Cell(f"c{place}", n, n) for place, n in enumerate(numbers)]
    found = published(cells, least)
    solved = solve_persons(found, least, sum(numbers), None)
    for cell, exact in zip(found, numbers, strict=True):
        assert cell["state"] != ("shown" if exact < least else "few")
        if cell["state"] == "few":
            low, high = solved[str(cell["name"])]
            left = sum(numbers) - least * sum(n >= least for n in numbers)
            assert low <= 1 and high >= min(least - 1, left)  # anything from 1 to k - 1
            assert not exact or high - low >= 1  # never just one number, but that it is empty


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 30)), min_size=2, max_size=5))
def test_nor_where_persons_have_several_rows(pairs: list[tuple[int, int]]) -> None:
    cells = [Cell(f"c{n}", who + more * bool(who), who) for n, (who, more) in enumerate(pairs)]
    rows = int(sum(cell.rows for cell in cells))
    persons = int(max(cell.persons for cell in cells))  # the fewest that they can be together
    found = published(cells, 5, persons)
    left = rows - 5 * sum(who >= 5 for who, _ in pairs)
    for name, (low, high) in solve_persons(found, 5, rows, persons).items():
        cell = next(cell for cell in found if cell["name"] == name)
        if cell["state"] == "few":
            assert low <= 1 and high >= min(4, left), name


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [40, 997])
def test_a_mean_of_whole_numbers_gives_no_count_back(rows: int, missing: int) -> None:
    """27 of 50 is no ratio of 49: an exact mean would tell how many values it is of."""
    values = np.random.default_rng(rows + missing).integers(0, 2, rows - missing).astype(float)
    first = {
        "rows": np.array([float(rows)]),
        "numeric/x/count": np.array([float(len(values))]),
        "numeric/x/sum": np.array([values.sum()]),
    }
    squares = float(((values - values.mean()) ** 2).sum())
    where = first_range(values.mean(), values.std())
    assert where is not None
    bins = np.bincount(where.places(values), minlength=where.bins + 2).astype(float)
    shown = column_of_numbers(Column("x"), first, squares, (where, bins, bins), 5)
    assert abs(shown["mean"] - values.mean()) <= shown["mean_error"]
    may = [
        lacking
        for lacking in range(1, 5)
        for ones in range(rows - lacking + 1)
        if abs(ones / (rows - lacking) - shown["mean"]) <= shown["mean_error"]
    ]
    assert set(may) == {1, 2, 3, 4}


def test_a_description_shows_no_mean_that_is_one_persons() -> None:
    values = np.append(np.random.default_rng(3).normal(50.0, 10.0, 300), 9000.0)
    away = (values - values.mean()) ** 2
    first = {
        "rows": np.array([301.0]),
        "numeric/x/count": np.array([301.0]),
        "numeric/x/sum": np.array([values.sum()]),
    }
    where = first_range(values.mean(), values.std())
    assert where is not None
    bins = np.ones(where.bins + 2)
    sums = float(away.sum()), (where, bins, bins), 5, float((away**2).sum())
    shown = column_of_numbers(Column("x"), first, *sums)
    assert shown["dominated"] and "mean" not in shown and "std" not in shown
    assert len(shown["quantiles"]) == 5
    usual = column_of_numbers(Column("x"), first, *sums[:3])
    assert "mean" in usual


def test_the_grain_is_what_so_many_persons_move() -> None:
    assert grain(10.0, 1000, 5) == 0.05  # 5 * 10 / 1000
    assert grain(10.0, 900, 5) == 0.1  # 5 * 10 / 900 is 0.056
    assert grain(0.0, 1000, 5) == 0.0


def test_one_person_may_not_have_most_of_a_deviation() -> None:
    rng = np.random.default_rng(1)
    usual, one = rng.normal(size=40) ** 2, np.append(rng.normal(size=200), 30.0) ** 2
    assert not dominated(usual.sum(), (usual**2).sum())
    assert dominated(one.sum(), (one**2).sum())
    assert one.max() / one.sum() > 0.5  # the bound is of a share that there is
    assert mover(10 * 4.0, 10 * 16.0) == 2.0  # all at a distance of 2
    assert 25 < mover(one.sum(), (one**2).sum()) <= 30  # who is far away moves the mean


def test_of_a_handful_of_values_each_is_a_category() -> None:
    assert few_values(np.array([0.0, 997.0, 0.0, 3.0]), 5)  # three ones among zeros
    assert not few_values(np.array([0.0, 500.0, 0.0, 500.0]), 5)
    assert not few_values(np.ones(6), 5)  # six values of one person each: no equation's answer
    assert not few_values(np.zeros(4), 5)
