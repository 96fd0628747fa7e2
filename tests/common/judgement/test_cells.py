"""No cell of few can be told from what is shown: an attacker by linear programming tries."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linprog

from wardround.common.judgement.cells import Blocks, Shown, joined, shown_blocks

Floats = NDArray[np.float64]


def equations(tables: Sequence[Floats], shown: Sequence[Shown]) -> tuple[Floats, Floats]:
    """All that is shown of some columns, and the counts of all rows, as equations over the cells of
    all columns at once: groups of the first x groups of the second x ... x T x Q."""
    sizes = tuple(len(one) for one in tables)
    cells = (*sizes, *tables[0].shape[1:])
    rows, values = [], []

    def told(mask: Floats, value: float) -> None:
        rows.append(mask.ravel())
        values.append(value)

    total = tables[0].sum(axis=0)
    for outcome, predicted in np.ndindex(*total.shape):
        mask = np.zeros(cells)
        mask[..., outcome, predicted] = 1
        told(mask, total[outcome, predicted])
    for axis, (table, one) in enumerate(zip(tables, shown, strict=True)):
        levels: list[tuple[Blocks, Sequence[tuple[object, ...]]]] = [
            (one.rows, [(slice(None), slice(None))]),
            (one.outcomes, [(t, slice(None)) for t in range(cells[-2])]),
            (one.predictions, list(np.ndindex(*cells[-2:]))),
        ]
        for blocks, kinds in levels:
            for block, kind in itertools.product(blocks, kinds):
                mask, index = np.zeros(cells), list(block)
                mask[(*(slice(None),) * axis, index, *(slice(None),) * (len(sizes) - axis - 1))] = 1
                kept = np.zeros(cells)
                kept[(..., *kind)] = 1
                told(mask * kept, float(table[(index, *kind)].sum()))
    return np.array(rows), np.array(values)


def asked_cells(shape: tuple[int, ...]) -> Iterator[tuple[object, ...]]:
    """Every cell: of groups (of one column, or of each), of these and an outcome, and so on."""
    *sizes, outcomes, predictions = shape
    every = [[slice(None), *range(size)] for size in sizes]
    for groups in itertools.product(*every):
        if all(isinstance(one, slice) for one in groups):
            continue  # all rows: no group's
        yield (*groups, slice(None), slice(None))
        for outcome in range(outcomes):
            yield (*groups, outcome, slice(None))
            yield from ((*groups, outcome, one) for one in range(predictions))


def pinned(
    tables: Sequence[Floats], shown: Sequence[Shown], least: int
) -> list[tuple[object, ...]]:
    """Cells of which the attacker is sure that they have fewer than ``least``, where the counts of
    all rows don't say it."""
    told, values = equations(tables, shown)
    shape = (*(len(one) for one in tables), *tables[0].shape[1:])
    total, found = tables[0].sum(axis=0), []
    for cell in asked_cells(shape):
        aim = np.zeros(shape)
        aim[cell] = -1.0
        done = linprog(aim.ravel(), A_eq=told, b_eq=values, method="highs")
        assert done.status == 0, done.message
        possible = total[cell[len(tables) :]].sum()
        if -done.fun < min(least, possible) - 1e-6:
            found.append(cell)
    return found


def drawn(generator: np.random.Generator, groups: int, shape: tuple[int, int]) -> Floats:
    """Counts as they come: many of a group, few of another, none of a third."""
    scale = generator.choice([0.0, 0.4, 2.0, 8.0, 40.0], size=groups)
    rates = generator.dirichlet(np.ones(shape[0] * shape[1])).reshape(shape)
    return generator.poisson(scale[:, None, None] * 4 * rates).astype(np.float64)


@pytest.mark.parametrize("shape", [(2, 2), (2, 1)])
def test_no_cell_of_a_column_is_pinned_below_k(shape: tuple[int, int]) -> None:
    generator, finest = np.random.default_rng(7), 0
    for _ in range(10):
        least = int(generator.integers(3, 8))
        table = drawn(generator, int(generator.integers(2, 7)), shape)
        shown = shown_blocks(table, least)
        finest += len(shown.predictions) > 1
        assert not pinned([table], [shown], least), (table, shown)
    assert finest > 1  # figures are shown by groups, too


def test_nor_is_one_of_two_columns_at_once() -> None:
    generator = np.random.default_rng(8)
    for _ in range(2):
        one = drawn(generator, 3, (2, 2))
        # the same rows by another column: each cell is parted anew
        rates = generator.dirichlet(np.ones(3), size=(2, 2))
        parts = [
            [generator.multinomial(int(one[:, t, q].sum()), rates[t, q]) for q in range(2)]
            for t in range(2)
        ]
        other = np.array(parts).transpose(2, 0, 1).astype(np.float64)
        shown = [shown_blocks(table, 4) for table in (one, other)]
        assert not pinned([one, other], shown, 4), (one, other)


def test_without_putting_groups_together_the_attacker_finds_them() -> None:
    """The positive control: rates of each group, with its rows; and one column less a level."""
    table = np.array([[[40.0, 12], [9, 30]], [[35, 10], [2, 28]], [[30, 11], [8, 21]]])
    alone = tuple((place,) for place in range(3))
    naive = Shown(alone, alone, alone)
    assert (1, 1, 0) in pinned([table], [naive], 5)
    # blocks that aren't unions of the level above: their difference tells of the middle group
    table[1, 1] = [2, 1]
    crossed = Shown(alone, ((0, 1), (2,)), ((0,), (1, 2)))
    assert (1, 1, slice(None)) in pinned([table], [crossed], 5)
    assert not pinned([table], [shown_blocks(table, 5)], 5)


def parted(total: int, groups: int) -> Iterator[tuple[int, ...]]:
    """All ways to part so many rows into groups."""
    if groups == 1:
        yield (total,)
        return
    for first in range(total + 1):
        yield from ((first, *rest) for rest in parted(total - first, groups - 1))


@pytest.mark.parametrize(
    ("groups", "outcomes", "most"), [(3, 1, 9), (4, 1, 6), (2, 2, 6), (3, 2, 3)]
)
def test_who_knows_the_method_learns_no_number_of_few(
    groups: int, outcomes: int, most: int
) -> None:
    """All tables of few rows, by what is shown of each and by the counts of all rows: that a cell
    has fewer than k can be told, how many it has can't."""
    least = 3
    for total in itertools.product(range(most + 1), repeat=outcomes):
        alike: dict[object, list[Floats]] = defaultdict(list)
        for cells in itertools.product(*(parted(one, groups) for one in total)):
            table = np.array(cells, dtype=np.float64).T.reshape(groups, outcomes, 1)
            shown = shown_blocks(table, least)
            rows = tuple(float(table[list(block)].sum()) for block in shown.rows)
            each = tuple(table[list(block)].sum(axis=0).tobytes() for block in shown.outcomes)
            alike[(shown, rows, each)].append(table[:, :, 0])
        for tables in alike.values():
            values = np.array(tables)
            rows_of = values.sum(axis=2)
            for group in range(groups):
                here = set(rows_of[:, group])
                assert min(here) >= least or sum(total) < least or len(here) >= least
                for outcome in range(outcomes):
                    here = set(values[:, group, outcome])
                    assert min(here) >= least or total[outcome] < least or len(here) > 1


def test_groups_are_put_together_by_their_order_alone() -> None:
    counts = np.array([9.0, 1, 1, 9, 0, 2])
    alone = [(place,) for place in range(6)]
    assert joined(alone, counts, 5) == ((0,), (1, 2, 3, 4, 5))
    assert joined(alone, counts[::-1].copy(), 5) == ((0, 1, 2), (3, 4, 5))
    assert joined(alone, np.zeros(6), 3) == ()
    assert joined(alone[:1], np.array([[4.0, 9]]), 4) == ((0,),)
    assert joined(alone[:1], np.array([[3.0, 9]]), 4) == ()
