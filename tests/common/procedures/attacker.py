"""Who knows the method, all that is published and how many rows there are, and solves for the rest.

``solve_persons`` does so for one column, ``solve_tables`` for all columns and tables of a study.

For every cell that isn't shown the least and the most that it can be are linear programs over the
cells of its column: unknown numbers of rows and persons, bounded by what stands in the description.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linprog

from wardround.common.procedures.hiding import ShownCell, ShownTable


class Solved(NamedTuple):
    """What the attacker knows of the persons in a cell afterwards."""

    least: float
    most: float


def solve_persons(
    cells: Sequence[Mapping[str, Any]], smallest: int, rows: int, persons: int | None
) -> dict[str, Solved]:
    """Bounds of the persons in each cell that isn't shown.

    Parameters
    ----------
    cells : of one column, as ``description.json`` has them
    rows : exactly how many there are
    persons : the same, where they are counted beside rows; None: each row is one
    """
    count, loose = len(cells), smallest // 2
    # one that is kept back beside few ones is none of these; where all are, nothing is known
    least = 0 if all(cell["state"] == "kept back" for cell in cells) else smallest
    bounds: list[tuple[float, float | None]] = []
    for cell in cells:  # rows
        if cell["state"] == "shown":
            bounds.append((max(0, cell["rows"] - loose), cell["rows"] + loose))
        elif cell["state"] == "few":
            bounds.append((0, smallest - 1 if persons is None else None))
        else:
            bounds.append((least, None))
    equal, at = [[1.0] * count + [0.0] * count], [float(rows)]
    above, below = [], []
    for place, cell in enumerate(cells):  # persons
        if cell["state"] == "shown" and persons is not None:
            bounds.append((max(0, cell["persons"] - loose), cell["persons"] + loose))
        else:
            few = cell["state"] == "few"
            bounds.append((0 if few else least, smallest - 1 if few else None))
        row = [0.0] * (2 * count)
        row[count + place], row[place] = 1.0, -1.0
        if persons is None:
            equal.append(row)
            at.append(0.0)
            bounds[-1] = (0, None)
        else:
            above.append(row)  # nobody without a row
            below.append(0.0)
    if persons is not None:
        above.append([0.0] * count + [-1.0] * count)  # everybody is in a cell
        below.append(-float(persons))
    found = {}
    for place, cell in enumerate(cells):
        if cell["state"] == "shown":
            continue
        ends = []
        for sign in (1.0, -1.0):
            aim = np.zeros(2 * count)
            aim[count + place] = sign
            done = linprog(aim, above or None, below or None, equal, at, bounds)
            assert done.status in (0, 3), done.message  # solved, or without bound
            ends.append(sign * done.fun if done.status == 0 else np.inf)
        found[str(cell["name"])] = Solved(*ends)
    return found


def solve_tables(
    levels: Sequence[Sequence[ShownCell]],
    tables: Mapping[tuple[int, int], ShownTable],
    smallest: int,
    rows: int,
) -> dict[tuple[object, ...], Solved]:
    """Bounds of all few cells of a study that shows columns and pairs of them, by (column, level)
    and (column, column, level, level); each row is a person.

    levels : of each column as they are shown
    tables : of pairs of columns
    """
    sizes = [len(column) for column in levels]
    count = int(np.prod(sizes))
    every = np.arange(count).reshape(sizes)
    equal, at = [np.ones(count)], [float(rows)]
    above, limits, aims = list[Any](), list[float](), dict[tuple[object, ...], Any]()

    def add(name: tuple[object, ...], cell: ShownCell, places: Any) -> None:
        line = np.zeros(count)
        line[places.ravel()] = 1.0
        low, high = (0, smallest - 1) if cell.state == "few" else (0.0, float(rows))
        if cell.state == "shown":
            low, high = cell.rows - smallest // 2, cell.rows + (smallest - 1) // 2
        above.extend([line, -line])
        limits.extend([high, -low])
        if cell.state == "few":
            aims[name] = line

    for column, cells in enumerate(levels):
        for place, cell in enumerate(cells):
            add((column, place), cell, np.take(every, place, axis=column))
    for (first, second), table in tables.items():
        for i, line in enumerate(table.cells):
            for j, cell in enumerate(line):
                where: list[Any] = [slice(None)] * len(sizes)
                where[first], where[second] = i, j
                add((first, second, i, j), cell, every[tuple(where)])
        for axis, shown in ((first, table.rows), (second, table.columns)):
            for place, cell in enumerate(shown):
                add((axis, place), cell, np.take(every, place, axis=axis))
    found = {}
    for name, aim in aims.items():
        ends = [linprog(sign * aim, above, limits, equal, at) for sign in (1.0, -1.0)]
        assert all(end.status == 0 for end in ends)
        found[name] = Solved(float(ends[0].fun), -float(ends[1].fun))
    return found
