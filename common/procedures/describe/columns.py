"""What is described: the columns of a study's ``[task]``, and how a hospital counts its cells.

A column is of numbers or of categories; a yes-or-no column has the categories 0 and 1. Every row
that the study's task can use counts, whichever split it is in. Where the study names patients,
persons are counted beside rows, by the hospital's own word where it has one: a patient once in each
cell that one of their rows is in.

Shapes: N rows of a hospital, K categories of a column; cells of a column have K + 2 places, the
categories', then all others' and the missing ones'.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from wardround.common.figures.sums import Sums
from wardround.common.tasks.columns import (
    category_codes,
    column_key,
    numeric_columns,
    target_columns,
)
from wardround.common.tasks.data.table import Cells, Table
from wardround.common.tasks.features import NOT_A_NUMBER
from wardround.common.tasks.tabular import TabularTask

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TWO = ("0", "1")
_WORD = "category"


@dataclass(frozen=True)
class Column:
    """One that is described.

    texts : of categories that are declared; () of a column of numbers; None: agreed from counts
    target : whether it is what the study would predict
    two : whether cells are read as 0 and 1 (``task.positive``)
    """

    name: str
    texts: tuple[str, ...] | None = ()
    target: bool = False
    two: bool = False

    @property
    def number(self) -> bool:
        """Whether it is of numbers."""
        return self.texts == ()

    @property
    def key(self) -> str:
        """What its sums' names begin with."""
        return f"{'numeric' if self.number else 'cells'}/{quote(self.name, safe='')}"


def category_columns(task: TabularTask) -> list[Column]:
    """Those of categories, the target first: the settings alone name them."""
    options, found = task.options, list[Column]()
    columns = options.columns
    last = (target_columns(options) or [""])[-1]
    if options.kind in ("binary", "survival"):
        found.append(Column(last, TWO, True, True))
    elif options.kind == "multiclass":
        found.append(Column(last, _declared(options.classes), True))
    found += [Column(name, TWO, two=True) for name in sorted(columns.binary)]
    for name in sorted(columns.categorical):
        found.append(Column(name, _declared(columns.categories.get(name))))
    return found


def _declared(texts: Sequence[str] | None) -> tuple[str, ...] | None:
    return tuple(texts) if texts else None


def number_targets(task: TabularTask) -> list[str]:
    """Targets that are numbers: of a regression, or a survival's time."""
    if task.kind == "regression":
        return [str(task.options.columns.target)]
    return [str(task.options.columns.time)] if task.kind == "survival" else []


def own_numbers(table: Table, task: TabularTask) -> list[Column]:
    """Columns of numbers in this hospital's table."""
    targets = [Column(name, target=True) for name in number_targets(task)]
    return [*targets, *(Column(name) for name in numeric_columns(table, task.options))]


class Rows:
    """A hospital's rows, of all splits.

    parts : tables of one hospital, none of them empty
    """

    def __init__(self, parts: Sequence[Table], task: TabularTask) -> None:
        self._parts, self._task = parts, task
        people = [one for one in map(task.people, parts) if one is not None]
        whose: Ints | None = None
        if len(people) == len(parts):
            whose = np.unique(np.concatenate(people), return_inverse=True)[1]
        named = task.options.columns.patient_id is not None
        self._people, self._persons = whose, whose if named else None

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    @property
    def persons(self) -> int | None:
        """How many there are; None where the study names no patients."""
        return None if self._persons is None else int(self._persons.max()) + 1

    def numbers(self, column: Column) -> Floats:
        """N values; NaN where missing."""
        return np.concatenate([part.numbers(column.name, NOT_A_NUMBER) for part in self._parts])

    def codes(self, column: Column, texts: Sequence[str]) -> Ints:
        """N places in the column's cells: K for another text, K + 1 for a missing one."""
        places = {text: place for place, text in enumerate(texts)}
        return np.concatenate([self._codes(part, column, places) for part in self._parts])

    def _codes(self, part: Table, column: Column, places: dict[str, int]) -> Ints:
        other = len(places)
        if column.two:
            options = self._task.options
            two = options.target_values if column.target else options.binary_values(column.name)
            values = two.read(part, column.name)
            return np.where(np.isnan(values), other + 1, np.nan_to_num(values)).astype(np.int64)
        found = category_codes(part, column.name, self._task.options).numbers_of(places)
        return np.where(found == -1, other + 1, np.where(found == -2, other, found))

    def counted(self, key: str, codes: Ints, size: int, once: bool = False) -> Sums:
        """How many rows are in each of ``size`` places, and how many persons where they are named;
        a negative place counts nowhere.

        once : a person counts in the first of their places alone, so that those of neighbouring
            places can be added
        """
        found = self.rows_counted(key, codes, size)
        if self._persons is None:
            return found
        most = int(self._persons.max()) + 1
        here, whose = codes[codes >= 0], self._persons[codes >= 0]
        if once:
            first = np.full(most, size, np.int64)
            np.minimum.at(first, whose, here)
            who = np.bincount(first, minlength=size + 1)[:size]
        else:
            who = np.bincount(np.unique(here * most + whose) // most, minlength=size)
        return found | {f"{key}/persons": who.astype(np.float64)}

    def of_persons(self, values: Floats) -> Floats:
        """N numbers, 0 where there is none, summed for each person; as they are where the study
        names no patients."""
        if self._persons is None:
            return values
        return np.bincount(self._persons, values).astype(np.float64)

    def rows_counted(self, key: str, codes: Ints, size: int) -> Sums:
        """The rows alone."""
        rows = np.bincount(codes[codes >= 0], minlength=size)
        return {f"{key}/rows": rows.astype(np.float64)}

    def words(self, columns: Sequence[Column]) -> dict[str, int]:
        """Texts of undeclared categories that this hospital names, with their rows: those that as
        many of its rows (persons, where it or the study names them) have as
        ``task.min_category_count`` says.

        Raises DataError for one that is too long.
        """
        least, found = self._task.options.min_category_count, dict[str, int]()
        for column in columns:
            cells = np.concatenate([self._cells(part, column) for part in self._parts]).tolist()
            rows = Counter(cell for cell in cells if cell is not None)
            shared = rows
            if self._people is not None:
                pairs = set(zip(cells, self._people.tolist(), strict=True))
                shared = Counter(cell for cell, _ in pairs if cell is not None)
            for text, count in rows.items():
                if min(count, shared[text]) >= least:
                    found[column_key(self._with(column, text), _WORD, column.name, text)] = count
        return found

    def _cells(self, part: Table, column: Column) -> Cells:
        """A column's texts, by the names that ``task.columns.codes`` gives."""
        return category_codes(part, column.name, self._task.options).cells()

    def _with(self, column: Column, text: str) -> Table:
        """The part that has a row with the text: an error names its place."""
        having = (part for part in self._parts if (self._cells(part, column) == text).any())
        return next(having, self._parts[0])


def agreed_texts(words: dict[str, int], column: Column) -> tuple[str, ...]:
    """The texts of an undeclared column that hospitals named, sorted."""
    prefix = f"{_WORD}/{quote(column.name, safe='')}/"
    return tuple(sorted(unquote(key.removeprefix(prefix)) for key in words if prefix in key[:200]))


def tables(parts: Sequence[Any]) -> list[Table]:
    """The parts as what they are."""
    return [part for part in parts if isinstance(part, Table)]
