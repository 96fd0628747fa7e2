"""Pearson's correlations and covariances of columns of numbers.

0    of each column how many numbers and their sum
1    squared distances from the mean
2    of each pair, over rows that have both, in units of the columns' deviations: how many, and sums
     of distances from the means, their squares and products; of each person's products a also a^2
     and a^4

A correlation of two columns of 0 and 1 is an equation for the four counts, so none is shown in
full: it is rounded to what the smallest cell's persons would move it by, those who move it most,
and not shown where one person may be most of it. With n rows that is some k z / n, where chance
alone moves it by 1 / sqrt(n).

Shapes: C columns; upper triangles, row by row, T = C (C + 1) / 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.procedures.hiding import dominated, grain, mover, to_grain
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Analysis, Earlier
from wardround.common.procedures.statistics.counts.groups import shown_sizes, text_of
from wardround.common.procedures.statistics.frame import Floats, Frame
from wardround.common.procedures.statistics.result import Cell, Result, Sheet, Told
from wardround.common.settings.analyses.base import quoted
from wardround.common.settings.analyses.counts import CorrelationOptions

_MOST = 1e10
"""Of a^2, in which it is most of any sum: a^4 stays within what can be added."""
TURNED = 4.0
"""What r of zeros and ones, half of each, moves by, times n, when a cell of their table has one row
more and the margins stay."""


@dataclass(frozen=True)
class Pair:
    """Exact figures of two columns over the rows that have both, in units of their deviations.

    first, second : the columns' variances
    moved : how much those add to the covariance who add most
    one : whether one person may be most of it
    unit : of the covariance
    """

    rows: float
    people: float
    covariance: float
    first: float
    second: float
    moved: float
    one: bool
    unit: float = 1.0

    @property
    def r(self) -> float:
        """NaN where a column doesn't vary."""
        spread = math.sqrt(max(0.0, self.first) * max(0.0, self.second))
        return max(-1.0, min(1.0, self.covariance / spread)) if spread > 0 else math.nan

    def step(self, least: int) -> float:
        """What so many persons would move r by, or more."""
        each = max(TURNED, self.moved / math.sqrt(self.first * self.second))
        return grain(each, self.people, least)


class Correlation(Analysis[CorrelationOptions]):
    """See the module."""

    kind = "correlation"
    most_steps = 3

    @property
    def numbers(self) -> Iterable[str]:
        return self.options.columns

    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        wide = len(self.options.columns)
        if not earlier:
            return {"rows": (wide,), "sum": (wide,)}
        if len(earlier) > 2 or not (earlier[0]["rows"] > 0).all():
            return {}
        if len(earlier) == 1:
            return {"squared distances": (wide,)}
        upper = (wide * (wide + 1) // 2,)
        found: Shapes = {"pair rows": upper, "products": upper, "squared": upper, "fourth": upper}
        if agreed.persons is not None:
            found["pair persons"] = upper
        return found | {"sums": (wide, wide), "squares": (wide, wide)}

    def counts(self, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
        return [key for key in self.shapes(agreed, earlier) if key.endswith(("rows", "persons"))]

    def _read(self, frame: Frame) -> Floats:
        values = np.column_stack([*map(frame.values, self.options.columns)])
        if self.options.complete:
            values[np.isnan(values).any(axis=1)] = np.nan
        return values

    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        values = self._read(frame)
        there = ~np.isnan(values)
        if not earlier:
            return {"rows": there.sum(axis=0).astype(float), "sum": np.nansum(values, axis=0)}
        away = np.where(there, values - earlier[0]["sum"] / earlier[0]["rows"], 0.0)
        if len(earlier) == 1:
            return {"squared distances": (away**2).sum(axis=0)}
        away = away / self._units(earlier)
        has, upper = there.astype(np.float64), np.triu_indices(values.shape[1])
        found: Sums = {
            "pair rows": (has.T @ has)[upper],
            "products": (away.T @ away)[upper],
            "sums": away.T @ has,
            "squares": (away**2).T @ has,
        }
        pairs = list(zip(*upper, strict=True))
        each = [away[:, i] * away[:, j] for i, j in pairs]
        squared = [np.minimum(frame.of_persons(one) ** 2, _MOST) for one in each]
        found["squared"] = np.array([float(one.sum()) for one in squared])
        found["fourth"] = np.array([float((one**2).sum()) for one in squared])
        if frame.whose is None:
            return found
        both = [float(frame.people(there[:, i] & there[:, j])) for i, j in pairs]
        found["pair persons"] = np.array(both)
        return found

    def _units(self, earlier: Earlier) -> Floats:
        """The columns' deviations; 1 of a constant one."""
        variance = earlier[1]["squared distances"] / earlier[0]["rows"]
        if not np.isfinite(variance).all():
            raise TaskError("the columns' totals are no numbers")
        return np.where(variance > 0, np.sqrt(np.maximum(variance, 0.0)), 1.0)

    # --- what is shown ---------------------------------------------------------------------------
    def pair(self, earlier: Earlier, first: int, second: int) -> Pair:
        """The exact figures of two columns, the one before the other or the same one."""
        wide, totals = len(self.options.columns), earlier[2]
        place = first * wide - first * (first - 1) // 2 + second - first
        rows = float(totals["pair rows"][place])
        people = float(totals.get("pair persons", totals["pair rows"])[place])
        if rows < 2:
            return Pair(rows, people, math.nan, 0.0, 0.0, 0.0, False)
        sums, squares = totals["sums"], totals["squares"]
        drifts = float(sums[first, second]), float(sums[second, first])
        product = float(totals["products"][place]) - drifts[0] * drifts[1] / rows
        spread = (
            float(squares[first, second]) - drifts[0] ** 2 / rows,
            float(squares[second, first]) - drifts[1] ** 2 / rows,
        )
        parts = float(totals["squared"][place]), float(totals["fourth"][place])
        units = self._units(earlier)[[first, second]]
        return Pair(
            rows,
            people,
            product / (rows - 1),
            spread[0] / (rows - 1),
            spread[1] / (rows - 1),
            mover(*parts),
            dominated(*parts),
            float(units[0] * units[1]),
        )

    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        names = self.options.columns
        if len(earlier) < 3:
            empty = [
                name for name, rows in zip(names, earlier[0]["rows"], strict=True) if rows <= 0
            ]
            return Result(
                notes=[f"No number at any hospital: {quoted(empty)}. Ask for the others alone."]
            )
        matrix: list[list[Cell]] = [[name, *([None] * len(names))] for name in names]
        lines = list[list[Cell]]()
        for first, name in enumerate(names):
            matrix[first][first + 1] = 1.0
            for second in range(first, len(names)):
                one = self.pair(earlier, first, second)
                line, r = self._shown(one, agreed, told)
                if first == second:
                    line[1:4] = [1.0, 0.0, None]
                else:
                    matrix[first][second + 1] = matrix[second][first + 1] = r
                lines.append([name, names[second], *line])
        head = ["column", "with", "n", "r", "±", "p", "covariance", "±"]
        of = "rows without a gap" if self.options.complete else "all rows that have both"
        least = told.least
        return Result(
            sheets=[
                Sheet(["column", *names], matrix, title="Pearson's correlations"),
                Sheet(head, lines, "pairs", "Pairs"),
            ],
            notes=[
                f"Each of {of}. Rounded to what {least} persons would move it by, to within ±; p "
                "is of what is shown. None where fewer persons have both, or one may be most of it."
            ],
        )

    def _shown(self, one: Pair, agreed: Agreed, told: Told) -> tuple[list[Cell], float | None]:
        """n, r, its error, p, covariance, its error; and r."""
        sizes = np.array([one.rows, agreed.rows - one.rows])
        who = sizes
        if agreed.persons is not None:
            who = np.array([one.people, max(0.0, agreed.persons - one.people)])
        count = shown_sizes(["both", "not both"], sizes, who, agreed, told.least)[0]
        text = text_of(count, told.least)
        if one.people < told.least or one.one or not (one.first > 0 and one.second > 0):
            return [text, None, None, None, None, None], None
        step = one.step(told.least)
        r, error = to_grain(one.r, step), step / 2
        if abs(one.r) > 1 - step:  # so near to 1, the few who don't agree could be counted
            r, error = math.copysign(to_grain(1 - step, step), one.r), step
        moved = grain(one.moved * one.unit, one.people, told.least)
        p = _p_of(r, float(count.rows)) if count.state == "shown" else None
        return [text, r, error, p, to_grain(one.covariance * one.unit, moved), moved / 2], r


def _p_of(r: float, rows: float) -> float | None:
    """Two-sided, of a correlation of so many rows; None where it has none."""
    if rows <= 2 or abs(r) >= 1:
        return None
    t = r * math.sqrt((rows - 2) / (1 - r**2))
    return float(2 * stats.t.sf(abs(t), rows - 2))
