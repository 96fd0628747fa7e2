"""Who knows the method, all that is published and how many rows there are, and solves for the rest.

For every cell that isn't shown the least and the most that it can be are linear programs over the
cells of its column: unknown numbers of rows and persons, bounded by what stands in the description.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linprog


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
