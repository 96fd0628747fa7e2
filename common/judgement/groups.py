"""By which columns rows are grouped, in which groups, and which one each row is in.

Groups are those of the settings, or the categories that the preparation agreed on: nobody's rows
make one. A text that is no group is *other*, a missing cell *unknown*. A number is in a band: below
the first cut, from each cut to the next, from the last on.

Shapes: N rows, G groups of a column, the last of which are *other* (of categories) and *unknown*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from wardround.common.config.load import Config
from wardround.common.figures.sums import Sums
from wardround.common.settings import JudgementTable
from wardround.common.settings.judgement import MOST_GROUPS
from wardround.common.tasks.categories import vocabulary
from wardround.common.tasks.columns import category_codes
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.features import NOT_A_NUMBER
from wardround.common.tasks.tabular import TabularTask

Ints = NDArray[np.int64]
OTHER, UNKNOWN = "other", "unknown"
TWO = ("0", "1")


@dataclass(frozen=True)
class Grouping:
    """A column whose values make groups.

    names : of the groups, in their order; of bands () as the cuts make them
    cuts : of a column of numbers
    two : whether cells are read as 0 and 1 (``task.positive``)
    """

    column: str
    names: tuple[str, ...] = ()
    cuts: tuple[float, ...] = ()
    two: bool = False

    @property
    def key(self) -> str:
        """What its sums' names begin with."""
        return f"judged/{quote(self.column, safe='')}"

    @property
    def groups(self) -> tuple[str, ...]:
        """All G of them."""
        if self.cuts:
            return (*(self._band(n, n) for n in range(len(self.cuts) + 1)), UNKNOWN)
        return (*self.names, *(() if self.two else (OTHER,)), UNKNOWN)

    def name_of(self, block: Sequence[int]) -> str:
        """Of groups that were put together: neighbouring bands are one."""
        if not self.cuts:
            return " or ".join(self.groups[place] for place in block)
        bands = [place for place in block if place <= len(self.cuts)]
        named = [self._band(bands[0], bands[-1])] if bands else []
        return " or ".join([*named, *([UNKNOWN] if len(bands) < len(block) else [])])

    def _band(self, first: int, last: int) -> str:
        """The bands from one to another, which lie side by side."""
        if first == 0 and last == len(self.cuts):
            return "any number"
        if first == 0:
            return f"below {self.cuts[last]:g}"
        if last == len(self.cuts):
            return f"{self.cuts[first - 1]:g} and above"
        return f"{self.cuts[first - 1]:g} to below {self.cuts[last]:g}"

    def places(self, table: Table, task: TabularTask) -> Ints:
        """The group of each row, N. Raises DataError by place where there is no such column, or a
        cell can't be read."""
        unknown = len(self.groups) - 1
        if self.cuts:
            values = table.numbers(self.column, NOT_A_NUMBER)
            found = np.searchsorted(np.array(self.cuts), values, side="right")
            return np.where(np.isnan(values), unknown, found).astype(np.int64)
        if self.two:
            values = task.options.binary_values(self.column).read(table, self.column)
            return np.where(np.isnan(values), unknown, np.nan_to_num(values)).astype(np.int64)
        known = {text: place for place, text in enumerate(self.names)}
        found = category_codes(table, self.column, task.options).numbers_of(known)
        return np.where(found == -1, unknown, np.where(found == -2, unknown - 1, found))


def groupings(config: Config, task: TabularTask, totals: Sums | None) -> list[Grouping]:
    """The columns of ``[judgement]``, in their order.

    totals : the preparation's; None before it: columns whose categories it agrees on have none yet

    Raises ConfigError for a column that has no groups.
    """
    table = config.judgement
    assert table is not None
    return [_grouping(config, table, task, name, totals) for name in table.groups]


def _grouping(
    config: Config, table: JudgementTable, task: TabularTask, name: str, totals: Sums | None
) -> Grouping:
    columns = task.options.columns
    if name in (columns.patient_id, columns.split):
        raise config.error("judgement.groups", f"'{name}' says whose a row is, or its split")
    if name in table.bands:
        return Grouping(name, cuts=tuple(table.bands[name]))
    if name in table.categories:
        return Grouping(name, tuple(table.categories[name]))
    if name in columns.binary:
        return Grouping(name, TWO, two=True)
    if name in columns.categorical:
        found = vocabulary(totals or {}, name, task.options)
        if len(found) > MOST_GROUPS:
            raise config.error(
                "judgement.groups",
                f"'{name}' has {len(found)} categories, more than {MOST_GROUPS} groups",
                f"name those to judge by: judgement.categories.{name}",
            )
        return Grouping(name, tuple(found))
    raise config.error(
        "judgement.groups",
        f"'{name}' has no groups: it is no categorical input",
        f"name them, judgement.categories = {{ {name} = [...] }}, or cut its numbers, "
        f"judgement.bands = {{ {name} = [...] }}",
    )
