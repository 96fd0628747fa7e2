"""Tests of means: between two groups, over several, of differences in a row.

Each follows from counts, means and squared distances (``counts/numbers.py``), with all digits. What
is shown beside a test is rounded; where the rows that don't count are of few persons, their number
could be had from the degrees of freedom, which are then those of the rounded counts, as p is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.procedures.hiding import rounded, to_grain
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Analysis, Earlier
from wardround.common.procedures.statistics.counts.groups import Groups, few_left, text_of
from wardround.common.procedures.statistics.counts.numbers import Numbers, Series
from wardround.common.procedures.statistics.counts.summary import present
from wardround.common.procedures.statistics.frame import Frame
from wardround.common.procedures.statistics.result import Cell, Result, Sheet, Told
from wardround.common.procedures.statistics.tests_of_groups.formulas import (
    Of,
    anova,
    f_of,
    standard_error,
    t_interval,
    t_of,
    t_test,
)
from wardround.common.settings.analyses.base import AnalysisOptions
from wardround.common.settings.analyses.groups import (
    AnovaOptions,
    OfGroupsOptions,
    OfTwoOptions,
    PairedTTestOptions,
    TTestOptions,
)

Row = list[Cell]
FEW_LEFT = (
    "Of '{}' some of the rows that don't count are of few persons: p and degrees of freedom are "
    "those of the rounded counts."
)
GROUPS = ("column", "group", "n", "missing", "mean", "±", "SD")
Opts = TypeVar("Opts", bound=AnalysisOptions)


@dataclass(frozen=True)
class Used:
    """The groups that a column is tested over.

    few_left : whether some of the rows that don't count are of 1 to k - 1 persons
    """

    names: Sequence[str]
    series: Sequence[Series]
    few_left: bool

    def sizes(self, least: int) -> list[float]:
        """How many rows each has, as far as the degrees of freedom may tell."""
        if self.few_left:
            return [float(rounded(one.rows, least)) for one in self.series]
        return [one.rows for one in self.series]

    def why_not(self, least: int) -> str | None:
        """The group that keeps a test from being shown, and why; None where it is shown."""
        for name, one in zip(self.names, self.series, strict=True):
            if why := one.hidden(least):
                return f"'{name}', {why}"
        return None

    def shifts(self) -> list[float]:
        """Means from a common number near them, with all digits."""
        near = self.series[0].near
        return [(one.near - near) + one.drift / one.rows for one in self.series]


class OfMeans(Analysis[Opts]):
    """What these have in common."""

    @property
    def read(self) -> Numbers:
        """What is asked of which columns."""
        raise NotImplementedError

    @property
    def most_steps(self) -> int:
        return self.read.most_steps

    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        return self.read.shapes(agreed, earlier)

    def counts(self, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
        return self.read.counts(agreed, earlier)

    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        return self.read.sums(frame, agreed, earlier)

    def described(self, agreed: Agreed, earlier: Earlier, least: int) -> list[Row]:
        """The groups of every column, as they are shown."""
        found, numbers = list[Row](), self.read
        for column, name in enumerate(numbers.names):
            sizes = present(numbers, agreed, earlier, least, column)
            for group, level in enumerate(Groups.of(numbers.by, agreed).levels):
                shown = numbers.series(agreed, earlier, column, group).shown(least)
                row: Row = [name, level, *(text_of(cell, least) for cell in sizes[group])]
                found.append([*row, *(shown.get(key) for key in ("mean", "error", "sd"))])
        return found

    def used(
        self, agreed: Agreed, earlier: Earlier, told: Told, column: int, groups: Sequence[int]
    ) -> Used:
        """Some groups of a column."""
        numbers = self.read
        names = Groups.of(numbers.by, agreed).levels
        series = [numbers.series(agreed, earlier, column, group) for group in groups]
        table = numbers.table(agreed, earlier, column)
        few = few_left(table, groups, told.least)
        return Used([names[group] for group in groups], series, few)


class OfGroups(OfMeans[OfGroupsOptions]):
    """Of columns by groups."""

    @property
    def numbers(self) -> Iterable[str]:
        return self.options.columns

    @property
    def categories(self) -> Iterable[str]:
        return [self.options.by]

    @property
    def read(self) -> Numbers:
        columns = self.options.columns
        return Numbers(columns, lambda frame: [*map(frame.values, columns)], self.options.by)


def two_of(options: OfTwoOptions, agreed: Agreed) -> list[int]:
    """The places of the two groups that are compared. Raises TaskError where it isn't clear."""
    levels = agreed.levels[options.by]
    if not options.groups and len(levels) == 2:
        return [0, 1]
    if options.groups and set(options.groups) <= set(levels):
        return [levels.index(name) for name in options.groups]
    there = ", ".join(f"'{name}'" for name in levels[:10]) or "none"
    raise TaskError(
        f"'{options.name}' compares two levels of '{options.by}', and hospitals have {there}",
        mend='name two of these: groups = ["...", "..."]; a level of fewer rows than '
        "task.min_category_count is none unless it is declared in task.columns.categories",
    )


class TTest(OfGroups):
    """Between two groups: Welch's, and Student's with one variance."""

    kind = "t_test"
    options: TTestOptions

    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        two_of(self.options, agreed)
        return super().shapes(agreed, earlier)

    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        groups, rows, notes = two_of(self.options, agreed), list[Row](), list[str]()
        for column, name in enumerate(self.options.columns):
            used = self.used(agreed, earlier, told, column, groups)
            if why := used.why_not(told.least):
                notes.append(f"'{name}' isn't tested: in {why}.")
                continue
            notes += [FEW_LEFT.format(name)] if used.few_left else []
            for pooled in (False, True):
                rows.append(
                    [name, "Student" if pooled else "Welch", *two_means(used, told, pooled)]
                )
        head = ["column", "test", "t", "df", "p", "difference", "low", "high"]
        between = " less ".join(f"'{agreed.levels[self.options.by][one]}'" for one in groups)
        return Result(
            sheets=[
                Sheet(head, rows, title=f"t-tests, {between}"),
                Sheet(GROUPS, self.described(agreed, earlier, told.least), "groups", "Groups"),
            ],
            notes=[*notes, "Two-sided; intervals of 95 %; equal to scipy's ttest_ind."],
        )


def two_means(used: Used, told: Told, pooled: bool) -> Row:
    """t, degrees of freedom, p; the difference and its interval, rounded."""
    first, second = used.series
    of = [Of(one.rows, one.mean, one.variance) for one in used.series]
    shifts = used.shifts()
    difference = shifts[0] - shifts[1]
    test = t_test(of[0], of[1], difference, pooled)
    if math.isnan(test.p):
        return [None, None, None, None, None, None]
    error, _ = standard_error(of[0], of[1], pooled)
    if used.few_left:
        sizes = used.sizes(told.least)
        around = [one.resized(size) for one, size in zip(of, sizes, strict=True)]
        _, freedom = standard_error(around[0], around[1], pooled)
        test = t_of(test.statistic, freedom)
    step = max(first.step(told.least), second.step(told.least))
    shown = [to_grain(one, step) for one in t_interval(difference, error, test.freedom)]
    return [test.statistic, test.freedom, test.p, *shown]


class Anova(OfGroups):
    """Over all groups that are large enough to be shown."""

    kind = "anova"
    options: AnovaOptions

    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        rows, notes = list[Row](), list[str]()
        for column, name in enumerate(self.options.columns):
            every = range(len(agreed.levels[self.options.by]))
            whole = self.used(agreed, earlier, told, column, every)
            enough = [n for n, one in enumerate(whole.series) if one.people >= told.least]
            used = self.used(agreed, earlier, told, column, enough)
            if len(enough) < len(whole.names):
                notes.append(f"'{name}': over groups of {told.least} persons or more.")
            why = used.why_not(told.least)
            if why or len(enough) < 2:
                notes.append(f"'{name}' isn't tested: {f'in {why}' if why else 'one group'}.")
                continue
            notes += [FEW_LEFT.format(name)] if used.few_left else []
            rows.append([name, *over_groups(used, told)])
        head = ["column", "F", "df between", "df within", "p", "eta squared"]
        return Result(
            sheets=[
                Sheet(head, rows, title="One-way analysis of variance"),
                Sheet(GROUPS, self.described(agreed, earlier, told.least), "groups", "Groups"),
            ],
            notes=[*notes, "Equal to scipy's f_oneway."],
        )


def over_groups(used: Used, told: Told) -> Row:
    """F, its degrees of freedom, p; the share of the squares that is between groups."""
    of = [Of(one.rows, one.mean, one.variance) for one in used.series]
    test, between, within = anova(of, used.shifts())
    if math.isnan(test.p):
        return [None, test.freedom, None, None, None]
    share = to_grain(between / (between + within), 0.001)
    if used.few_left:
        freedom = sum(used.sizes(told.least)) - len(of)
        test = f_of(test.statistic, test.freedom, freedom) if freedom > 0 else test
    return [test.statistic, test.freedom, test.within, test.p, share]


class PairedTTest(OfMeans[PairedTTestOptions]):
    """Of the differences between two columns of one row."""

    kind = "paired_t_test"

    @property
    def numbers(self) -> Iterable[str]:
        return [self.options.before, self.options.after]

    @property
    def read(self) -> Numbers:
        before, after = self.options.before, self.options.after
        name = f"{after} - {before}"
        return Numbers([name], lambda frame: [frame.values(after) - frame.values(before)])

    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        used, rows = self.used(agreed, earlier, told, 0, [0]), list[Row]()
        notes = ["Two-sided; intervals of 95 %; equal to scipy's ttest_rel."]
        if why := used.why_not(told.least):
            notes.append(f"It isn't tested: in {why}.")
        elif used.series[0].squares > 0:
            notes += [FEW_LEFT.format(self.read.names[0])] if used.few_left else []
            one, count = used.series[0], used.sizes(told.least)[0]
            error = math.sqrt(one.variance / one.rows)
            test = t_of(one.mean / error, count - 1)
            step = one.step(told.least)
            shown = [to_grain(x, step) for x in t_interval(one.mean, error, test.freedom)]
            rows.append([test.statistic, test.freedom, test.p, *shown])
        head = ["t", "df", "p", "difference", "low", "high"]
        return Result(
            sheets=[
                Sheet(head, rows, title=f"Paired t-test of {self.read.names[0]}"),
                Sheet(GROUPS, self.described(agreed, earlier, told.least), "groups", "Rows"),
            ],
            notes=notes,
        )
