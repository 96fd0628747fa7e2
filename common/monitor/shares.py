"""A rule on shares: how many rows of a topic does a model put into a class, window by window?

``--surge sentiment=negative --per topic``: the share of each topic's texts that the model calls
negative is held against its own history (``common/drift/surge.py``). A column is one that the model
predicts, or of the rows themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.drift.counts import Columns
from wardround.common.drift.field import Field
from wardround.common.drift.surge import Surge, surges
from wardround.common.errors import DataError
from wardround.common.monitor.rows import cells_of
from wardround.common.monitor.windows import Window
from wardround.common.tasks.base import Task
from wardround.common.tasks.schema import LABELS, Schema, head_outputs

_MOST_GROUPS = 1000
ALL = "all rows"


@dataclass(frozen=True)
class Rule:
    """Which share is watched.

    column, value : of rows whose ``column`` is ``value``
    per : the column of topics; '' for all rows together
    """

    column: str
    value: str
    per: str = ""

    @classmethod
    def read(cls, text: str, per: str = "") -> Rule | None:
        """Of COLUMN=VALUE; None of ''. Raises DataError."""
        column, equals, value = text.partition("=")
        if not text and not per:
            return None
        if not (column and equals and value):
            raise DataError(f"--surge '{text}': write COLUMN=VALUE", mend="as sentiment=negative")
        return cls(column, value, per)


@dataclass(frozen=True)
class Told:
    """A surge's numbers, with the names of its group and its window."""

    group: str
    window: str
    surge: Surge


def watch_shares(
    task: Task[Any],
    schema: Schema,
    raw: Any,
    columns: Columns,
    windows: Sequence[Window],
    rule: Rule | None,
) -> list[Told]:
    """Every topic in every window with enough of a history; nothing without a rule.

    columns : of the rows, with scores
    windows : in the order of time

    Raises DataError for a column that isn't there, a class that the model doesn't know, or windows
    that are too few for a history.
    """
    if rule is None:
        return []
    said = classes_said(task, schema, columns)
    has = _has(rule, said, raw)
    if rule.per in said:
        groups, names = said[rule.per][1], said[rule.per][0]
    elif rule.per:
        names, groups = _numbered(cells_of(raw, rule.per))
    else:
        names, groups = (ALL,), np.zeros(len(has), dtype=np.int64)
    shape = len(names), len(windows)
    counts, rows = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for place, window in enumerate(windows):
        known = window.rows[(groups[window.rows] >= 0) & (has[window.rows] >= 0)]
        rows[:, place] = np.bincount(groups[known], minlength=len(names))
        counts[:, place] = np.bincount(groups[known], has[known], minlength=len(names))
    found = surges(counts, rows)
    if not found:
        raise DataError(
            f"{len(windows)} windows are too few, or hold too few rows, for a history",
            mend="--by a column of dates with more --every, or a smaller --window",
        )
    return [Told(names[one.group], windows[one.window].name, one) for one in found]


def classes_said(
    task: Task[Any], schema: Schema, columns: Columns
) -> dict[str, tuple[tuple[str, ...], NDArray[np.int64]]]:
    """By column that the model predicts: its classes, and N the most probable one's number, -1 of
    a row without a score."""
    heads: dict[str, tuple[str, ...]] = {}
    outputs: dict[str, list[str]] = {}
    if schema.kind == LABELS:
        options: Any = task.options  # type: ignore[attr-defined]
        heads = {name: tuple(classes) for name, classes in options.heads.items()}
        outputs = {
            name: [one for one, _ in head_outputs(name, of)] for name, of in options.heads.items()
        }
    elif schema.kind in ("binary", "multiclass"):
        name = schema.target or "class"
        heads, outputs = {name: schema.classes}, {name: [one.name for one in schema.outputs]}
    found = {}
    for name, classes in heads.items():
        scores = np.stack(
            [columns[Field("score", one).key].values for one in outputs[name]], axis=1
        )
        best = (scores[:, 0] >= 0.5) if scores.shape[1] == 1 else scores.argmax(1)
        known = ~np.isnan(scores).any(1)
        found[name] = classes, np.where(known, best, -1).astype(np.int64)
    return found


def _has(
    rule: Rule, said: dict[str, tuple[tuple[str, ...], NDArray[np.int64]]], raw: Any
) -> NDArray[np.int64]:
    """N: 1 with the value, 0 with another, -1 with none."""
    if rule.column in said:
        classes, numbers = said[rule.column]
        if rule.value not in classes:
            raise DataError(
                f"'{rule.column}' has no class '{rule.value}'", mend=f"one of {', '.join(classes)}"
            )
        return np.where(numbers < 0, -1, numbers == classes.index(rule.value)).astype(np.int64)
    names, numbers = _numbered(cells_of(raw, rule.column))
    if rule.value not in names:
        raise DataError(f"column '{rule.column}' has no such value anywhere", mend="name another")
    return np.where(numbers < 0, -1, numbers == names.index(rule.value)).astype(np.int64)


def _numbered(cells: Sequence[Any]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The different texts of a column, and N the number of each row's; -1 of an empty cell."""
    texts = [None if cell is None or not str(cell).strip() else str(cell).strip() for cell in cells]
    names = sorted({text for text in texts if text is not None})
    if len(names) > _MOST_GROUPS:
        raise DataError(f"a column of {len(names):,} different texts makes too many groups")
    number = {name: place for place, name in enumerate(names)}
    found = [-1 if text is None else number[text] for text in texts]
    return tuple(names), np.array(found, dtype=np.int64)
