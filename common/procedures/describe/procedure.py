"""The steps of ``describe``, and what is summed in each.

0    rows and persons; of each column of numbers how many there are and their sum; of each declared
     category its cells; the words of all others
1    squared distances from the mean; cells of the categories that hospitals named
2    histograms that hold the quantiles; each person's squared distances, squared (for what one
     may have of all), in units of the variance
3-5  finer ones, where few far values made these too wide

Under ``[privacy]`` there is one step, of counts in cells that the settings alone fix (``noised``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, cast
from urllib.parse import unquote

import numpy as np

from wardround.common.config.load import Config
from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.judgement.judge import check_judgement
from wardround.common.procedures.describe import noised
from wardround.common.procedures.describe.columns import (
    Column,
    Rows,
    agreed_texts,
    category_columns,
    number_targets,
    own_numbers,
    tables,
)
from wardround.common.procedures.describe.figures import (
    FILE,
    FORMAT,
    Description,
    all_persons,
    column_of_categories,
    column_of_numbers,
    head,
)
from wardround.common.procedures.procedure import (
    Asked,
    Earlier,
    FinishedModel,
    Parts,
    Procedure,
    Shapes,
)
from wardround.common.procedures.spread import BINS, Range, first_range, next_range
from wardround.common.settings import DESCRIBE, DescribeOptions
from wardround.common.tasks.base import Fit, Task
from wardround.common.tasks.columns import fit_columns
from wardround.common.tasks.features import one
from wardround.common.tasks.tabular import TabularTask
from wardround.common.tasks.vocabulary import read_words, write_words
from wardround.common.text import to_json

_FINER = 3
_WORDS = "words"


class Describe(Procedure):
    """What the data of all hospitals hold.

    Parameters
    ----------
    private : counts get noise; then ranges say which numbers are described, and in which bins
    """

    name = DESCRIBE

    def __init__(self, task: TabularTask, options: DescribeOptions, private: bool) -> None:
        self._task, self._options, self._private = task, options, private
        self._ranges = noised.ranges_of(options.ranges)
        self._categories = category_columns(task)

    @classmethod
    def of(cls, config: Config, task: Task[Any], model: FinishedModel | None = None) -> Self:
        if not isinstance(task, TabularTask):
            raise config.error(
                "procedure.name",
                "'describe' is for tables, and this task has none",
                "use a study whose task is 'tabular'",
            )
        check_judgement(config, task)
        options = cast(DescribeOptions, config.procedure.settings)
        made = cls(task, options, config.privacy.enabled)
        if config.privacy.enabled:
            noised.check(config, made._categories)
        _check_ranges(config, task, options)
        return made

    @classmethod
    def planned_steps(cls, config: Config) -> int:
        return _most_steps(config.privacy.enabled)

    # --- the steps -------------------------------------------------------------------------------
    @property
    def most_steps(self) -> int:
        return _most_steps(self._private)

    def shapes(self, earlier: Earlier) -> Shapes | None:
        if self._private:
            return noised.shapes(self._noised_columns(), self._ranges) if not earlier else {}
        if not earlier:
            return None
        named = "persons" in earlier[0]
        if len(earlier) == 1:
            found: Shapes = {
                f"{column.key}/squares": (1,)
                for column in self._numbers(earlier)
                if _count(earlier, column) > 0
            }
            for column, texts in self._agreed(earlier):
                found |= _counted(column, len(texts) + 2, named)
            return found
        asked = self._histograms(earlier)
        found = {k: v for c, _ in asked for k, v in _counted(c, BINS + 2, named).items()}
        if len(earlier) == 2:
            found |= {f"{column.key}/fourths": (1,) for column, _ in asked}
        return found

    def sums(self, parts: Parts, earlier: Earlier) -> Sums:
        rows = Rows(tables(list(parts.values())), self._task)
        if self._private:
            return noised.sums(rows, self._noised_columns(), self._ranges)
        if not earlier:
            return self._first_sums(rows, tables(list(parts.values())))
        found: Sums = {}
        if len(earlier) == 1:
            for column in self._numbers(earlier):
                if _count(earlier, column) > 0:
                    values = rows.numbers(column)
                    distances = values[~np.isnan(values)] - _mean(earlier, column)
                    found[f"{column.key}/squares"] = one((distances**2).sum())
            for column, texts in self._agreed(earlier):
                found |= rows.counted(column.key, rows.codes(column, texts), len(texts) + 2)
            return found
        for column, where in self._histograms(earlier):
            values = rows.numbers(column)
            found |= rows.counted(column.key, where.places(values), BINS + 2, once=True)
            if len(earlier) == 2:
                away = np.nan_to_num(values - _mean(earlier, column)) ** 2
                away *= _count(earlier, column) / float(earlier[1][f"{column.key}/squares"][0])
                found[f"{column.key}/fourths"] = one((rows.of_persons(away) ** 2).sum())
        return found

    def _first_sums(self, rows: Rows, parts: Sequence[Any]) -> Sums:
        found: Sums = {"rows": one(len(rows))}
        if rows.persons is not None:
            found["persons"] = one(rows.persons)
        for column in own_numbers(parts[0], self._task):
            values = rows.numbers(column)
            gaps = np.isnan(values)
            found[f"{column.key}/count"] = one((~gaps).sum())
            found[f"{column.key}/sum"] = one(values[~gaps].sum())
            counted = rows.counted(column.key, gaps.astype(np.int64), 2)
            found |= {key: value for key, value in counted.items() if key.endswith("/persons")}
        for column in self._categories:
            if column.texts is not None:
                codes = rows.codes(column, column.texts)
                found |= rows.counted(column.key, codes, len(column.texts) + 2)
        if open_ := [column for column in self._categories if column.texts is None]:
            found[_WORDS] = write_words(rows.words(open_))
        return found

    def fit(self, keys: Mapping[str, frozenset[str]]) -> Fit:
        return Fit() if self._private else fit_columns(keys, self._task.options)

    # --- what follows from totals ----------------------------------------------------------------
    def _numbers(self, earlier: Earlier) -> list[Column]:
        """Columns of numbers that hospitals agreed on, targets first."""
        targets = number_targets(self._task)
        names = {unquote(k.split("/")[1]) for k in earlier[0] if k.startswith("numeric/")}
        found = [Column(name, target=True) for name in targets if name in names]
        return [*found, *(Column(name) for name in sorted(names - set(targets)))]

    def _agreed(self, earlier: Earlier) -> list[tuple[Column, tuple[str, ...]]]:
        """Undeclared categories, with the texts that hospitals named."""
        open_ = [column for column in self._categories if column.texts is None]
        if not open_:
            return []
        try:
            words = read_words(earlier[0][_WORDS])
        except (KeyError, ValueError):
            raise TaskError(
                "the hospitals' undeclared categories can't be agreed on: too many?",
                mend="declare them in task.columns.categories (or task.classes), or list columns "
                "of free text under task.columns.ignore",
            ) from None
        return [(column, agreed_texts(words, column)) for column in open_]

    def _histograms(self, earlier: Earlier) -> list[tuple[Column, Range]]:
        """Columns of which a (finer) histogram is asked in the next step, and where."""
        found = []
        for column in self._numbers(earlier):
            where = self._ranges_of(earlier, column)
            if where and len(where) == len(earlier) - 1:
                found.append((column, where[-1]))
        return found

    def _ranges_of(self, earlier: Earlier, column: Column) -> list[Range]:
        """Where a column's histograms are, of those that were summed and the next."""
        squares = earlier[1].get(f"{column.key}/squares")
        if squares is None:
            return []
        variance = max(0.0, float(squares[0])) / _count(earlier, column)
        where, found = first_range(_mean(earlier, column), variance**0.5), list[Range]()
        for sums in earlier[2:]:
            if where is None:
                break
            found.append(where)
            if (rows := sums.get(f"{column.key}/rows")) is None:
                return found
            where = next_range(where, rows)
        return [*found, where] if where is not None else found

    def _noised_columns(self) -> list[Column]:
        targets = set(number_targets(self._task))
        numbers = [Column(name, target=name in targets) for name in sorted(self._ranges)]
        return [*numbers, *self._categories]

    def sensitivity(self, records: int) -> float:
        return noised.sensitivity(len(self._noised_columns()), records)

    # --- what is shown ---------------------------------------------------------------------------
    def result(self, earlier: Earlier, asked: Asked) -> Mapping[str, str]:
        least = self._options.smallest_cell
        values: dict[str, Any] = {"hospitals": asked.hospitals, "smallest_cell": least}
        if self._private:
            counts = earlier[0]
            values |= {
                "rows": int(round(float(counts["rows"][0]))),
                "noise": asked.noise,
                "interval": int(np.ceil(noised.WITHIN * asked.noise)),
                "privacy": {"unit": asked.unit, "epsilon": asked.epsilon, "delta": asked.delta},
                "columns": [
                    noised.shown(column, self._ranges, counts[f"{column.key}/rows"], asked.noise)
                    for column in self._noised_columns()
                ],
            }
        else:
            shown = self._description(earlier, least)
            values |= {"rows": shown.rows, "persons": shown.persons, "columns": shown.columns}
        return {FILE: to_json(FORMAT.seal(values), indent=1) + "\n"}

    def _description(self, earlier: Earlier, least: int) -> Description:
        shown = head(earlier[0], least)
        texts = {column.name: agreed for column, agreed in self._agreed(earlier)}
        for column in (c for c in self._categories if c.target):
            shown.columns.append(self._category(earlier, column, texts, least))
        for column in self._numbers(earlier):
            shown.columns.append(self._number(earlier, column, least))
        for column in (c for c in self._categories if not c.target):
            shown.columns.append(self._category(earlier, column, texts, least))
        return shown

    def _category(
        self, earlier: Earlier, column: Column, texts: Mapping[str, tuple[str, ...]], least: int
    ) -> dict[str, Any]:
        sums = earlier[0 if column.texts is not None else 1]
        names = column.texts if column.texts is not None else texts[column.name]
        rows, persons = sums[f"{column.key}/rows"], sums.get(f"{column.key}/persons")
        everybody = all_persons(earlier[0])
        return column_of_categories(column, names, rows, persons, everybody, least)

    def _number(self, earlier: Earlier, column: Column, least: int) -> dict[str, Any]:
        squares, last, fourths = 0.0, None, 0.0
        if len(earlier) > 1 and (found := earlier[1].get(f"{column.key}/squares")) is not None:
            squares = float(found[0])
            where = self._ranges_of(earlier, column)
            for place, sums in zip(where, earlier[2:], strict=False):
                rows = sums.get(f"{column.key}/rows")
                if rows is not None:
                    last = (place, rows, sums.get(f"{column.key}/persons", rows))
            if last is not None:
                unit = squares / _count(earlier, column)
                fourths = float(earlier[2][f"{column.key}/fourths"][0]) * unit**2
        return column_of_numbers(column, earlier[0], squares, last, least, fourths)


def _most_steps(private: bool) -> int:
    return 1 if private else 3 + _FINER


def _counted(column: Column, size: int, named: bool) -> Shapes:
    found: Shapes = {f"{column.key}/rows": (size,)}
    return found | ({f"{column.key}/persons": (size,)} if named else {})


def _count(earlier: Earlier, column: Column) -> float:
    return float(earlier[0][f"{column.key}/count"][0])


def _mean(earlier: Earlier, column: Column) -> float:
    return float(earlier[0][f"{column.key}/sum"][0]) / _count(earlier, column)


def _check_ranges(config: Config, task: TabularTask, options: DescribeOptions) -> None:
    if options.ranges and not config.privacy.enabled:
        raise config.error(
            "procedure.ranges",
            "have an effect with [privacy] only: without it bins follow from the data's sums",
            "leave them out",
        )
    numbers, columns = {*number_targets(task)}, task.options.columns
    named = {*columns.numeric, *numbers} - {"*"}
    others = {*columns.named()} - named
    for name in options.ranges:
        if name in others or ("*" not in columns.numeric and name not in named):
            raise config.error("procedure.ranges", f"'{name}' is no column of numbers of [task]")
