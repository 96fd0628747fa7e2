"""What hospitals agreed on before the first tree, as requests carry it.

It follows from sums that no request brings a second time (cells of counts are many), so it is the
server's word. It is held against a hospital's own settings: columns, categories that are declared,
how many bins.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import ConfigError, TaskError
from wardround.common.figures.sums import Sums
from wardround.common.settings.trees import TreesOptions
from wardround.common.tasks.features import one
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.targets import target_scale
from wardround.common.trees.bins import Bins
from wardround.common.trees.cox import Cox
from wardround.common.trees.features import Feature, Floats32
from wardround.common.trees.grid import fitting
from wardround.common.trees.histograms import Units
from wardround.common.trees.objectives import Binary, Multi, Objective, Squared

Values = dict[str, Any]
_TEXT, _CUTS, _TIMES, _EVENTS = "agreed/text", "agreed/cuts", "agreed/times", "agreed/events"
NAMES = frozenset({_TEXT, _CUTS, _TIMES, _EVENTS})
_MOST_TEXT = 16 * 2**20
_MOST_ROWS = 2**40


@dataclass(frozen=True, eq=False)
class Agreed:
    """What was agreed.

    rows : of all hospitals, to train on
    held_out : rows of each other split
    classes : names, of a multi-class target
    events : of each cell of time; empty but of survival
    """

    bins: Bins
    objective: Objective
    rows: int
    held_out: Mapping[str, int]
    classes: tuple[str, ...] = ()
    events: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def features(self) -> tuple[Feature, ...]:
        """The columns."""
        return self.bins.features

    def units(self, bits: int) -> Units:
        """The grid of gradients and hessians in words of so many bits. Raises ConfigError."""
        gradient, hessian = self.objective.largest
        return Units(
            fitting(self.rows, gradient, bits),
            fitting(self.rows, hessian, bits),
            self.objective.counts_rows,
        )

    @cached_property
    def totals(self) -> Sums:
        """What targets and figures of the task are read by."""
        found: Sums = {f"class/{quote(name, safe='')}": one(1) for name in self.classes}
        if isinstance(self.objective, Squared):
            found |= target_scale(self.objective.mean, self.objective.deviation)
        return found

    # --- as arrays -------------------------------------------------------------------------------
    def arrays(self) -> Sums:
        """As a state has it."""
        values: Values = {
            "features": [[each.name, each.levels and list(each.levels)] for each in self.features],
            "cuts": [len(each) for each in self.bins.cuts],
            "rows": self.rows,
            "held_out": dict(self.held_out),
            "classes": list(self.classes),
        }
        if isinstance(self.objective, Binary):
            values["share"] = self.objective.share
        if isinstance(self.objective, Squared):
            values["mean"], values["deviation"] = self.objective.mean, self.objective.deviation
        text = json.dumps(values, sort_keys=True, allow_nan=False).encode()
        times = self.objective.cuts if isinstance(self.objective, Cox) else np.zeros(0, np.float32)
        found: Values = {
            _TEXT: np.frombuffer(text, np.uint8).copy(),
            _CUTS: np.concatenate(self.bins.cuts).astype(np.float32),
            _TIMES: times,
            _EVENTS: self.events,
        }
        return found

    @classmethod
    def of(cls, arrays: Sums, options: TabularOptions, plan: TreesOptions) -> Agreed:
        """Of such arrays, as they came. Raises TaskError for what these settings don't allow."""
        try:
            return cls._of(arrays, options, plan)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise TaskError("what hospitals agreed on came as something else") from None
        except ConfigError as error:
            raise TaskError(f"what hospitals agreed on: {error.what}") from None

    @classmethod
    def _of(cls, arrays: Sums, options: TabularOptions, plan: TreesOptions) -> Agreed:
        found: list[Any] = [arrays[name] for name in (_TEXT, _CUTS, _TIMES, _EVENTS)]
        text, cuts, times, events = found
        types = [each.dtype.name for each in found]
        if types != ["uint8", "float32", "float32", "int64"] or text.size > _MOST_TEXT:
            raise TypeError
        values = json.loads(bytes(text.tobytes()))
        names = [(str(name), levels) for name, levels in values["features"]]
        check_names(names, options)
        features = tuple(feature_of(name, levels, plan) for name, levels in names)
        bins = Bins(features, _parted(cuts, values["cuts"]))
        if int(bins.sizes.max()) > max(plan.max_bins, *(len(f.levels or ()) for f in features)):
            raise TaskError(f"there are more bins than procedure.max_bins = {plan.max_bins}")
        rows = _count(values["rows"], 1)
        held_out = {split: _count(values["held_out"][split]) for split in ("validation", "test")}
        classes = tuple(str(name) for name in values["classes"])
        if options.classes is not None and classes != tuple(options.classes):
            raise TaskError("the classes are others than task.classes")
        if len(times) >= plan.time_cells or (np.diff(times) <= 0).any():
            raise TaskError(f"there are more cells of time than {plan.time_cells}, or not rising")
        return cls(
            bins, _objective(values, classes, times, options), rows, held_out, classes, events
        )


def feature_of(name: str, levels: Sequence[str] | None, plan: TreesOptions) -> Feature:
    """A column. levels : of a category; None of a number. Raises ConfigError."""
    texts = None if levels is None else tuple(str(text) for text in levels)
    return Feature(name, texts, plan.monotone.get(name, 0))


def check_names(names: Sequence[tuple[str, Any]], options: TabularOptions) -> None:
    """Raise TaskError unless these are the columns that the settings name, numbers first, with the
    categories that they declare."""
    columns = options.columns
    numbers = [name for name, levels in names if levels is None]
    others = {name: levels for name, levels in names if levels is not None}
    named = {name for name in columns.named() if name not in (*columns.numeric, *columns.binary)}
    if columns.numeric != ["*"] and set(numbers) != {*columns.numeric, *columns.binary}:
        raise TaskError("the columns are others than task.columns has")
    if numbers + sorted(others) != [name for name, _ in names] or numbers != sorted(set(numbers)):
        raise TaskError("the columns are in another order, or one is there twice")
    if not set(columns.binary) <= set(numbers) or set(numbers) & named:
        raise TaskError("a column is of another kind than in task.columns")
    if not set(others) <= set(columns.categorical):
        raise TaskError("a category is none of task.columns.categorical")
    for name, levels in others.items():
        declared = columns.categories.get(name)
        if declared is not None and list(levels) != list(declared):
            raise TaskError(f"the categories of '{name[:50]}' are others than declared")


def _objective(
    values: Values, classes: tuple[str, ...], times: Floats32, options: TabularOptions
) -> Objective:
    if options.kind == "binary":
        return Binary(_number(values["share"], 0, 1))
    if options.kind == "multiclass":
        if len(classes) < 2 or len(set(classes)) < len(classes):
            raise TaskError("there are fewer than two classes")
        return Multi(len(classes))
    if options.kind == "regression":
        return Squared(_number(values["mean"], -1e30, 1e30), _number(values["deviation"], 0, 1e30))
    return Cox(times)


def _parted(cuts: Floats32, sizes: Sequence[int]) -> tuple[Floats32, ...]:
    ends = np.cumsum([_count(size) for size in sizes])
    if len(ends) == 0 or int(ends[-1]) != len(cuts):
        raise ValueError
    return tuple(np.split(cuts, ends[:-1]))


def _count(value: Any, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MOST_ROWS:
        raise ValueError
    return value


def _number(value: Any, above: float, below: float) -> float:
    if not isinstance(value, float | int) or not math.isfinite(value) or not above < value < below:
        raise ValueError
    return float(value)
