"""What is shown of the counts of one column: nothing that gives a count of few persons away.

The cells of a column are disjoint, and together all rows. A cell of fewer than k persons is *few*:
only that is shown of it, also where it is empty. All others are rounded to multiples of k. Who
knows the number of all rows (sizes are no secret of a federation) can subtract what is shown, to
within the rounding: where that would leave of a few cell less than everything from 1 to k - 1, one
more cell is kept back, the first by name, so that which one it is says nothing of its count; of a
total so small that this isn't enough, all are. The
method is no secret, so that this must hold against who knows it; an attacker by linear programming
does (``tests/common/procedures/attacker.py``).

Where persons have several rows, a cell is few by its persons, and rows are what is shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["shown", "few", "kept back"]


@dataclass(frozen=True)
class Cell:
    """Exact totals of one cell. ``persons``: its rows where no patients are named."""

    name: str
    rows: float
    persons: float


@dataclass(frozen=True)
class ShownCell:
    """What is shown of a cell: rows and persons to the nearest multiple of the smallest cell, where
    its state is 'shown'; else 0."""

    name: str
    state: State
    rows: int = 0
    persons: int = 0


def shown_cells(cells: Sequence[Cell], least: int, persons: float | None = None) -> list[ShownCell]:
    """What is shown of the cells of one column, in their order.

    least : k
    persons : how many there are in all, where they were counted beside rows; None: each row is one
    """
    named, count = persons is not None, len(cells)
    total = persons if persons is not None else sum(cell.rows for cell in cells)
    if (count - 1) * (least - 1) + 1 < total < count * least:
        # so few that all cells may be few ones, and so many that each then has nearly k - 1
        return [ShownCell(cell.name, "kept back") for cell in cells]
    few = [cell for cell in cells if cell.persons < least]
    open_ = sorted((cell for cell in cells if cell.persons >= least), key=lambda cell: cell.name)
    kept = set[str]()
    if few and open_ and not _safe(cells, few, open_, least, named):
        kept.add(open_[0].name)  # of unknown size, whatever it is: no difference says more
        if not _free(cells, open_, least):  # of a small total, that it has k says too much
            kept |= {cell.name for cell in open_}
    found = []
    for cell in cells:
        if cell in few:
            found.append(ShownCell(cell.name, "few"))
        elif cell.name in kept:
            found.append(ShownCell(cell.name, "kept back"))
        else:
            rows, persons = rounded(cell.rows, least), rounded(cell.persons, least)
            found.append(ShownCell(cell.name, "shown", rows, persons))
    return found


def _safe(
    cells: Sequence[Cell], few: Sequence[Cell], open_: Sequence[Cell], least: int, named: bool
) -> bool:
    """Whether what is left of all rows allows each few cell anything from 1 to k - 1.

    What is left is that of all few cells, to within the rounding of the shown ones. Of a few cell's
    rows only the persons are bounded by k where persons have several.
    """
    left = sum(cell.rows for cell in cells) - sum(rounded(cell.rows, least) for cell in open_)
    below, above = loose(least)
    most = math.inf if named else least - 1
    others = (len(few) - 1) * most if len(few) > 1 else 0.0
    # all others have k at least: what these leave of very few rows is what there can be
    possible = min(least - 1, sum(cell.rows for cell in cells) - least * len(open_))
    return left - above * len(open_) - others <= 1 and left + below * len(open_) >= possible


def _free(cells: Sequence[Cell], open_: Sequence[Cell], least: int) -> bool:
    """Whether a few cell may be k - 1, or as large as labels allow, where the first open cell is
    kept back and the others are shown."""
    below, total = loose(least)[0], sum(cell.rows for cell in cells)
    others = sum(max(least, rounded(cell.rows, least) - below) for cell in open_[1:])
    return total - least - others >= min(least - 1, total - least * len(open_))


def rounded(count: float, least: int) -> int:
    """To the nearest multiple; a half goes up."""
    return int(math.floor(count / least + 0.5)) * least


def loose(least: int) -> tuple[int, int]:
    """How far below, and above, what is shown a count may be that was rounded."""
    return least // 2, (least - 1) // 2
