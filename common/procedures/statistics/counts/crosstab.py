"""Two columns of categories: how many have both, and whether the columns are independent.

A test's digits are equations for the counts: chi-square of two by two, with the margins, is the
cell. So tests are of the exact counts only where these give nothing away, since no cell is few, not
even one of rows without a value (an empty one may be known). Where only levels without a name and
gaps are few, tests are of the rounded counts, which stand in the table; else there are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from wardround.common.figures.sums import Sums
from wardround.common.procedures.hiding import Counted, ShownTable, shown_table
from wardround.common.procedures.hiding.tables import all_counts_may_be_known
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Analysis, Earlier
from wardround.common.procedures.statistics.counts import noised
from wardround.common.procedures.statistics.counts.groups import (
    Groups,
    table_of,
    table_shapes,
    table_sums,
    text_of,
    without_empty,
)
from wardround.common.procedures.statistics.frame import Floats, Frame
from wardround.common.procedures.statistics.result import Cell, Result, Sheet, Told
from wardround.common.procedures.statistics.tests_of_groups.formulas import (
    Estimate,
    chi_square,
    cramer,
    fisher,
    odds_ratio,
    risk_difference,
)
from wardround.common.settings.analyses.counts import CrosstabOptions

KEY = "cells"
EXACT, ROUNDED = "exact counts", "rounded counts"
OF_ROUNDED = (
    "Rows without a value are of few persons: tests are of the rounded counts, so that they don't "
    "tell how many."
)
NO_TEST = "Too few persons in some cells: a test would tell how many."


class Crosstab(Analysis[CrosstabOptions]):
    """See the module."""

    kind = "crosstab"
    most_steps = 1

    @property
    def categories(self) -> Iterable[str]:
        return [self.options.rows, self.options.columns]

    def _groups(self, agreed: Agreed) -> tuple[Groups, Groups]:
        return Groups.of(self.options.rows, agreed), Groups.of(self.options.columns, agreed)

    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        if earlier:
            return {}
        rows, columns = (len(one) + 2 for one in self._groups(agreed))
        if self.private:
            return {f"{KEY}/rows": (rows * columns,)}
        return table_shapes(KEY, rows, columns, agreed)

    def counts(self, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
        return self.shapes(agreed, earlier)

    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        rows, columns = self._groups(agreed)
        size = len(rows) + 2, len(columns) + 2
        if self.private:
            cells = rows.places(frame) * size[1] + columns.places(frame)
            return frame.rows_counted(KEY, cells, size[0] * size[1])
        return table_sums(KEY, frame, rows.places(frame), columns.places(frame), size)

    def sensitivity(self, records: int) -> float:
        return float(records)  # a row is in one cell

    # --- what is shown ---------------------------------------------------------------------------
    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        rows, columns = self._groups(agreed)
        if self.private:
            return self._noised(rows, columns, earlier[0][f"{KEY}/rows"], told)
        table = table_of(KEY, earlier[0], (rows.names, columns.names), agreed)
        whole = without_empty(table, *((len(one), len(one) + 1) for one in (rows, columns)))
        shown = shown_table(whole, told.least)
        named = tuple(range(len(rows))), tuple(range(len(columns)))
        counts, of = tested(whole, shown, named, told.least)
        tests, notes = list[list[Cell]](), list[str]()
        if counts is None:
            notes.append(NO_TEST)
        else:
            tests = tests_of(counts)
            notes += [OF_ROUNDED] if of == ROUNDED else []
        head = ["figure", "value", "low", "high", "df", "p"]
        notes.append(
            f"Counts are rounded to multiples of {told.least}; figures equal scipy's "
            "(chi2_contingency, fisher_exact); intervals of 95 % are Woolf's and Newcombe's."
        )
        sheets = [self._sheet(whole, shown, told.least)]
        if tests:
            sheets.append(Sheet(head, tests, "tests", f"Tests, of {of}"))
        return Result(sheets=sheets, notes=notes, values={"of": of})

    def _sheet(self, whole: Counted, shown: ShownTable, least: int) -> Sheet:
        lines: list[list[Cell]] = [
            [name, *(text_of(cell, least) for cell in line), text_of(total, least)]
            for name, line, total in zip(whole.row_names, shown.cells, shown.rows, strict=True)
        ]
        lines.append(["all", *(text_of(cell, least) for cell in shown.columns), None])
        head = [f"{self.options.rows} by {self.options.columns}", *whole.column_names, "all"]
        return Sheet(head, lines, title="Counts")

    def _noised(self, rows: Groups, columns: Groups, counts: Floats, told: Told) -> Result:
        table = counts.reshape(len(rows) + 2, len(columns) + 2)
        lines: list[list[Cell]] = [
            [name, *map(noised.count, line), noised.count(line.sum())]
            for name, line in zip(rows.names, table, strict=True)
        ]
        lines.append(["all", *map(noised.count, table.sum(axis=0)), noised.count(table.sum())])
        cell, row, column = (
            noised.interval(told.noise, size) for size in (1, table.shape[1], table.shape[0])
        )
        head = [f"{self.options.rows} by {self.options.columns}", *columns.names, "all"]
        return Result(
            sheets=[Sheet(head, lines, title="Counts")],
            notes=[
                f"Every count carries noise; 95 % of it lies within {cell} for a cell, {row} for a "
                f"row's sum, {column} for a column's. No test is known that allows for it."
            ],
            values={"interval": cell, "interval of rows": row, "interval of columns": column},
        )


def tested(
    whole: Counted, shown: ShownTable, named: tuple[Sequence[int], Sequence[int]], least: int
) -> tuple[Floats | None, str]:
    """The counts of named levels that a test may be of, and what they are; None where there are
    none."""
    if all_counts_may_be_known(whole, least):
        exact: Floats = whole.rows[np.ix_(*named)]
        return exact, EXACT
    return shown.block(*named), ROUNDED


def tests_of(counts: Floats) -> list[list[Cell]]:
    """All figures of a table of counts, a line each."""
    found = list[list[Cell]]()
    two = counts.shape == (2, 2)
    for name, correction in (("chi-square", False), ("chi-square, continuity-corrected", True)):
        if (test := chi_square(counts, correction)) and (two or not correction):
            found.append([name, test.statistic, None, None, int(test.freedom), test.p])
    if (p := fisher(counts)) is not None and two:
        found.append(["Fisher's exact test", None, None, None, None, p])
    if (size := cramer(counts)) is not None:
        found.append(["Cramér's V", size, None, None, None, None])
    for name, one in (
        ("odds ratio", odds_ratio(counts)),
        ("risk difference", risk_difference(counts)),
    ):
        if one is not None:
            found.append([name, *_of(one), None, None])
    return found


def _of(one: Estimate) -> list[Cell]:
    return [one.value, one.low, one.high]
