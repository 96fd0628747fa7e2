"""The first table of a paper: patients' characteristics by group.

Numbers have mean (SD) and median [quartiles], categories n (%); p is of Welch's t-test, or one-way
analysis of variance over more than two groups, and of chi-square. The standardised mean difference
of two groups is the difference over the root of the mean variance (Austin 2011), of categories that
of Yang and Dalton (2012); of more groups the largest of all pairs. It is worked out from what is
shown, so it tells nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from wardround.common.figures.sums import Sums
from wardround.common.procedures.hiding import ShownCell, shown_table
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Earlier
from wardround.common.procedures.statistics.counts.crosstab import tested
from wardround.common.procedures.statistics.counts.groups import (
    Groups,
    shown_sizes,
    table_of,
    table_shapes,
    table_sums,
    text_of,
    without_empty,
)
from wardround.common.procedures.statistics.counts.numbers import FINER, Numbers, counted
from wardround.common.procedures.statistics.counts.summary import present
from wardround.common.procedures.statistics.frame import Floats, Frame
from wardround.common.procedures.statistics.result import Cell, Result, Sheet, Told
from wardround.common.procedures.statistics.tests_of_groups.formulas import chi_square
from wardround.common.procedures.statistics.tests_of_groups.means import (
    OfMeans,
    over_groups,
    two_means,
)
from wardround.common.settings.analyses.counts import TableOneOptions

Row = list[Cell]


class TableOne(OfMeans[TableOneOptions]):
    """See the module."""

    kind = "table_one"

    @property
    def numbers(self) -> Iterable[str]:
        return self.options.columns

    @property
    def categories(self) -> Iterable[str]:
        return [*self.options.categories, self.options.by]

    @property
    def read(self) -> Numbers:
        columns = self.options.columns
        return Numbers(columns, lambda frame: [*map(frame.values, columns)], self.options.by, FINER)

    # --- the steps -------------------------------------------------------------------------------
    @property
    def most_steps(self) -> int:
        return self.read.most_steps if self.options.columns else 1

    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        found = self.read.shapes(agreed, earlier) if self.options.columns else Shapes()
        if not earlier:
            groups = len(Groups.of(self.options.by, agreed)) + 2
            found |= table_shapes("groups", groups, 1, agreed)
            for column, name in enumerate(self.options.categories):
                size = len(Groups.of(name, agreed)) + 2
                found |= table_shapes(f"levels {column}", groups, size, agreed)
        return found

    def counts(self, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
        return counted(self.shapes(agreed, earlier))

    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        found = self.read.sums(frame, agreed, earlier) if self.options.columns else Sums()
        if not earlier:
            groups = Groups.of(self.options.by, agreed)
            places = groups.places(frame)
            found |= table_sums("groups", frame, places, 0 * places, (len(groups) + 2, 1))
            for column, name in enumerate(self.options.categories):
                levels = Groups.of(name, agreed)
                size = len(groups) + 2, len(levels) + 2
                key = f"levels {column}"
                found |= table_sums(key, frame, places, levels.places(frame), size)
        return found

    # --- what is shown ---------------------------------------------------------------------------
    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        groups = Groups.of(self.options.by, agreed)
        table = table_of("groups", earlier[0], (groups.names, ("rows",)), agreed)
        sizes = shown_sizes(groups.names, table.rows[:, 0], table.persons[:, 0], agreed, told.least)
        rows: list[Row] = [
            ["n", "", *(text_of(cell, told.least) for cell in sizes[: len(groups)]), None, None]
        ]
        for column in range(len(self.options.columns)):
            rows += self._number(agreed, earlier, told, column)
        for column in range(len(self.options.categories)):
            rows += self._category(agreed, earlier[0], told, column)
        least = told.least
        return Result(
            sheets=[Sheet(["", "", *groups.levels, "p", "SMD"], rows)],
            notes=[
                "Numbers: mean (SD) and median [quartiles], p of "
                f"{'Welch' if len(groups) == 2 else 'an analysis of variance'}; categories: n (%), "
                "p of chi-square without correction. SMD: standardised mean difference"
                f"{'' if len(groups) == 2 else ', the largest of all pairs'}.",
                f"Counts are rounded to multiples of {least} and shares are of these; means and "
                f"deviations are rounded to what {least} persons would move them by. Where p is "
                "missing, it would tell how many a small cell has.",
            ],
        )

    def _number(self, agreed: Agreed, earlier: Earlier, told: Told, column: int) -> list[Row]:
        name, least = self.options.columns[column], told.least
        every = range(len(Groups.of(self.options.by, agreed)))
        series = [self.read.series(agreed, earlier, column, group) for group in every]
        shown = [one.shown(least) for one in series]
        means: Row = [f"{one['mean']:.12g} ({one['sd']:.12g})" if one else None for one in shown]
        sizes = present(self.read, agreed, earlier, least, column)
        lacking = [text_of(cells[1], least) for cells in sizes]
        medians: Row = []
        for one in series:
            found = one.quantiles(least)
            error = max((error for _, error in found.values()), default=0.0)  # as many digits each
            parts = [_as_sure(found[p][0], error) for p in (0.5, 0.25, 0.75) if p in found]
            text = "{} [{}, {}]".format(*parts) if len(parts) == 3 else None
            medians.append(text)
        differences = [
            abs(a["mean"] - b["mean"]) / math.sqrt((a["sd"] ** 2 + b["sd"] ** 2) / 2)
            for a, b in combinations([one for one in shown if one], 2)
            if a["sd"] or b["sd"]
        ]
        smd = round(max(differences), 3) if differences and all(shown) else None
        return [
            [name, "mean (SD)", *means, self._p_of(agreed, earlier, told, column), smd],
            [name, "median [quartiles]", *medians, None, None],
            [name, "missing", *lacking, None, None],
        ]

    def _p_of(self, agreed: Agreed, earlier: Earlier, told: Told, column: int) -> Cell:
        every = range(len(Groups.of(self.options.by, agreed)))
        used = self.used(agreed, earlier, told, column, every)
        if len(every) < 2 or used.why_not(told.least):
            return None
        return two_means(used, told, False)[2] if len(every) == 2 else over_groups(used, told)[3]

    def _category(self, agreed: Agreed, totals: Sums, told: Told, column: int) -> list[Row]:
        name, least = self.options.categories[column], told.least
        groups, levels = Groups.of(self.options.by, agreed), Groups.of(name, agreed)
        table = table_of(f"levels {column}", totals, (groups.names, levels.names), agreed)
        unnamed = [(len(one), len(one) + 1) for one in (groups, levels)]
        whole = without_empty(table, *unnamed)
        shown = shown_table(whole, least)
        named = tuple(range(len(groups))), tuple(range(len(levels)))
        counts, _ = tested(whole, shown, named, least)
        test = chi_square(counts, False) if counts is not None else None
        smd = _smd_of(shown.block(*named))
        found = list[Row]()
        for place, level in enumerate(whole.column_names):
            cells = [shown.cells[group][place] for group in named[0]]
            lines = [
                _with_share(cell, shown.cells[group], least) for group, cell in enumerate(cells)
            ]
            ends: Row = [test.p if test else None, smd] if place == 0 else [None, None]
            found.append([name, level, *lines, *ends])
        return found


def _with_share(cell: ShownCell, line: Sequence[ShownCell], least: int) -> Cell:
    """n and its share of the shown rows of its group."""
    total = sum(one.rows for one in line)
    if cell.state != "shown" or not total:
        return text_of(cell, least)
    return f"{cell.rows} ({100 * cell.rows / total:.1f} %)"


def _as_sure(value: float, error: float) -> str:
    """A number with the digits that its error leaves."""
    if not error:
        return f"{value:.6g}"
    digits = -math.floor(math.log10(error))
    text = f"{value:.{max(0, digits)}f}" if digits > -6 else f"{value:.6g}"
    return text if float(text) else text.removeprefix("-")


def _smd_of(counts: Floats | None) -> float | None:
    """The largest of all pairs of groups, by their shares of the levels; None where not all are
    shown."""
    if counts is None or not (counts.sum(axis=1) > 0).all():
        return None
    shares = counts / counts.sum(axis=1, keepdims=True)
    found = []
    for first, second in combinations(shares[:, 1:], 2):
        spread = [np.diag(one) - np.outer(one, one) for one in (first, second)]
        away = first - second
        inverse = np.linalg.pinv((spread[0] + spread[1]) / 2)
        found.append(math.sqrt(max(0.0, float(away @ inverse @ away))))
    return round(max(found), 3) if found else None
