"""Tests by ranks, from one histogram that all groups share.

0    how many rows of each group have a number; of all, the sum, and how many numbers aren't whole,
     aren't whole tenths, hundredths, thousandths
1    squared distances from the mean
2    a histogram of each group

Where all numbers are whole (or tenths, ...), a bin is one value, and the ranks are exact as far as
the bins reach. Else values in a bin are ranked as ties, and who comes first in a pair of them is
not known: U is off by half of these pairs at most, which is stated with the p that it leaves.

Shapes: C columns, G groups, BINS + 2 places of a histogram.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from wardround.common.figures.sums import Sums
from wardround.common.procedures.hiding import Counted, few_values, rounded
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.spread import Range
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Analysis, Earlier
from wardround.common.procedures.statistics.counts.groups import (
    Groups,
    few_left,
    table_of,
    table_shapes,
    table_sums,
)
from wardround.common.procedures.statistics.counts.numbers import counted
from wardround.common.procedures.statistics.frame import Floats, Frame, Ints
from wardround.common.procedures.statistics.result import Cell, Result, Sheet, Told
from wardround.common.procedures.statistics.tests_of_groups.formulas import (
    kruskal,
    mann_whitney,
    tie_factor,
    u_test,
)
from wardround.common.procedures.statistics.tests_of_groups.means import two_of
from wardround.common.settings.analyses.groups import (
    KruskalOptions,
    MannWhitneyOptions,
    OfGroupsOptions,
)

BINS = 4096
_DIGITS = 4
_REACH = 8.0
"""Deviations from the mean that bins reach to, where values aren't few."""
_WHOLE = 1e-6
_LARGEST = 2.0**40
Opts = TypeVar("Opts", bound=OfGroupsOptions)


@dataclass(frozen=True)
class Ranked:
    """Of a column: how many of each group are in each bin, and how sure that is.

    tied : bins whose values are all the same, BINS + 2 of them
    few_left : whether some of the rows that don't count are of 1 to k - 1 persons
    """

    rows: Floats
    persons: Floats
    tied: Sequence[bool]
    few_left: bool

    def why_not(self, least: int) -> str:
        """Why nothing is shown of it; '' where it is."""
        if (self.rows.sum(axis=1) == 0).any() or (self.persons.sum(axis=1) < least).any():
            return "a group is of few persons"
        alike = any(few_values(group, least) for group in self.persons)
        return "few have one of its values" if alike else ""

    @property
    def unsure(self) -> Floats:
        """G, by how much each group's sum of ranks may be off."""
        loose = self.rows[:, ~np.array(self.tied)]
        found: Floats = (loose * (loose.sum(axis=0) - loose)).sum(axis=1) / 2
        return found


class OfRanks(Analysis[Opts]):
    """What these have in common."""

    most_steps = 3

    @property
    def numbers(self) -> Iterable[str]:
        return self.options.columns

    @property
    def categories(self) -> Iterable[str]:
        return [self.options.by]

    def used(self, agreed: Agreed) -> list[int]:
        """The groups that are compared."""
        return list(range(len(agreed.levels[self.options.by])))

    # --- the steps -------------------------------------------------------------------------------
    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        wide, groups = len(self.options.columns), self.used(agreed)
        if not earlier:
            size = len(agreed.levels[self.options.by]) + 2
            found: Shapes = {"sum": (wide,), "not whole rows": (wide, _DIGITS)}
            for column in range(wide):
                found |= table_shapes(f"cells {column}", size, 2, agreed)
            return found
        if len(earlier) == 1:
            return {"squares": (wide,)}
        if len(earlier) > 2:
            return {}
        kinds = ("rows",) if agreed.persons is None else ("rows", "persons")
        return {
            f"bins {column} {group}/{kind}": (BINS + 2,)
            for column in range(wide)
            if self._where(agreed, earlier, column)[0]
            for group in groups
            for kind in kinds
        }

    def counts(self, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
        return counted(self.shapes(agreed, earlier))

    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        groups = Groups.of(self.options.by, agreed)
        places = groups.places(frame)
        compared = np.isin(places, self.used(agreed))
        values = [*map(frame.values, self.options.columns)]
        used = [numbers[compared & ~np.isnan(numbers)] for numbers in values]
        if not earlier:
            found: Sums = {
                "sum": np.array([numbers.sum() for numbers in used]),
                "not whole rows": np.array([_not_whole(numbers) for numbers in used]),
            }
            for column, numbers in enumerate(values):
                gaps: Ints = np.isnan(numbers).astype(np.int64)
                size = len(groups) + 2, 2
                found |= table_sums(f"cells {column}", frame, places, gaps, size)
            return found
        if len(earlier) == 1:
            means = [self._mean(agreed, earlier, column) for column in range(len(used))]
            pairs = zip(used, means, strict=True)
            return {"squares": np.array([((one - mean) ** 2).sum() for one, mean in pairs])}
        found = {}
        for column, numbers in enumerate(values):
            where, _ = self._where(agreed, earlier, column)
            for group in self.used(agreed):
                if where is not None:
                    inside = where.places(np.where(places == group, numbers, np.nan))
                    found |= frame.counted(f"bins {column} {group}", inside, BINS + 2, once=True)
        return found

    # --- what follows from totals ----------------------------------------------------------------
    def _table(self, agreed: Agreed, earlier: Earlier, column: int) -> Counted:
        """Rows with a number and without, by group."""
        names = Groups.of(self.options.by, agreed).names
        return table_of(f"cells {column}", earlier[0], (names, ("present", "missing")), agreed)

    def _count(self, agreed: Agreed, earlier: Earlier, column: int) -> float:
        return float(self._table(agreed, earlier, column).rows[self.used(agreed), 0].sum())

    def _mean(self, agreed: Agreed, earlier: Earlier, column: int) -> float:
        count = self._count(agreed, earlier, column)
        return float(earlier[0]["sum"][column]) / count if count else 0.0

    def _where(self, agreed: Agreed, earlier: Earlier, column: int) -> tuple[Range | None, bool]:
        """The bins, and whether each is one value; None of a column that is constant or empty."""
        count, mean = self._count(agreed, earlier, column), self._mean(agreed, earlier, column)
        squares = float(earlier[1]["squares"][column])
        if not (count > 1 and squares > 0 and math.isfinite(squares)):
            return None, False
        deviation = math.sqrt(squares / count)
        whole = np.flatnonzero(earlier[0]["not whole rows"][column] == 0)
        if len(whole):
            unit = 10.0 ** -int(whole[0])
            if BINS * unit >= 2 * _REACH * deviation:
                middle = round(mean / unit)
                return Range((middle - BINS // 2 - 0.5) * unit, unit, BINS), True
        made = Range.covering(mean - _REACH * deviation, mean + _REACH * deviation)
        return Range(made.low, made.width * made.bins / BINS, BINS), False

    def ranked(
        self, agreed: Agreed, earlier: Earlier, column: int, groups: Sequence[int], least: int
    ) -> Ranked | None:
        """Some groups of a column; None of one that is constant or empty."""
        where, one_value = self._where(agreed, earlier, column)
        if where is None:
            return None
        rows = np.array([earlier[2][f"bins {column} {group}/rows"] for group in groups])
        persons = rows
        if agreed.persons is not None:
            persons = np.array([earlier[2][f"bins {column} {group}/persons"] for group in groups])
        tied = [False, *([one_value] * BINS), False]
        few = few_left(self._table(agreed, earlier, column), groups, least)
        return Ranked(rows, persons, tied, few)


class MannWhitney(OfRanks[MannWhitneyOptions]):
    """Between two groups."""

    kind = "mann_whitney"

    def used(self, agreed: Agreed) -> list[int]:
        return two_of(self.options, agreed)

    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        rows, notes = list[list[Cell]](), list[str]()
        for column, name in enumerate(self.options.columns):
            found = self.ranked(agreed, earlier, column, self.used(agreed), told.least)
            why = (
                "it is constant, or few have a value"
                if found is None
                else found.why_not(told.least)
            )
            if found is None or why:
                notes.append(f"'{name}' isn't tested: {why}.")
                continue
            rows.append([name, *_two_groups(found, told.least)])
        levels = agreed.levels[self.options.by]
        first, second = (levels[place] for place in self.used(agreed))
        head = ["column", "U", "±", "U / (n m)", "±", "p", "p from", "p to"]
        return Result(
            sheets=[Sheet(head, rows, title=f"Mann-Whitney, '{first}' against '{second}'")],
            notes=[*notes, _NOTE, "Equal to scipy's mannwhitneyu, method 'asymptotic'."],
        )


class Kruskal(OfRanks[KruskalOptions]):
    """Over all groups."""

    kind = "kruskal"

    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        rows, notes = list[list[Cell]](), list[str]()
        for column, name in enumerate(self.options.columns):
            persons = self._table(agreed, earlier, column).persons
            large = [group for group in self.used(agreed) if persons[group, 0] >= told.least]
            if len(large) < len(self.used(agreed)):
                notes.append(f"'{name}': over groups of {told.least} persons or more.")
            if len(large) < 2:
                notes.append(f"'{name}' isn't tested: {len(large)} such groups.")
                continue
            found = self.ranked(agreed, earlier, column, large, told.least)
            why = (
                "it is constant, or few have a value"
                if found is None
                else found.why_not(told.least)
            )
            if found is None or why:
                notes.append(f"'{name}' isn't tested: {why}.")
                continue
            rows.append([name, *_several_groups(found, told.least)])
        head = ["column", "H", "±", "df", "p"]
        return Result(
            sheets=[Sheet(head, rows, title="Kruskal-Wallis")],
            notes=[*notes, _NOTE, "Equal to scipy's kruskal."],
        )


_NOTE = (
    "± is what pairs of values in one bin leave open: 0 where values are whole numbers, tenths, "
    "hundredths or thousandths."
)


def _not_whole(values: Floats) -> Floats:
    """How many of the values aren't whole, whole tenths, ...: for each number of digits."""
    found = []
    for digits in range(_DIGITS):
        scaled = values * 10.0**digits
        off = (np.abs(scaled - np.round(scaled)) > _WHOLE) | (np.abs(scaled) > _LARGEST)
        found.append(float(off.sum()))
    return np.array(found)


def _two_groups(one: Ranked, least: int) -> list[Cell]:
    """U, its error; the same over all pairs; p, and where it lies."""
    first, second = (float(size) for size in one.rows.sum(axis=1))
    test, unsure, ties = mann_whitney(one.rows), float(one.unsure[0]), tie_factor(one.rows)
    share, loose = test.statistic / (first * second), unsure / (first * second)
    if one.few_left:  # all of what can be said by rounded sizes
        share = round(share, 3)
        first, second = float(rounded(first, least)), float(rounded(second, least))
        ties, loose = round(ties, 3), float(f"{loose + 0.0005:.1g}")
        p = u_test(share * first * second, first, second, ties).p
        return [None, None, share, loose, p, p, p]
    middle = first * second / 2
    nearest = middle + math.copysign(
        max(0.0, abs(test.statistic - middle) - unsure), test.statistic - middle
    )
    farthest = test.statistic + math.copysign(unsure, test.statistic - middle)
    high = u_test(nearest, first, second, 1.0 if unsure else ties).p
    low = u_test(farthest, first, second, ties).p
    return [test.statistic, unsure, share, loose, test.p, low, high]


def _several_groups(one: Ranked, least: int) -> list[Cell]:
    """H, its error, degrees of freedom, p."""
    test, counts, total = kruskal(one.rows), one.rows.sum(axis=1), float(one.rows.sum())
    if math.isnan(test.p):
        return [None, None, test.freedom, None]
    ranks = np.cumsum(one.rows.sum(axis=0)) - (one.rows.sum(axis=0) - 1) / 2
    away = np.abs(one.rows @ ranks - counts * (total + 1) / 2)
    loose = float(((2 * away * one.unsure + one.unsure**2) / counts).sum())
    loose *= 12 / (total * (total + 1)) / tie_factor(one.rows)
    if one.few_left:
        return [float(f"{test.statistic:.2g}"), loose, test.freedom, float(f"{test.p:.1g}")]
    return [test.statistic, loose, test.freedom, test.p]
