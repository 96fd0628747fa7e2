"""What is shown of tables with their margins, and what can be made of it."""

from __future__ import annotations

from collections import defaultdict
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.common.procedures.attacker import solve_tables
from wardround.common.procedures.hiding import Counted, ShownTable, shown_table


def counted(cells: object, persons: object = None, everybody: float | None = None) -> Counted:
    rows = np.array(cells, float)
    who = rows if persons is None else np.array(persons, float)
    names = [
        [f"{axis}{place}" for place in range(size)]
        for axis, size in zip("rc", rows.shape, strict=True)
    ]
    return Counted(rows, who, *names, who.sum(axis=1), who.sum(axis=0), everybody)


def states(shown: ShownTable) -> list[list[str]]:
    return [[cell.state for cell in line] for line in shown.cells]


def test_cells_and_margins_are_rounded() -> None:
    shown = shown_table(counted([[52, 48], [61, 70]]), 5)
    assert [[cell.rows for cell in line] for line in shown.cells] == [[50, 50], [60, 70]]
    assert [one.rows for one in shown.rows] == [100, 130]
    assert [one.rows for one in shown.columns] == [115, 120]
    assert shown.block([0, 1], [0, 1]) is not None


def test_a_small_cell_takes_others_of_its_row_and_column_with_it() -> None:
    # 54 - about 50 leaves 2 at least, for who has the row's total from elsewhere
    shown = shown_table(counted([[4, 50, 30], [60, 70, 80], [20, 30, 40]]), 5)
    assert states(shown) == [
        ["few", "kept back", "shown"],
        ["kept back", "kept back", "shown"],
        ["shown", "shown", "shown"],
    ]
    assert shown.block([0, 1], [0, 1]) is None
    assert shown.block([1, 2], [1, 2]) is None
    two = shown_table(counted([[4, 50], [60, 70]]), 5)
    assert states(two) == [["kept back", "kept back"], ["kept back", "kept back"]]


def test_levels_of_few_take_no_cell_with_them() -> None:
    """Of them only is known what rounding leaves: 2 of 3 without an answer cost no table."""
    shown = shown_table(counted([[52, 48, 1], [61, 70, 2]]), 5)
    assert states(shown) == [["shown", "shown", "few"], ["shown", "shown", "few"]]
    assert shown.columns[2].state == "few"


def test_a_level_whose_cells_may_all_be_four_shows_none() -> None:
    shown = shown_table(counted([[4, 4], [60, 70]]), 5)
    assert states(shown)[0] == ["kept back", "kept back"]
    assert shown.rows[0].rows == 10


def test_rows_of_few_persons_are_few() -> None:
    cells, persons = [[40, 50, 60], [60, 70, 80]], [[1, 20, 20], [20, 20, 20]]
    shown = shown_table(counted(cells, persons, 81.0), 5)
    assert states(shown)[0] == ["few", "kept back", "shown"]  # else 40 rows were left of all


@pytest.mark.parametrize("total", [14, 17])
def test_who_tries_all_tables_with_the_method_finds_no_single_answer(total: int) -> None:
    """All tables of two by two with so many rows, by what is published of them: a small cell
    has another number in one of the others."""
    alike = defaultdict(list)
    for cells in product(range(total + 1), repeat=3):
        if (last := total - sum(cells)) >= 0:
            shown = shown_table(counted([cells[:2], [cells[2], last]]), 3)
            text = repr([shown.cells, shown.rows, shown.columns])
            alike[text].append((shown, (*cells, last)))
    assert len(alike) > 15
    for same in alike.values():
        for place in range(4):
            found = {cells[place] for _, cells in same}
            assert len(found) > 1 or not 0 < min(found) < 3


numbers = st.lists(st.integers(0, 7) | st.integers(0, 60), min_size=12, max_size=12)


@settings(max_examples=25, deadline=None)
@given(numbers, st.sampled_from([3, 5]))
def test_no_small_cell_is_solved_for_by_two_tables_of_one_study(cells: list[int], k: int) -> None:
    """The tables share a column, whose margins both of them show."""
    whole = np.array(cells, float).reshape(2, 3, 2)
    shown = {
        (0, 1): shown_table(counted(whole.sum(axis=2)), k),
        (1, 2): shown_table(counted(whole.sum(axis=0)), k),
    }
    levels = [shown[0, 1].rows, shown[0, 1].columns, shown[1, 2].columns]
    assert [one.rows for one in shown[1, 2].rows] == [one.rows for one in levels[1]]
    for name, (low, high) in solve_tables(levels, shown, k, int(whole.sum())).items():
        exact = _exact(whole, name)
        assert low <= 1 + 1e-7 and (not exact or high - low >= 1 - 1e-7), name


def _exact(whole: np.ndarray, name: tuple[object, ...]) -> float:
    columns, places = name[: len(name) // 2], name[len(name) // 2 :]
    where: list[object] = [slice(None)] * 3
    for column, place in zip(columns, places, strict=True):
        where[int(str(column))] = place
    return float(whole[tuple(where)].sum())  # type: ignore[index]
