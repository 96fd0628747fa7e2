"""How hospitals agree on columns, categories, bins and target: the steps before the first tree.

    names    which numbers there are, words of undeclared categories and classes, rows of each
             split, and what the target begins with
    cells    counts of each column of numbers, finer where much lies (``common/trees/agreeing.py``);
             with the first, a number's squared distances from its mean
    events   survival: events in each cell of time

All is of rows to train on. A state carries the totals of these steps until all is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.trees.agreed import Agreed, check_names, feature_of
from wardround.common.procedures.trees.calendar import CELLS
from wardround.common.settings.trees import TreesOptions
from wardround.common.tasks.categories import (
    WORDS,
    agreed_words,
    category_sums,
    classes,
    vocabulary,
)
from wardround.common.tasks.columns import column_key, numeric_columns
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.features import NOT_A_NUMBER, one
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.targets import read_targets
from wardround.common.trees import agreeing as cells
from wardround.common.trees.bins import Bins
from wardround.common.trees.cox import Cox
from wardround.common.trees.features import as_rows
from wardround.common.trees.objectives import Binary, Multi, Objective, Squared

Prepared = Sequence[Sums]
"""Totals of the steps so far: 'names', then of each count."""
_TIME = "time"
_TARGET = "target/"


def first_sums(tables: Mapping[str, Table], options: TabularOptions) -> Sums:
    """A hospital's of 'names'. tables : by split, the first of them has all columns"""
    train = tables["train"]
    found: Sums = {"rows": one(len(train))}
    for split in ("validation", "test"):
        found[f"split/{split}"] = one(len(tables[split]) if split in tables else 0)
    for name in numeric_columns(train, options):
        values = train.numbers(name, NOT_A_NUMBER)
        found[f"{column_key(train, 'numeric', name)}/count"] = one((~np.isnan(values)).sum())
    words = category_sums(train, options)
    found |= {key: value for key, value in words.items() if key == WORDS}
    if options.kind == "binary":
        found |= _named(Binary.sums(_targets(train, options)))
    elif options.kind == "regression":
        found |= _named(Squared.sums(_targets(train, options)))
    return found


def agreed_numbers(first: Sums, options: TabularOptions) -> list[str]:
    """Columns of numbers, yes-or-no ones among them, sorted."""
    keys = (key.split("/") for key in first)
    own = {unquote(parts[1]) for parts in keys if parts[0] == "numeric" and len(parts) == 3}
    return sorted(own | set(options.columns.binary))


def open_cells(prepared: Prepared, options: TabularOptions, plan: TreesOptions) -> dict[str, Any]:
    """Of each column that is counted next, by its sum's name: its cells. Empty when all is
    known."""
    count, found = len(prepared) - 1, {}
    if count >= CELLS:
        return {}
    for key, most in _counted(prepared[0], options, plan).items():
        so_far = [step[key] for step in prepared[1:] if key in step]
        if len(so_far) < count:
            continue  # it was known before
        divided = cells.cells_at([_counts(x) for x in so_far], most, plan.smallest_leaf)
        if divided is not None:
            found[key] = divided
    return found


def cell_shapes(prepared: Prepared, options: TabularOptions, plan: TreesOptions) -> Shapes:
    """Of the next count."""
    found: Shapes = {key: (len(one_),) for key, one_ in open_cells(prepared, options, plan).items()}
    if len(prepared) == 1 and options.kind == "regression":
        found[f"{_TARGET}squares"] = (1,)
    return found


def cell_sums(
    table: Table, prepared: Prepared, options: TabularOptions, plan: TreesOptions
) -> Sums:
    """A hospital's. table : of its rows to train on"""
    found: Sums = {}
    for key, divided in open_cells(prepared, options, plan).items():
        values = as_rows([_values(table, key, options)])[:, 0]
        found[key] = divided.counted(values).astype(np.float64)
    if len(prepared) == 1 and options.kind == "regression":
        first = {key.removeprefix(_TARGET): value for key, value in prepared[0].items()}
        squares = Squared.squares(_targets(table, options), first)
        found |= {f"{_TARGET}{key}": value for key, value in squares.items()}
    return found


def agree(prepared: Prepared, options: TabularOptions, plan: TreesOptions) -> Agreed:
    """What follows from all totals; of survival without the events. Raises TaskError, ConfigError
    where nothing could be learned."""
    first = prepared[0]
    rows = int(first["rows"][0])
    if rows < 1:
        raise TaskError("no hospital has rows to train on")
    words = cast(Sums, agreed_words(first)) if WORDS in first else {}
    names: list[tuple[str, Any]] = [(name, None) for name in agreed_numbers(first, options)]
    levels = {name: vocabulary(words, name, options) for name in options.columns.categorical}
    names += [(name, texts) for name, texts in sorted(levels.items()) if texts]
    if not names:
        raise TaskError("trees would have no column; name columns in task.columns")
    check_names(names, options)
    cuts = [
        _cuts(prepared, _key(name), plan.max_bins, plan) if texts is None else _NO_CUTS
        for name, texts in names
    ]
    features = tuple(feature_of(name, texts, plan) for name, texts in names)
    found = tuple(classes(words, options)) if options.kind == "multiclass" else ()
    held_out = {split: int(first[f"split/{split}"][0]) for split in ("validation", "test")}
    objective = _objective(prepared, found, options, plan)
    return Agreed(Bins(features, tuple(cuts)), objective, rows, held_out, found)


def event_sums(table: Table, agreed: Agreed, options: TabularOptions) -> Sums:
    """A hospital's events in each cell of time."""
    assert isinstance(agreed.objective, Cox)
    time, event = read_targets(table, {}, options).double().numpy().T
    target = np.where(event > 0, np.maximum(time, np.finfo(np.float32).tiny), -1.0)
    return {"events": agreed.objective.events(target).astype(np.float64)}


# --- parts ----------------------------------------------------------------------------------------
_NO_CUTS = np.empty(0, np.float32)


def _key(name: str) -> str:
    return f"cells/{quote(name, safe='')}"


def _counted(first: Sums, options: TabularOptions, plan: TreesOptions) -> dict[str, int]:
    """Names of what is counted, and how many bins each gets."""
    found = {_key(name): plan.max_bins for name in agreed_numbers(first, options)}
    if options.kind == "survival":
        found[_TIME] = plan.time_cells
    return found


def _values(table: Table, key: str, options: TabularOptions) -> NDArray[np.float64]:
    if key == _TIME:
        return table.numbers(str(options.columns.time))
    name = unquote(key.removeprefix("cells/"))
    if name in options.columns.binary:
        return options.binary_values(name).read(table, name)
    return table.numbers(name, NOT_A_NUMBER)


def _counts(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(values).astype(np.int64)


def _cuts(prepared: Prepared, key: str, most: int, plan: TreesOptions) -> NDArray[np.float32]:
    counts = [_counts(step[key]) for step in prepared[1:] if key in step]
    return cells.cuts_of(counts, most, plan.smallest_leaf)


def _objective(
    prepared: Prepared, found: tuple[str, ...], options: TabularOptions, plan: TreesOptions
) -> Objective:
    totals = {
        key.removeprefix(_TARGET): value
        for step in prepared
        for key, value in step.items()
        if key.startswith(_TARGET)
    }
    if options.kind == "binary":
        return Binary.of(totals)
    if options.kind == "regression":
        return Squared.of(totals)
    if options.kind == "survival":
        return Cox(_cuts(prepared, _TIME, plan.time_cells, plan))
    if len(found) < 2:
        raise TaskError(
            f"fewer than two classes have {options.min_category_count} rows at a hospital",
            mend="check task.columns.target, or declare task.classes",
        )
    return Multi(len(found))


def _named(sums: Sums) -> Sums:
    return {f"{_TARGET}{key}": value for key, value in sums.items()}


def _targets(table: Table, options: TabularOptions) -> NDArray[np.float64]:
    if options.kind == "regression":
        return table.numbers(str(options.columns.target))
    found: NDArray[np.float64] = read_targets(table, {}, options).double().numpy()
    return found
