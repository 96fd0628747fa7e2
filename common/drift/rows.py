"""A task's rows as columns to be counted: read as the model reads them, but nothing is refused.

What a model refuses is just what a watch is for. A column that isn't there is missing in every row;
a number that can't be read, a category that nobody had and a third text of a yes-or-no column are
odd. Whoever counts sees neither a cell nor a text, only positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wardround.common.drift.counts import Column, Columns
from wardround.common.drift.field import GROUPS, Field, Role, of_group, outcome_name
from wardround.common.errors import DataError, TaskError
from wardround.common.tasks.columns import category_codes
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.data.two_values import TwoValues
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.schema import LANGUAGE, PROBABILITY, Schema

if TYPE_CHECKING:
    from wardround.common.tasks.base import Task

Ints = NDArray[np.int64]
Found = dict[str, Column]


def columns_of(task: Task[Any], raw: Any, schema: Schema) -> Columns:
    """Inputs and, where the rows have them, outcomes; of a task of one's own none.

    raw : rows in the task's own form

    Raises TaskError for a language model's.
    """
    if isinstance(raw, Table):
        options = task.options  # type: ignore[attr-defined]
        return table_inputs(raw, options, schema) | table_outcomes(raw, options, schema)
    if schema.kind == LANGUAGE:
        raise TaskError(
            "of a language model's conversations nothing is counted, so they can't be watched",
            mend="watch one that was trained with another kind, as kind = 'sequence'",
        )
    if schema.task == "text":
        from wardround.common.drift.rows_text import text_columns

        return text_columns(raw, task, schema)
    if schema.task == "imaging":
        from wardround.common.drift.rows_images import image_columns

        return image_columns(raw, schema)
    return {}


def score_columns(predictions: Mapping[str, NDArray[np.float64]], rows: NDArray[np.bool_]) -> Found:
    """Scores by output, N each; NaN where a row got none.

    predictions : of the rows that got some, in order
    rows : N, which these are
    """
    found: Found = {}
    for name, values in predictions.items():
        column = np.full(len(rows), np.nan)
        column[rows] = values
        found[_key("score", name)] = Column(column)
    return found


# --- tables ---------------------------------------------------------------------------------------
def with_absent(table: Table, schema: Schema) -> tuple[Table, list[str]]:
    """The table with empty columns for inputs that it lacks, and these inputs' names."""
    lacking = [one.name for one in schema.inputs if one.name not in table.columns]
    data = table.data
    for name in lacking:
        data = data.append_column(name, pa.nulls(len(table), pa.string()))
    return (replace(table, data=data, _coded={}) if lacking else table), lacking


def table_inputs(table: Table, options: TabularOptions, schema: Schema) -> Found:
    """A table's inputs. Raises DataError for one that isn't there (``with_absent``)."""
    found: Found = {}
    for one in schema.inputs:
        if one.kind == "number":
            column = _numbers(table, one.name)
        elif one.kind == "binary":
            column = Column(_two(table, one.name, options.binary_values(one.name)))
        else:
            known = {text: place for place, text in enumerate(one.categories)}
            column = Column(category_codes(table, one.name, options).numbers_of(known))
        found[_key("input", one.name)] = column
    return found


def table_outcomes(table: Table, options: TabularOptions, schema: Schema) -> Found:
    """What was to be predicted, where the table has it."""
    target = str((options.columns.event if options.kind == "survival" else schema.target) or "")
    if target not in table.columns:
        return {}
    key = _key("outcome", outcome_name(schema))
    if options.kind in ("binary", "survival"):
        return {key: Column(_two(table, target, options.target_values))}
    if options.kind == "multiclass":
        known = {text: place for place, text in enumerate(schema.classes)}
        return {key: Column(category_codes(table, target, options).numbers_of(known))}
    return {key: _numbers(table, target)}


def group_columns(columns: Columns, schema: Schema) -> Found:
    """Of a yes-or-no model the outcomes of the rows with a probability in each group; of rows
    without an outcome or a score none."""
    key = _key("outcome", outcome_name(schema))
    if schema.kind != "binary" or key not in columns or _key("score", PROBABILITY) not in columns:
        return {}
    truth, scores = columns[key].values, columns[_key("score", PROBABILITY)].values
    groups = np.clip(np.searchsorted(GROUPS, scores, side="right") - 1, 0, len(GROUPS) - 2)
    known = ~np.isnan(scores) & (truth >= 0)
    return {
        of_group(schema, group).key: Column(truth[known & (groups == group)])
        for group in range(len(GROUPS) - 1)
    }


def predictable(
    table: Table, options: TabularOptions, columns: Columns, schema: Schema
) -> NDArray[np.bool_]:
    """N bool: the rows that the model's own reading takes, which refuses the others."""
    fine = np.ones(len(table), dtype=np.bool_)
    for one in schema.inputs:
        column = columns[_key("input", one.name)]
        if one.kind == "number":
            gaps, odd = np.isnan(column.values), column.odd
        else:
            gaps, odd = column.values == -1, column.values == -2
            if one.kind == "category" and (
                options.unknown == "ignore" or one.name not in options.columns.categories
            ):
                odd = None  # it has no indicator, and nothing else happens
        if odd is not None:
            fine &= ~odd
            gaps = gaps & ~odd
        if options.missing != "median":
            fine &= ~gaps
    return fine


def _numbers(table: Table, name: str) -> Column:
    values, bad = table.read_numbers(name)
    if not len(bad):
        return Column(values)
    odd = np.zeros(len(table), dtype=np.bool_)
    odd[bad] = True
    return Column(values, odd)


def _two(table: Table, name: str, values: TwoValues) -> Ints:
    """0 and 1; -1 missing, -2 neither. Where one text alone may mean 0 and there are several, the
    most frequent does."""
    try:
        found = values.read(table, name)
        return np.where(np.isnan(found), -1, np.nan_to_num(found)).astype(np.int64)
    except DataError:
        coded, codes = table.coded(name), list[int]()
        counts = coded.counts()
    for text in coded.texts:
        try:
            codes.append(int(values.read(Table.of({name: [text]}, Path("row")), name)[0]))
        except DataError:
            codes.append(-2)
    zeros = [text for text, one in zip(coded.texts, codes, strict=True) if one == 0]
    if values.positive is not None and values.negative is None and zeros:
        usual = max(zeros, key=lambda text: counts[text]).casefold()
        codes = [
            -2 if one == 0 and text.casefold() != usual else one
            for text, one in zip(coded.texts, codes, strict=True)
        ]
    return np.array([*codes, -1], dtype=np.int64)[coded.index]


def _key(role: Role, name: str) -> str:
    return Field(role, name).key
