"""Rows of a task, with what a model says of them, as columns to be counted.

Rows that the model's own reading refuses (a number that can't be read, a category outside a
declared list) get no score, and count as such; all others get the score that a prediction has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.drift.counts import Columns, Counts
from wardround.common.drift.field import Field, fields_of
from wardround.common.drift.rows import (
    columns_of,
    group_columns,
    predictable,
    score_columns,
    with_absent,
)
from wardround.common.tasks.base import Task
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.schema import TAGS, Schema
from wardround.common.tasks.tabular_rows import without_targets

Say = Callable[[Any], Mapping[str, NDArray[Any]]]
"""What a model says of rows in the task's own form, by output (``Task.predictions``)."""


@dataclass(frozen=True)
class Scored:
    """Rows as columns.

    columns : by ``Field.key``; inputs, scores, and outcomes where the rows have them
    rows : how many
    absent : inputs that the rows lack altogether
    """

    columns: Columns
    rows: int
    absent: tuple[str, ...]

    def counts(self, fields: tuple[Field, ...], schema: Schema, of: Any = None) -> Counts:
        """Counts of all rows, or of those at the positions ``of``."""
        chosen = self.columns if of is None else self.select(of)
        return Counts.of(fields, {**chosen, **group_columns(chosen, schema)})

    def select(self, of: NDArray[np.int64]) -> Columns:
        """The columns of the rows at these positions."""
        return {
            key: type(one)(one.values[of], None if one.odd is None else one.odd[of])
            for key, one in self.columns.items()
        }


def scored(task: Task[Any], schema: Schema, raw: Any, say: Say) -> Scored:
    """Inputs, scores and outcomes of rows.

    Parameters
    ----------
    raw : rows in the task's own form, as they are (a table's with its targets, where it has them)
    say : asks the model, which is given none but rows that it can read

    Raises DataError, TaskError as ``say`` does.
    """
    absent, given = list[str](), raw
    if isinstance(raw, Table):
        given, absent = with_absent(raw, schema)
    columns = dict(columns_of(task, given, schema))
    fine = np.ones(task.size(given), dtype=np.bool_)
    if isinstance(given, Table):
        options = task.options  # type: ignore[attr-defined]
        fine = predictable(given, options, columns, schema)
        given = without_targets(given, options)
    part = given if fine.all() else task.select(given, np.flatnonzero(fine).astype(np.int64))
    said = say(part) if fine.any() else {one.name: np.zeros(0) for one in schema.outputs}
    columns |= score_columns(_lone(said, task, part), fine)
    return Scored(columns, len(fine), tuple(absent))


def count(task: Task[Any], schema: Schema, raw: Any, say: Say) -> Counts:
    """Counts of rows, for a sum over hospitals or a reference."""
    return scored(task, schema, raw, say).counts(fields_of(schema), schema)


def _lone(
    said: Mapping[str, NDArray[Any]], task: Task[Any], raw: Any
) -> dict[str, NDArray[np.float64]]:
    """One number for each row: of tags the share of a text's tokens that have one."""
    found = {name: np.asarray(values, dtype=np.float64) for name, values in said.items()}
    if TAGS in found:
        from wardround.common.drift.rows_text import tagged_share

        tags = found.pop(TAGS).reshape(task.size(raw), -1)
        found[f"{TAGS}: tagged"] = tagged_share(tags, raw, task)
    return found
