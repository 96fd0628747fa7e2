"""Counts, means, deviations, quantiles and histograms of columns, by group where one is named."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np

from wardround.common.config.load import Config
from wardround.common.figures.sums import Sums
from wardround.common.procedures.hiding import ShownCell, shown_table
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.spread import QUANTILES
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Analysis, Earlier
from wardround.common.procedures.statistics.counts import noised
from wardround.common.procedures.statistics.counts.groups import (
    Groups,
    shown_sizes,
    table_of,
    table_shapes,
    table_sums,
    text_of,
    without_empty,
)
from wardround.common.procedures.statistics.counts.numbers import (
    FINER,
    MISSING,
    PRESENT,
    Numbers,
    Series,
    counted,
)
from wardround.common.procedures.statistics.frame import Floats, Frame
from wardround.common.procedures.statistics.result import Cell, Result, Sheet, Told
from wardround.common.settings.analyses.counts import SummaryOptions
from wardround.common.tasks.tabular import TabularTask

_WIDE = 32
"""Bins of the finest histogram that are one of a shown one."""
_MOST_PLOTS = 12
_Q = [f"{100 * p:g} %" for p in QUANTILES]


class Summary(Analysis[SummaryOptions]):
    """See the module."""

    kind = "summary"

    @classmethod
    def of(cls, options: SummaryOptions, config: Config, task: TabularTask) -> Self:
        private = config.privacy.enabled
        place = f"'{options.name}': ranges"
        if options.ranges and not private:
            raise config.error(
                "procedure.analyses",
                f"{place} have an effect with [privacy] only: without it bins follow from sums",
                "leave them out",
            )
        if private and (lacking := sorted({*options.columns} - {*options.ranges})):
            raise config.error(
                "procedure.analyses",
                f"{place}: with [privacy] the bins of '{lacking[0]}' can't follow from sums",
                f"add ranges = {{ {lacking[0]} = [LOWEST, HIGHEST] }}",
            )
        return cls(options, private)

    @property
    def numbers(self) -> Iterable[str]:
        return self.options.columns

    @property
    def categories(self) -> Iterable[str]:
        return [*self.options.categories, *filter(None, [self.options.by])]

    @property
    def most_steps(self) -> int:
        return 1 if self.private or not self.options.columns else self._numbers.most_steps

    @property
    def _numbers(self) -> Numbers:
        columns = self.options.columns
        return Numbers(columns, lambda frame: [*map(frame.values, columns)], self.options.by, FINER)

    # --- the steps -------------------------------------------------------------------------------
    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        groups = len(Groups.of(self.options.by, agreed)) + 2
        found = Shapes()
        if not earlier:
            for column in range(len(self.options.categories)):
                size = len(self._levels(agreed, column))
                if self.private:
                    found[f"levels {column}/rows"] = (groups * size,)
                else:
                    found |= table_shapes(f"levels {column}", groups, size, agreed)
        if self.private:
            for column in range(0 if earlier else len(self.options.columns)):
                found[f"bins {column}/rows"] = (groups * noised.PLACES,)
            return found
        return found | (self._numbers.shapes(agreed, earlier) if self.options.columns else {})

    def counts(self, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
        return counted(self.shapes(agreed, earlier))

    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        groups, found = Groups.of(self.options.by, agreed), Sums()
        if not earlier:
            places = groups.places(frame)
            for column, name in enumerate(self.options.categories):
                levels = Groups.of(name, agreed)
                size = len(groups) + 2, len(levels) + 2
                key = f"levels {column}"
                if self.private:
                    cells = places * size[1] + levels.places(frame)
                    found |= frame.rows_counted(key, cells, size[0] * size[1])
                else:
                    found |= table_sums(key, frame, places, levels.places(frame), size)
            for column, name in enumerate(self.options.columns if self.private else ()):
                where = noised.bins_of(self.options.ranges[name])
                cells = places * noised.PLACES + noised.places(frame.values(name), where)
                size_ = (len(groups) + 2) * noised.PLACES
                found |= frame.rows_counted(f"bins {column}", cells, size_)
        if self.private or not self.options.columns:
            return found
        return found | self._numbers.sums(frame, agreed, earlier)

    def sensitivity(self, records: int) -> float:
        return records * math.sqrt(len(self.options.columns) + len(self.options.categories))

    def _levels(self, agreed: Agreed, column: int) -> tuple[str, ...]:
        return Groups.of(self.options.categories[column], agreed).names

    # --- what is shown ---------------------------------------------------------------------------
    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        if self.private:
            return self._noised(agreed, earlier[0], told)
        rows, bins, plots = list[list[Cell]](), list[list[Cell]](), list[dict[str, Any]]()
        for column, name in enumerate(self.options.columns):
            rows += self._number_rows(agreed, earlier, told, column)
            for group, level in enumerate(Groups.of(self.options.by, agreed).levels):
                series = self._numbers.series(agreed, earlier, column, group)
                if self.options.histograms and (shown := _histogram(series, told.least)):
                    edges, cells = shown
                    texts = [text_of(cell, told.least) for cell in cells]
                    ends = [None, *edges, None]
                    for low, high, text in zip(ends, ends[1:], texts, strict=False):
                        bins.append([name, level, low, high, text])
                    plots.append(_plot(name, level, self.options.by, edges, cells))
        least = told.least
        notes = [
            f"Counts are rounded to multiples of {least}, and not shown below; means and "
            f"deviations are rounded to what {least} persons would move them by; quantiles are "
            "within ±."
        ]
        return Result(
            sheets=self._sheets(rows, self._category_rows(agreed, earlier, told), bins),
            plots=plots[:_MOST_PLOTS],
            notes=notes,
        )

    def _sheets(
        self, rows: list[list[Cell]], levels: list[list[Cell]], bins: list[list[Cell]]
    ) -> list[Sheet]:
        quantiles = [text for name in _Q for text in (name, "±")]
        head = ["column", "group", "n", "missing", "mean", "±", "SD", *quantiles, "note"]
        found = [Sheet(head, rows, "numbers", "Numbers")] if rows else []
        if levels:
            head = ["column", "group", "level", "n", "share"]
            found.append(Sheet(head, levels, "categories", "Categories"))
        if bins:
            head = ["column", "group", "from", "to", "n"]
            found.append(Sheet(head, bins, "histograms", "Histograms"))
        return found

    def _number_rows(
        self, agreed: Agreed, earlier: Earlier, told: Told, column: int
    ) -> list[list[Cell]]:
        levels = Groups.of(self.options.by, agreed).levels
        sizes = present(self._numbers, agreed, earlier, told.least, column)
        found = list[list[Cell]]()
        for group, level in enumerate(levels):
            one = self._numbers.series(agreed, earlier, column, group)
            shown, quantiles = one.shown(told.least), one.quantiles(told.least)
            row: list[Cell] = [self.options.columns[column], level]
            row += [text_of(cell, told.least) for cell in sizes[group]]
            row += [shown.get(key) for key in ("mean", "error", "sd")]
            row += [part for p in QUANTILES for part in quantiles.get(p, (None, None))]
            found.append([*row, one.hidden(told.least)])
        return found

    def _category_rows(self, agreed: Agreed, earlier: Earlier, told: Told) -> list[list[Cell]]:
        found, groups = list[list[Cell]](), Groups.of(self.options.by, agreed)
        for column, name in enumerate(self.options.categories):
            for group, levels, cells in shown_levels(
                f"levels {column}", earlier[0], groups, Groups.of(name, agreed), agreed, told.least
            ):
                total = sum(cell.rows for cell in cells)
                for level, cell in zip(levels, cells, strict=True):
                    share = cell.rows / total if cell.state == "shown" and total else None
                    found.append([name, group, level, text_of(cell, told.least), share])
        return found

    def _noised(self, agreed: Agreed, totals: Sums, told: Told) -> Result:
        groups = Groups.of(self.options.by, agreed)
        rows, levels = list[list[Cell]](), list[list[Cell]]()
        for column, name in enumerate(self.options.columns):
            counts = totals[f"bins {column}/rows"].reshape(len(groups) + 2, -1)
            where = noised.bins_of(self.options.ranges[name])
            for group, level in enumerate(groups.levels):
                row: list[Cell] = [name, level, noised.count(counts[group, :-1].sum())]
                row.append(noised.interval(told.noise, noised.BINS))
                row += [noised.count(counts[group, -1]), noised.interval(told.noise)]
                found = noised.figures(counts[group, :-1], where, told.noise)
                names = ["mean", "sd", *(f"q{p:g}" for p in QUANTILES)]
                rows.append([*row, *(found.get(k + end) for k in names for end in ("", " ±"))])
        for column, name in enumerate(self.options.categories):
            of = Groups.of(name, agreed)
            counts = totals[f"levels {column}/rows"].reshape(len(groups) + 2, -1)
            for group, level in enumerate(groups.levels):
                for place, text in enumerate(of.names):
                    value = noised.count(counts[group, place])
                    levels.append([name, level, text, value, noised.interval(told.noise)])
        names = [part for name in ["mean", "SD", *_Q] for part in (name, "±")]
        head = ["column", "group", "n", "±", "missing", "±", *names]
        sheets = [Sheet(head, rows, "numbers", "Numbers")] if rows else []
        if levels:
            head = ["column", "group", "level", "n", "±"]
            sheets.append(Sheet(head, levels, "categories", "Categories"))
        return Result(sheets=sheets, notes=[NOISED])


NOISED = (
    "Every count carries noise; ± is where 95 % of it lies, and for means and quantiles with half "
    "a bin of the declared range beside it. Values beyond the range count as its ends."
)


def present(
    numbers: Numbers, agreed: Agreed, earlier: Earlier, least: int, column: int
) -> list[Sequence[ShownCell]]:
    """Of each group, what is shown of how many rows have a number and how many don't."""
    table = numbers.table(agreed, earlier, column)
    groups = Groups.of(numbers.by, agreed)
    if numbers.by is None:
        names = (PRESENT, MISSING)
        return [shown_sizes(names, table.rows[0], table.persons[0], agreed, least)]
    size = len(groups)
    shown = shown_table(without_empty(table, (size, size + 1), (1,)), least)
    none = ShownCell("", "shown")
    return [[*line, none][:2] for line in shown.cells[:size]]


def shown_levels(
    key: str, totals: Sums, groups: Groups, levels: Groups, agreed: Agreed, least: int
) -> list[tuple[str, Sequence[str], Sequence[ShownCell]]]:
    """Of each group the levels of a column and what is shown of their counts."""
    table = table_of(key, totals, (groups.names, levels.names), agreed)
    unnamed = (len(levels), len(levels) + 1)
    if groups.by is None:
        cells = shown_sizes(levels.names, table.rows[0], table.persons[0], agreed, least)
        return [(groups.levels[0], levels.names, cells)]
    whole = without_empty(table, (len(groups), len(groups) + 1), unnamed)
    shown = shown_table(whole, least)
    return [
        (name, whole.column_names, shown.cells[group]) for group, name in enumerate(groups.levels)
    ]


def _histogram(series: Series, least: int) -> tuple[list[float], list[ShownCell]] | None:
    """Edges of wide bins, and what is shown of their counts: below all of them, of each, above."""
    if series.hidden(least) or not series.histograms:
        return None
    where, rows, persons = series.histograms[0]
    edges = [where.low + n * _WIDE * where.width for n in range(where.bins // _WIDE + 1)]

    def wide(counts: Floats) -> Floats:
        inside = counts[1:-1].reshape(-1, _WIDE).sum(axis=1)
        return np.concatenate([counts[:1], inside, counts[-1:]])

    names = [f"{n:04d}" for n in range(len(edges) + 1)]
    agreed = Agreed(int(series.rows), None if persons is rows else int(series.people))
    cells = shown_sizes(names, wide(rows), wide(persons), agreed, least)
    return [float(f"{edge:.9g}") for edge in edges], cells


def _plot(
    name: str, level: str, by: str | None, edges: Sequence[float], cells: Sequence[ShownCell]
) -> dict[str, Any]:
    title = name if by is None else f"{name}, {by} {level}"
    return {
        "type": "bars",
        "title": title,
        "x": name,
        "y": "rows",
        "edges": list(edges),
        "values": [cell.rows for cell in cells[1:-1]],
    }
