"""Groups that rows are put in by a column's levels, and how many rows and persons each has.

Shapes: N rows of a hospital, G levels; places are the levels', then all others' and the missing
ones', G + 2 in all. Without a column there is one level, which every row is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wardround.common.figures.sums import Sums
from wardround.common.procedures.hiding import Cell, Counted, ShownCell, shown_cells
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.frame import MISSING, OTHER, Floats, Frame, Ints
from wardround.common.procedures.statistics.result import Cell as Value

ALL = "all"
OTHERS, NONE = "other", "missing"
NOT_SHOWN = "not shown"


@dataclass(frozen=True)
class Groups:
    """Levels of a column, or all rows as one (``by`` None)."""

    by: str | None
    levels: tuple[str, ...]

    @classmethod
    def of(cls, by: str | None, agreed: Agreed) -> Groups:
        """As hospitals agreed."""
        return cls(by, (ALL,) if by is None else agreed.levels[by])

    @property
    def names(self) -> tuple[str, ...]:
        """Of all G + 2 places."""
        return (*self.levels, OTHERS, NONE)

    def __len__(self) -> int:
        return len(self.levels)

    def places(self, frame: Frame) -> Ints:
        """N places of a hospital's rows."""
        if self.by is None:
            return np.zeros(len(frame), np.int64)
        found = frame.levels(self.by, self.levels)
        found[found == OTHER] = len(self)
        found[found == MISSING] = len(self) + 1
        return found


def table_shapes(key: str, rows: int, columns: int, agreed: Agreed) -> Shapes:
    """Of the counts of a table, with persons where they are named."""
    found: Shapes = {f"{key}/rows": (rows * columns,)}
    if agreed.persons is not None:
        found[f"{key}/persons"] = (rows * columns,)
        found |= {f"{key}/row persons": (rows,), f"{key}/column persons": (columns,)}
    return found


def table_sums(key: str, frame: Frame, rows: Ints, columns: Ints, size: tuple[int, int]) -> Sums:
    """A hospital's: how many of its rows, and persons, are in each cell, row and column.

    rows, columns : N places
    """
    found = frame.counted(key, rows * size[1] + columns, size[0] * size[1])
    if frame.whose is not None:
        found[f"{key}/row persons"] = frame.counted_people(rows, size[0])
        found[f"{key}/column persons"] = frame.counted_people(columns, size[1])
    return found


def table_of(
    key: str, totals: Sums, names: tuple[Sequence[str], Sequence[str]], agreed: Agreed
) -> Counted:
    """The table of these totals. ``names``: of its rows and columns."""
    size = len(names[0]), len(names[1])
    rows = totals[f"{key}/rows"].reshape(size)
    if agreed.persons is None:
        return Counted(rows, rows, *names, rows.sum(axis=1), rows.sum(axis=0))
    return Counted(
        rows,
        totals[f"{key}/persons"].reshape(size),
        *names,
        totals[f"{key}/row persons"],
        totals[f"{key}/column persons"],
        float(agreed.persons),
    )


def without_empty(table: Counted, rows: Sequence[int], columns: Sequence[int]) -> Counted:
    """The table without those of the named rows and columns that nobody is in at all."""
    keep = [
        [place for place, sum_ in enumerate(sums) if sum_ > 0 or place not in named]
        for sums, named in ((table.rows.sum(axis=1), rows), (table.rows.sum(axis=0), columns))
    ]
    cells = np.ix_(*keep)
    return Counted(
        table.rows[cells],
        table.persons[cells],
        [table.row_names[place] for place in keep[0]],
        [table.column_names[place] for place in keep[1]],
        table.row_persons[keep[0]],
        table.column_persons[keep[1]],
        table.everybody,
    )


def few_left(table: Counted, groups: Sequence[int], least: int) -> bool:
    """Whether of the rows that a test leaves those of a group, with a number or without, are of 1
    to k - 1 persons. Not only all of them together: another analysis may leave the others, too.

    table : rows with a number and without, by group
    groups : those that are compared, of which rows with a number count
    """
    left = table.persons.copy()
    left[list(groups), 0] = 0.0
    return bool(((left > 0) & (left < least)).any())


def shown_sizes(
    names: Sequence[str],
    rows: Floats,
    persons: Floats,
    agreed: Agreed,
    least: int,
    unnamed: Sequence[str] = (OTHERS, NONE),
) -> list[ShownCell]:
    """What is shown of disjoint groups that are all rows together.

    unnamed : of which that nobody is in it is said: else it would hide another one
    """
    cells = [Cell(*one) for one in zip(names, rows.tolist(), persons.tolist(), strict=True)]
    empty = [cell.rows == 0 and cell.name in unnamed for cell in cells]
    there = [cell for cell, none in zip(cells, empty, strict=True) if not none]
    everybody = None if agreed.persons is None else float(agreed.persons)
    shown = iter(shown_cells(there, least, everybody))
    return [
        ShownCell(cell.name, "shown") if none else next(shown)
        for cell, none in zip(cells, empty, strict=True)
    ]


def text_of(cell: ShownCell, least: int) -> Value:
    """A count as a table has it."""
    if cell.state == "few":
        return f"< {least}"
    return cell.rows if cell.state == "shown" else NOT_SHOWN
