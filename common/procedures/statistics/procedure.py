"""The steps of ``statistics``: what is agreed on, then the steps of all analyses together.

0     rows, persons, the words of categories whose levels aren't declared
k     step k - 1 of each analysis that has one, its sums' names behind its place in the list

An analysis sees its own totals alone. What one asks for costs the others no step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

from wardround.common.config.load import Config
from wardround.common.config.task import make_task
from wardround.common.durable.versioned import Format
from wardround.common.errors import DataError, TaskError
from wardround.common.figures.sums import Sums
from wardround.common.procedures.describe.columns import Column, agreed_texts, tables
from wardround.common.procedures.procedure import (
    Asked,
    Earlier,
    FinishedModel,
    Parts,
    Procedure,
    Shapes,
)
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import AnyAnalysis
from wardround.common.procedures.statistics.frame import Frame, category
from wardround.common.procedures.statistics.kinds import make_analysis
from wardround.common.procedures.statistics.plots import alone
from wardround.common.procedures.statistics.result import Told, file_name
from wardround.common.procedures.words import Words, fitting_bits
from wardround.common.settings import STATISTICS, StatisticsOptions
from wardround.common.tasks.base import Task
from wardround.common.tasks.features import one
from wardround.common.tasks.tabular import TabularTask
from wardround.common.tasks.vocabulary import SHAPE, read_words, write_words
from wardround.common.text import to_json

FILE = "statistics.json"
FORMAT = Format("statistics", "ask for them in another run")
_ROWS, _PERSONS, _WORDS = "rows", "persons", "words"


class Statistics(Procedure):
    """A list of analyses.

    Parameters
    ----------
    analyses : in the order of the settings
    private : their sums carry noise
    """

    name = STATISTICS

    def __init__(
        self,
        task: TabularTask,
        options: StatisticsOptions,
        analyses: Sequence[AnyAnalysis],
        private: bool,
    ) -> None:
        self._task, self._options, self._analyses = task, options, analyses
        self._private = private
        self._named = task.options.columns.patient_id is not None
        names = sorted({name for each in analyses for name in each.categories})
        self._categories = [category(name, task) for name in names]
        self._open = [column for column in self._categories if column.texts is None]
        self._parts: dict[tuple[int, int], tuple[Sums, Sums]] = {}
        self._head: tuple[Sums, Agreed] | None = None

    @classmethod
    def of(cls, config: Config, task: Task[Any], model: FinishedModel | None = None) -> Self:
        if not isinstance(task, TabularTask):
            raise config.error(
                "procedure.name",
                "'statistics' is for tables, and this task has none",
                "use task.name = 'tabular'",
            )
        options, private = _options(config), config.privacy.enabled
        analyses = [make_analysis(each, config, task) for each in options.parsed()]
        found = cls(task, options, analyses, private)
        if private:
            found._check_private(config)
        return found

    @classmethod
    def planned_steps(cls, config: Config) -> int:
        return cls.of(config, make_task(config)).most_steps

    def _check_private(self, config: Config) -> None:
        for each in self._analyses:
            if each.sensitivity(1) is None:
                raise config.error(
                    "procedure.analyses",
                    f"'{each.options.name}': no noise that protects a {config.privacy.unit} is "
                    f"known for '{each.kind}'",
                    "leave it out, or ask for it in a study without [privacy]",
                )
        if self._open:
            raise config.error(
                "procedure.analyses",
                f"with [privacy] the levels of '{self._open[0].name}' can't be agreed from counts",
                "declare them in task.columns.categories, with the column in "
                "task.columns.categorical",
            )

    @property
    def reads(self) -> Mapping[str, str]:
        """The columns that analyses read, and as what: "number", "yes or no" or "category"."""
        found = dict.fromkeys((column.name for column in self._categories), "category")
        for each in self._analyses:
            found |= dict.fromkeys(each.truths, "yes or no") | dict.fromkeys(each.numbers, "number")
        return found

    # --- the steps -------------------------------------------------------------------------------
    @property
    def most_steps(self) -> int:
        return 1 + max(each.most_steps for each in self._analyses)

    def shapes(self, earlier: Earlier) -> Shapes | None:
        if not earlier:
            head: Shapes = {_ROWS: (1,)}
            if self._named:
                head[_PERSONS] = (1,)
            return head | ({_WORDS: SHAPE} if self._open else {})
        agreed, found = self._agreed(earlier[0]), Shapes()
        for place, each in enumerate(self._analyses):
            if (own := self._own(earlier, place)) is not None:
                asked = each.shapes(agreed, own)
                found |= {f"{place}/{key}": shape for key, shape in asked.items()}
        return found

    def words(self, earlier: Earlier) -> Words | None:
        if not earlier:
            return None
        agreed, names = self._agreed(earlier[0]), list[str]()
        for place, each in enumerate(self._analyses):
            if (own := self._own(earlier, place)) is not None and each.shapes(agreed, own):
                names += [f"{place}/{key}" for key in each.counts(agreed, own)]
        if not names:
            return None
        return Words(fitting_bits(agreed.rows), frozenset(names))

    def sums(self, parts: Parts, earlier: Earlier) -> Sums:
        frame = Frame(tables(list(parts.values())), self._task)
        if not earlier:
            self._read_all(frame)
            head: Sums = {_ROWS: one(len(frame))}
            if frame.persons is not None:
                head[_PERSONS] = one(frame.persons)
            return head | ({_WORDS: write_words(frame.words(self._open))} if self._open else {})
        agreed, found = self._agreed(earlier[0]), Sums()
        for place, each in enumerate(self._analyses):
            own = self._own(earlier, place)
            if own is not None and each.shapes(agreed, own):
                sums = each.sums(frame, agreed, own)
                found |= {f"{place}/{key}": value for key, value in sums.items()}
        return found

    def _read_all(self, frame: Frame) -> None:
        """Every column once, so that what is lacking or can't be read is said at the start, where
        it may be told."""
        for each in self._analyses:
            try:
                for name in each.numbers:
                    frame.values(name)
                for name in each.truths:
                    frame.truths(name)
            except DataError as error:
                formula = "formula" in type(each.options).model_fields
                also = "in its formula a column of categories is C(column)" if formula else ""
                raise DataError(f"analysis '{each.options.name}': {error}", mend=also) from None
        for column in self._categories:
            frame.levels(column.name, column.texts or ())

    def _agreed(self, head: Sums) -> Agreed:
        """Of the first step's totals; words are read once of the same totals."""
        if self._head is None or self._head[0] is not head:
            self._head = head, self._agreed_of(head)
        return self._head[1]

    def _agreed_of(self, head: Sums) -> Agreed:
        texts: dict[str, tuple[str, ...]] = {
            column.name: column.texts for column in self._categories if column.texts is not None
        }
        if self._open:
            texts |= _words(head, self._open)
        persons = int(round(float(head[_PERSONS][0]))) if self._named else None
        return Agreed(int(round(float(head[_ROWS][0]))), persons, texts)

    def _own(self, earlier: Earlier, place: int, ended: bool = False) -> list[Sums] | None:
        """An analysis' own totals of the steps after the first; None where it asks for nothing any
        more: there was a step without it. ``ended``: then too."""
        found: list[Sums] = []
        for sums in earlier[1:]:
            own = self._part(sums, place)
            if not own:
                return found if ended else None
            found.append(own)
        return found

    def _part(self, sums: Sums, place: int) -> Sums:
        """An analysis' part of a step's totals: the same object for the same totals (``fold.py``
        goes by that)."""
        if (key := (place, id(sums))) not in self._parts:
            prefix = f"{place}/"
            own = {k.removeprefix(prefix): v for k, v in sums.items() if k.startswith(prefix)}
            self._parts[key] = sums, own
        return self._parts[key][1]

    def sensitivity(self, records: int) -> float:
        own = [each.sensitivity(records) or 0.0 for each in self._analyses]
        head = records**2 + (1.0 if self._named else 0.0)
        return math.sqrt(max(head, sum(each**2 for each in own)))

    # --- what is shown ---------------------------------------------------------------------------
    def result(self, earlier: Earlier, asked: Asked) -> Mapping[str, str]:
        agreed, least = self._agreed(earlier[0]), self._options.smallest_cell
        told, files, shown = Told(least, asked.hospitals, asked.noise), dict[str, str](), []
        for place, each in enumerate(self._analyses):
            made = each.result(agreed, self._own(earlier, place, ended=True) or [], told)
            shown.append({"name": each.options.name, "kind": each.kind} | made.stored())
            for sheet in made.sheets:
                files[file_name(each.options.name, sheet.name)] = sheet.csv()
            for number, svg in enumerate(filter(None, map(alone, made.plots)), 1):
                files[file_name(each.options.name, f"plot {number}", ".svg")] = svg
        values: dict[str, Any] = {
            "hospitals": asked.hospitals,
            "smallest_cell": least,
            "rows": None if agreed.people < least else _rounded(agreed.rows, least),
            "persons": None
            if agreed.persons is None or agreed.people < least
            else _rounded(agreed.persons, least),
            "analyses": shown,
        }
        if self._private:
            values |= {
                "noise": asked.noise,
                "privacy": {"unit": asked.unit, "epsilon": asked.epsilon, "delta": asked.delta},
            }
        return {FILE: to_json(FORMAT.seal(values), indent=1) + "\n"} | files


def _options(config: Config) -> StatisticsOptions:
    return cast(StatisticsOptions, config.procedure.settings)


def _words(head: Sums, columns: Sequence[Column]) -> dict[str, tuple[str, ...]]:
    try:
        words = read_words(head[_WORDS])
    except (KeyError, ValueError):
        raise TaskError(
            "the hospitals' categories can't be agreed on: too many?",
            mend="declare them in task.columns.categories, or ask for fewer columns of categories",
        ) from None
    return {column.name: agreed_texts(words, column) for column in columns}


def _rounded(count: int, least: int) -> int:
    return (count + least // 2) // least * least
