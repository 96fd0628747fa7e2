"""Rows of a task, with what a model says of them, as columns to be counted.

Rows that the model's own reading refuses (a number that can't be read, a category outside a
declared list) get no score, and count as such; all others get the score that a prediction has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wardround.common.drift.counts import Columns, Counts
from wardround.common.drift.field import Field, fields_of
from wardround.common.drift.rows import (
    columns_of,
    group_columns,
    predictable,
    score_columns,
    with_absent,
)
from wardround.common.figures.sums import Sums
from wardround.common.tasks.base import Task
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.inputs import in_spans, piece
from wardround.common.tasks.schema import TAGS, Schema

_ROWS = 1024


class Model(Protocol):
    """What scoring needs of a model folder."""

    @property
    def schema(self) -> Schema:
        """What it takes and gives."""

    @property
    def totals(self) -> Sums:
        """What its preparation agreed on."""


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


def scored(
    task: Task[Any],
    model: Model,
    module: nn.Module,
    raw: Any,
    train: Any = None,
    device: str = "cpu",
) -> Scored:
    """Inputs, scores and outcomes of rows.

    Parameters
    ----------
    module : the model, in evaluation mode, its outputs in their own unit
    raw : rows in the task's own form, read leniently (``Task.load_rows``)
    train : the hospital's training rows, of which what is local to it is worked out; None: ``raw``

    Raises DataError, TaskError as ``Task.prepare`` does.
    """
    schema, absent = model.schema, list[str]()
    if isinstance(raw, Table):
        raw, absent = with_absent(raw, schema)
    columns = dict(columns_of(task, raw, schema))
    rows = task.size(raw)
    fine = np.ones(rows, dtype=np.bool_)
    if isinstance(raw, Table):
        fine = predictable(raw, task.options, columns, schema)  # type: ignore[attr-defined]
    if fine.any():
        part = raw if fine.all() else task.select(raw, np.flatnonzero(fine).astype(np.int64))
        said = predictions(task, model, module, part, raw if train is None else train, device)
    else:
        said = {one.name: np.zeros(0) for one in schema.outputs}
    columns |= score_columns(_lone(said, task, raw, fine), fine)
    return Scored(columns, rows, tuple(absent))


def predictions(
    task: Task[Any], model: Model, module: nn.Module, raw: Any, train: Any, device: str
) -> Mapping[str, NDArray[Any]]:
    """What the model says of rows that it can read, by output."""
    examples = task.prepare(raw, model.totals, train)
    module = module.to(device)
    with torch.inference_mode():
        spans = in_spans(examples.inputs, most=_ROWS)
        found = [module(piece(examples.inputs, span).to(device)).float().cpu() for span in spans]
    said: Mapping[str, NDArray[Any]] = task.predictions(torch.cat(found), model.totals)
    return said


def count(task: Task[Any], model: Model, module: nn.Module, raw: Any, train: Any = None) -> Counts:
    """Counts of rows, for a sum over hospitals or a reference."""
    found = scored(task, model, module, raw, train)
    return found.counts(fields_of(model.schema), model.schema)


def _lone(
    said: Mapping[str, NDArray[Any]], task: Task[Any], raw: Any, fine: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """One number for each row: of tags the share of a text's tokens that have one."""
    found = {name: np.asarray(values, dtype=np.float64) for name, values in said.items()}
    if TAGS in found and found[TAGS].ndim == 2:
        from wardround.common.drift.rows_text import tagged_share

        share = tagged_share(found.pop(TAGS), raw, task)  # type: ignore[arg-type]
        found[f"{TAGS}: tagged"] = share
    return found
