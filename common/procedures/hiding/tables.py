"""What is shown of the counts of two columns together, with both columns' own counts beside them.

A cell that is *few* could be had from its row's total and the row's other cells. So of a row or
column with one such cell another one is kept back, by its place, not by its count; but not where
the few cell is of a level that is few altogether, as of two persons without an answer: its total
is not shown, and rounding covers it. A level whose total is so small that all its cells may be few
ones, and so large that each then has nearly k - 1, shows none of them.

What an attacker can make of the rest is then worked out by linear programming: who knows the
method, how many rows there are, and, where all levels of a column are shown, their totals exactly,
so that another table of the study helps no further. Each few cell must be free to be anything from
1 to k - 1, as far as the labels alone leave it; else nothing is shown of its row and column.

Shapes: R x C cells, of disjoint rows that are all there are. Where persons have several rows, a
cell is few by its persons, and rows are what is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from wardround.common.procedures.hiding.cells import (
    Cell,
    ShownCell,
    State,
    loose,
    rounded,
    shown_cells,
)

Floats = NDArray[np.float64]
MOST_CELLS = 400
"""Of a table of more, no cell is shown: each is looked at by itself."""
_SLACK = 1e-7
_FREE = "free"


@dataclass(frozen=True)
class Counted:
    """Exact totals of a table.

    rows, persons : R x C; the same where no patients are named
    row_names, column_names : of the levels
    row_persons, column_persons : of each level (R, C); a person may be in several cells
    everybody : how many persons there are; None where none are named
    """

    rows: Floats
    persons: Floats
    row_names: Sequence[str]
    column_names: Sequence[str]
    row_persons: Floats
    column_persons: Floats
    everybody: float | None = None


@dataclass(frozen=True)
class ShownTable:
    """What is shown: cells, and the levels' totals."""

    cells: Sequence[Sequence[ShownCell]]
    rows: Sequence[ShownCell]
    columns: Sequence[ShownCell]

    def block(self, rows: Sequence[int], columns: Sequence[int]) -> Floats | None:
        """The rounded counts of some cells; None where not all of them are shown."""
        picked = [[self.cells[row][column] for column in columns] for row in rows]
        if any(cell.state != "shown" for line in picked for cell in line):
            return None
        found = np.array([[float(cell.rows) for cell in line] for line in picked])
        return found.reshape(len(rows), len(columns))


def shown_table(table: Counted, least: int) -> ShownTable:
    """What is shown of a table. ``least``: k."""
    margins = _margin(table, 0, least), _margin(table, 1, least)
    if 1 in table.rows.shape:  # a column by itself
        long = margins[0 if table.rows.shape[1] == 1 else 1]
        return ShownTable([[one] for one in long] if long is margins[0] else [long], *margins)
    states = _States(table, margins, least)
    if table.rows.size > MOST_CELLS or not states.made_safe():
        states.nothing()
    cells = [
        [states.shown(i, j) for j in range(table.rows.shape[1])] for i in range(table.rows.shape[0])
    ]
    return ShownTable(cells, *margins)


def all_counts_may_be_known(table: Counted, least: int) -> bool:
    """Whether exact counts give no few cell away: because there is none but empty ones."""
    return not ((table.persons > 0) & (table.persons < least)).any()


def _margin(table: Counted, axis: int, least: int) -> list[ShownCell]:
    names = table.column_names if axis else table.row_names
    persons = table.column_persons if axis else table.row_persons
    sums = table.rows.sum(axis=1 - axis)
    cells = [Cell(*one) for one in zip(names, sums.tolist(), persons.tolist(), strict=True)]
    return shown_cells(cells, least, table.everybody)


@dataclass
class _States:
    """Of each cell 'shown', 'few', 'kept back' (k at least), or 'free' (kept back, whatever it is).

    Variables of the linear programs are the cells' rows, one after the other.
    """

    table: Counted
    margins: tuple[list[ShownCell], list[ShownCell]]
    least: int
    state: NDArray[np.str_] = field(init=False)

    def __post_init__(self) -> None:
        few = self.table.persons < self.least
        self.state = np.where(few, "few", "shown").astype("<U9")
        below, above = loose(self.least)
        for axis, margin in enumerate(self.margins):
            count = self.table.rows.shape[1 - axis]
            for place, level in enumerate(margin):
                most = count * self.least
                safe = level.rows + above <= most - count + 2 - self.least  # one may be k - 1
                if level.state == "shown" and not safe and level.rows - below < most:
                    self.state[self._line(axis, place)] = _FREE

    @staticmethod
    def _line(axis: int, place: int) -> tuple[int | slice, int | slice]:
        return (slice(None), place) if axis else (place, slice(None))

    def nothing(self) -> None:
        """Show no cell."""
        self.state[:] = _FREE

    def shown(self, row: int, column: int) -> ShownCell:
        """A cell as it is published; it names nothing, and persons are those of its levels."""
        state = str(self.state[row, column])
        if state == "shown":
            return ShownCell("", "shown", rounded(float(self.table.rows[row, column]), self.least))
        kept: State = "few" if state == "few" else "kept back"
        return ShownCell("", kept)

    def made_safe(self) -> bool:
        """Keep so many cells back that nothing few can be worked out; False where that can't be
        had. Who knows the method learns from a step more that the one before didn't do: so what
        all tables with these labels need is the first, and there are few steps."""
        self._one_more_of_each_line()
        if (self.state == "shown").sum() < 2:
            return False  # a lone cell's number decides too much
        if not _Seen(self).unsafe():
            return True
        self._all_of_such_lines()
        return not _Seen(self).unsafe()

    def _one_more_of_each_line(self) -> None:
        """Of a row or column with a single hidden cell another one, first where the line across
        has hidden ones."""
        changed = True
        while changed:
            changed = False
            for axis, margin in enumerate(self.margins):
                for place in range(len(margin)):
                    hidden = self.state != "shown"
                    along = hidden[self._line(axis, place)]
                    alone = int(np.flatnonzero(along)[0]) if along.sum() == 1 else None
                    if alone is not None and self.margins[1 - axis][alone].state == "shown":
                        across = hidden.any(axis=axis)
                        best = max(np.flatnonzero(~along), key=lambda one: (across[one], -one))
                        self.state[(best, place) if axis else (place, best)] = "kept back"
                        changed = True

    def _all_of_such_lines(self) -> None:
        """All cells of rows and columns with a hidden one, and which of them are few."""
        hidden = self.state != "shown"
        self.state[hidden.any(axis=1)[:, None] | hidden.any(axis=0)[None, :]] = _FREE

    def program(self, labels_only: bool) -> _Program:
        """What an attacker knows: equations and bounds. ``labels_only``: no cell's number."""
        size, named = self.table.rows.shape, self.table.everybody is not None
        below, above = loose(self.least)
        bounds: list[tuple[float, float | None]] = []
        for (row, column), state in np.ndenumerate(self.state):
            if state == "shown" and not labels_only:
                number = rounded(float(self.table.rows[row, column]), self.least)
                bounds.append((max(self.least, number - below), number + above))
            elif state in ("shown", "kept back"):
                bounds.append((self.least, None))
            elif state == "few":
                bounds.append((0, None if named else self.least - 1))
            else:
                bounds.append((0, None))
        found = _Program(bounds, [np.ones(size).ravel()], [float(self.table.rows.sum())])
        for axis, margin in enumerate(self.margins):
            sums, all_shown = self.table.rows.sum(axis=1 - axis), _all_shown(margin)
            for place, level in enumerate(margin):
                line = np.zeros(size)
                line[self._line(axis, place)] = 1.0
                if level.state == "shown" and all_shown:
                    found.is_(line.ravel(), float(sums[place]))
                elif level.state == "shown":  # exactly, it would tell what the few levels have
                    found.between(line.ravel(), level.rows - below, level.rows + above)
                elif level.state == "few" and not named:
                    found.between(line.ravel(), 0, self.least - 1)
        return found

    def targets(self) -> list[Floats]:
        """What must stay free: few cells, and totals of few levels; each by its cells."""
        size, found = self.table.rows.shape, list[Floats]()
        places = [tuple(one) for one in np.argwhere(self.state == "few")]
        for axis, margin in enumerate(self.margins):
            few = [place for place, level in enumerate(margin) if level.state == "few"]
            places += [self._line(axis, place) for place in few]
        for place in places:
            aim = np.zeros(size)
            aim[place] = 1.0
            found.append(aim.ravel())
        return found


def _all_shown(margin: Sequence[ShownCell]) -> bool:
    return all(level.state == "shown" for level in margin)


@dataclass
class _Program:
    """Bounds of all cells, and what is known of sums of them: what they are, or at most."""

    bounds: Sequence[tuple[float, float | None]]
    equal: list[Floats]
    at: list[float]
    most: list[Floats] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)

    def is_(self, line: Floats, total: float) -> None:
        """A sum is known."""
        self.equal.append(line)
        self.at.append(total)

    def between(self, line: Floats, low: float, high: float) -> None:
        """A sum is known to within rounding."""
        self.most += [line, -line]
        self.limits += [high, -low]

    def least_of(self, aim: Floats) -> Floats | None:
        """Cells where the aim is least; None where it has no end."""
        most = np.array(self.most) if self.most else None
        limits = self.limits or None
        done = linprog(aim, most, limits, np.array(self.equal), self.at, self.bounds)
        return np.asarray(done.x, np.float64) if done.status == 0 else None


class _Seen:
    """How small and how large each target has been, in cells that an attacker can't rule out."""

    def __init__(self, states: _States) -> None:
        self._aims = states.targets()
        self._program = states.program(labels_only=False)
        self._labels = states.program(labels_only=True)
        count = len(self._aims)
        self._low, self._high = np.full(count, np.inf), np.full(count, -np.inf)
        self._lowest, self._highest = np.ones(count), np.full(count, float(states.least - 1))
        if count:
            for sign in (1.0, -1.0):
                self._look(self._program, sign * np.sum(self._aims, axis=0))

    def unsafe(self) -> bool:
        """Whether a target isn't free."""
        return not all(
            self._is_low(place, aim) and self._is_high(place, aim)
            for place, aim in enumerate(self._aims)
        )

    def _look(self, program: _Program, aim: Floats) -> Floats | None:
        cells = program.least_of(aim)
        if cells is not None and program is self._program:
            values = np.array(self._aims) @ cells
            self._low, self._high = np.minimum(self._low, values), np.maximum(self._high, values)
        return cells

    def _is_low(self, place: int, aim: Floats) -> bool:
        if self._low[place] > self._lowest[place] + _SLACK:
            self._look(self._program, aim)
        return bool(self._low[place] <= self._lowest[place] + _SLACK)

    def _is_high(self, place: int, aim: Floats) -> bool:
        if self._high[place] < self._highest[place] - _SLACK:
            if self._look(self._program, -aim) is None:
                self._high[place] = np.inf
        if self._high[place] < self._highest[place] - _SLACK:  # more than the labels leave?
            cells = self._look(self._labels, -aim)
            left = np.inf if cells is None else float(aim @ cells)
            self._highest[place] = min(self._highest[place], left)
        return bool(self._high[place] >= self._highest[place] - _SLACK)
