"""Columns of numbers by groups: counts, means, deviations and quantiles, step after step.

0    of each column and group how many rows have a number and how many don't; the numbers' sum
1    distances from the group's mean, squared
2    a histogram of each that holds its quantiles; each person's squared distances, squared, for
     what one person may have (``hiding/numbers.py``), in units of the variance
3-5  finer ones, where quantiles are asked for and few far values made these too wide

Means are of two sums: of the numbers, then of what is left to the rounded mean, so that numbers
such as 1e9 + 1 lose no digits to their size.

Shapes: C columns, G groups that are described; a histogram has BINS + 2 places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.procedures.hiding import (
    Counted,
    dominated,
    few_values,
    grain,
    mover,
    to_grain,
)
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.spread import (
    BINS,
    QUANTILES,
    Range,
    first_range,
    next_range,
    quantiles,
)
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Earlier
from wardround.common.procedures.statistics.counts.groups import (
    Groups,
    table_of,
    table_shapes,
    table_sums,
)
from wardround.common.procedures.statistics.frame import Floats, Frame

Histogram = tuple[Range, Floats, Floats]
FINER = 3
PRESENT, MISSING = "present", "missing"
_DIGITS = 6


@dataclass(frozen=True)
class Series:
    """Exact totals of a column in a group.

    rows, people : with a number
    near : a number near the mean
    drift : sum of distances from it
    squares : sum of squared distances from the mean
    fourths : sum of each person's squared distances, squared
    histograms : bins, and the rows and persons in each; none of a column that is constant
    """

    rows: float
    people: float
    near: float = 0.0
    drift: float = 0.0
    squares: float = 0.0
    fourths: float = 0.0
    histograms: tuple[Histogram, ...] = ()

    @property
    def mean(self) -> float:
        return self.near + self.drift / self.rows

    @property
    def variance(self) -> float:
        """With rows - 1; NaN of a single row."""
        return self.squares / (self.rows - 1) if self.rows > 1 else math.nan

    def hidden(self, least: int) -> str:
        """Why nothing is shown of its numbers; '' where it is."""
        if self.people < least:
            return "few"
        if dominated(self.squares, self.fourths):
            return "one person may be most of it"
        alike = any(few_values(persons, least) for _, _, persons in self.histograms[:1])
        return "few have one of its values" if alike else ""

    def step(self, least: int) -> float:
        """What a mean or deviation of it is rounded to."""
        return grain(mover(self.squares, self.fourths), self.people, least)

    def shown(self, least: int) -> dict[str, float]:
        """Mean and deviation, rounded, and what the first may be off by; empty where hidden."""
        if self.hidden(least):
            return {}
        step = self.step(least)
        if not step:
            return {"mean": float(f"{self.mean:.{_DIGITS}g}"), "sd": 0.0, "error": 0.0}
        deviation = math.sqrt(max(0.0, self.variance))
        return {
            "mean": to_grain(self.mean, step),
            "sd": to_grain(deviation, step),
            "error": step / 2,
        }

    def quantiles(self, least: int) -> dict[float, tuple[float, float]]:
        """Those that may be shown, each with its error."""
        if self.people < least:
            return {}
        if not self.histograms:  # all are one number
            value = float(f"{self.mean:.{_DIGITS}g}")
            return {p: (value, 0.0) for p in QUANTILES}
        found = quantiles(*self.histograms[-1], self.people, least)
        return {
            float(p): (float(f"{one[0]:.12g}"), float(f"{one[1] * 1.001:.4g}"))
            for p, one in found.items()
        }


def counted(shapes: Shapes) -> list[str]:
    """The names of those that are counts of rows or persons."""
    return [key for key in shapes if key.endswith(("rows", "persons"))]


@dataclass(frozen=True)
class Numbers:
    """What is asked of some columns.

    names : of the C columns
    read : a hospital's rows to C arrays of N numbers
    by : the column of their groups
    finer : how often histograms may be made finer, for quantiles
    """

    names: Sequence[str]
    read: Callable[[Frame], Sequence[Floats]]
    by: str | None = None
    finer: int = 0

    @property
    def most_steps(self) -> int:
        """As an analysis has it."""
        return 3 + self.finer

    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        """Of the next step."""
        size = len(self.names), len(Groups.of(self.by, agreed))
        if not earlier:
            found: Shapes = {"sum": size}
            for column in range(size[0]):
                found |= table_shapes(f"cells {column}", size[1] + 2, 2, agreed)
            return found
        if len(earlier) == 1:
            return {"drift": size, "squares": size}
        kinds = ("rows",) if agreed.persons is None else ("rows", "persons")
        asked = self._histograms(agreed, earlier)
        found = {f"{key}/{kind}": (BINS + 2,) for key in asked for kind in kinds}
        return found | ({"fourths": size} if len(earlier) == 2 and found else {})

    def counts(self, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
        """Names of counts in it."""
        return counted(self.shapes(agreed, earlier))

    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        """A hospital's."""
        groups = Groups.of(self.by, agreed)
        places, values = groups.places(frame), self.read(frame)
        if not earlier:
            found: Sums = {"sum": np.zeros((len(self.names), len(groups)))}
            for column, numbers in enumerate(values):
                gaps = np.isnan(numbers)
                size = len(groups) + 2, 2
                key = f"cells {column}"
                found |= table_sums(key, frame, places, gaps.astype(np.int64), size)
                for group in range(len(groups)):
                    found["sum"][column, group] = numbers[~gaps & (places == group)].sum()
            return found
        found = self._distances(frame, agreed, earlier, values) if len(earlier) < 3 else {}
        for key, (column, group, where) in self._histograms(agreed, earlier).items():
            inside = where.places(np.where(places == group, values[column], np.nan))
            found |= frame.counted(key, inside, BINS + 2, once=True)
        return found if len(earlier) != 2 or len(found) > 1 else {}

    def _distances(
        self, frame: Frame, agreed: Agreed, earlier: Earlier, values: Sequence[Floats]
    ) -> Sums:
        """Sums of distances and their squares, or each person's squares squared."""
        groups, names = Groups.of(self.by, agreed), ("drift", "squares")
        places, size = groups.places(frame), (len(self.names), len(groups))
        found = {name: np.zeros(size) for name in (names if len(earlier) == 1 else ("fourths",))}
        for column, numbers in enumerate(values):
            for group in range(len(groups)):
                mine = ~np.isnan(numbers) & (places == group)
                one = self.series(agreed, earlier, column, group)
                away = numbers[mine] - one.near
                if len(earlier) == 1:
                    found["drift"][column, group] = away.sum()
                    found["squares"][column, group] = (away**2).sum()
                elif one.squares > 0:
                    parts = np.zeros(len(numbers))
                    parts[mine] = away**2 * (one.rows / one.squares)
                    found["fourths"][column, group] = (frame.of_persons(parts) ** 2).sum()
        return found

    # --- what follows from totals ----------------------------------------------------------------
    def table(self, agreed: Agreed, earlier: Earlier, column: int) -> Counted:
        """Rows with and without a number, by group (and the other and missing groups)."""
        groups = Groups.of(self.by, agreed)
        return table_of(f"cells {column}", earlier[0], (groups.names, (PRESENT, MISSING)), agreed)

    def _near(self, agreed: Agreed, earlier: Earlier, column: int, group: int) -> float:
        rows = self.table(agreed, earlier, column).rows[group, 0]
        return float(earlier[0]["sum"][column, group]) / rows if rows else 0.0

    def series(self, agreed: Agreed, earlier: Earlier, column: int, group: int) -> Series:
        """The totals of one column in one group, as far as there are steps. Raises TaskError for
        totals that no hospitals could have given."""
        table = self.table(agreed, earlier, column)
        rows, people = float(table.rows[group, 0]), float(table.persons[group, 0])
        if not rows or len(earlier) < 2:
            return Series(rows, people, self._near(agreed, earlier, column, group))
        drift, squares = (float(earlier[1][name][column, group]) for name in ("drift", "squares"))
        near = self._near(agreed, earlier, column, group)
        if not all(map(math.isfinite, (near, drift, squares))):
            raise TaskError(f"the totals of '{self.names[column]}' are no numbers")
        squares = max(0.0, squares - drift**2 / rows)
        found = Series(rows, people, near, drift, squares)
        if len(earlier) > 2 and "fourths" in earlier[2]:
            unit = squares / rows
            fourths = float(earlier[2]["fourths"][column, group]) * unit**2
            found = replace(found, fourths=fourths)
        done, _ = self._path(earlier, f"{column}.{group}", found)
        return replace(found, histograms=tuple(done))

    def _path(
        self, earlier: Earlier, key: str, one: Series
    ) -> tuple[list[Histogram], Range | None]:
        """The histograms that were summed, and where the next one is asked for."""
        where = first_range(one.near, math.sqrt(one.squares / one.rows))
        done = list[Histogram]()
        for sums in earlier[2:]:
            rows = sums.get(f"{key}/rows")
            if where is None or rows is None:
                return done, None
            done.append((where, rows, sums.get(f"{key}/persons", rows)))
            where = next_range(where, rows) if len(done) <= self.finer else None
        return done, where

    def _histograms(self, agreed: Agreed, earlier: Earlier) -> dict[str, tuple[int, int, Range]]:
        """Those of the next step: column, group and bins, by name."""
        found = {}
        for column in range(len(self.names)):
            for group in range(len(Groups.of(self.by, agreed))):
                one, key = self.series(agreed, earlier, column, group), f"{column}.{group}"
                if one.rows and (where := self._path(earlier, key, one)[1]):
                    found[key] = column, group, where
        return found
