"""``trees`` under ``[privacy]``: splits by the plan's seed, leaves and figures by noised sums.

    step t < rounds    the sums of tree t's leaves (``common/trees/private.py``)
    step rounds        held-out rows by what the trees say of them

Everything is worked out anew by each hospital from the totals so far: there is no state to believe.
Columns are those of the settings, with the ranges that these declare; nothing that depends on a row
is agreed on. A row is in one cell of the last step, and counts there as much as in a leaf.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from wardround.common.config.load import Config
from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.judgement.judge import check_judgement
from wardround.common.procedures.procedure import (
    Asked,
    Earlier,
    FinishedModel,
    Parts,
    Procedure,
    Shapes,
)
from wardround.common.procedures.trees.agreed import Agreed
from wardround.common.procedures.trees.result import FILE, FORMAT, MODEL, importance
from wardround.common.procedures.trees.rows import TreeRows, tree_rows
from wardround.common.settings import TREES
from wardround.common.settings.trees import TreesOptions
from wardround.common.tasks.base import Task
from wardround.common.tasks.tabular import TabularTask
from wardround.common.text import to_json
from wardround.common.trees import private
from wardround.common.trees.bins import Bins
from wardround.common.trees.features import Feature, Floats32
from wardround.common.trees.model import TreeModel, start
from wardround.common.trees.objectives import Binary, Multi, Objective, Squared
from wardround.common.trees.table import told_of
from wardround.common.trees.tree import Tree
from wardround.common.trees.xgboost_file import text_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
BINS = 16
_LEAVES, _CELLS = "leaves", "cells"
_READ = frozenset({"rounds", "max_depth", "learning_rate", "reg_lambda"})
Ranges = Mapping[str, tuple[float, float]]


class NoisedTrees(Procedure):
    """Private trees."""

    name = TREES
    by_split: ClassVar[bool] = True

    def __init__(
        self,
        task: TabularTask,
        options: TreesOptions,
        growth: private.PrivateGrowth,
        ranges: Ranges,
        deviation: float,
    ) -> None:
        self._task, self._options, self._growth = task, options, growth
        self._ranges, self._deviation = ranges, deviation
        objective = objective_of(task, growth.scale, ranges)
        features = features_of(task, ranges)
        cuts = tuple(np.empty(0, np.float32) for _ in features)
        classes = tuple(task.options.classes or ()) if task.kind == "multiclass" else ()
        self._agreed = Agreed(Bins(features, cuts), objective, 0, {}, classes)

    @classmethod
    def of(cls, config: Config, task: Task[Any], model: FinishedModel | None = None) -> Self:
        if not isinstance(task, TabularTask) or task.kind == "none":
            raise config.error(
                "procedure.name",
                "'trees' learn a column of a table, and this task has none",
                "use a study whose task is 'tabular', with a target",
            )
        check_judgement(config, task)
        options = cast(TreesOptions, config.procedure.settings)
        check(config, task, options)
        ranges = ranges_of(task)
        scale = 1.0
        if task.kind == "regression":
            low, high = ranges[str(task.options.columns.target)]
            scale = (high - low) / 2
        growth = private.PrivateGrowth(
            options.max_depth,
            options.learning_rate,
            options.reg_lambda,
            scale=scale,
            seed=config.federation.seed,
        )
        return cls(task, options, growth, ranges, expected_noise(config, options.rounds + 1))

    @classmethod
    def planned_steps(cls, config: Config) -> int:
        return cast(TreesOptions, config.procedure.settings).rounds + 1

    @property
    def most_steps(self) -> int:
        return self._options.rounds + 1

    def sensitivity(self, records: int) -> float:
        return private.sensitivity(records)

    def shapes(self, earlier: Earlier) -> Shapes | None:
        outputs = self._agreed.objective.outputs
        if len(earlier) < self._options.rounds:
            return {_LEAVES: (1 << self._growth.depth, outputs, 2)}
        if len(earlier) > self._options.rounds:
            return {}
        return {_CELLS: (outputs, outputs) if outputs > 1 else (2, BINS)}

    def sums(self, parts: Parts, earlier: Earlier) -> Sums:
        trees = self._trees(earlier)
        if len(earlier) < self._options.rounds:
            rows = self._rows(parts["train"])
            gradients = self._agreed.objective.gradients(self._margins(rows, trees), rows.target)
            found = private.leaf_sums(
                self._drawn(len(earlier)), rows.matrix, *gradients, self._growth
            )
            return {_LEAVES: found.astype(np.float64)}
        shape = (self.shapes(earlier) or {})[_CELLS]
        if "test" not in parts:
            return {_CELLS: np.zeros(shape)}  # no row there: noise alone
        rows = self._rows(parts["test"])
        cells = self._cells(self._margins(rows, trees), rows.target)
        counts = np.bincount(cells, minlength=math.prod(shape)).reshape(shape)
        return {_CELLS: counts.astype(np.float64) * private.WHOLE}

    # --- trees ------------------------------------------------------------------------------------
    def _drawn(self, number: int) -> Tree:
        return private.drawn_tree(self._agreed.features, self._ranges, self._growth, number)

    def _trees(self, earlier: Earlier) -> list[list[Tree]]:
        """Of the rounds so far, one of each output."""
        found = []
        for number, sums in enumerate(earlier[: self._options.rounds]):
            if not np.isfinite(sums[_LEAVES]).all():
                raise TaskError("the totals that came are no sums of leaves")
            drawn, outputs = self._drawn(number), range(self._agreed.objective.outputs)
            each = [
                private.with_leaves(drawn, sums[_LEAVES][:, k], self._deviation, self._growth)
                for k in outputs
            ]
            found.append(each)
        return found

    def _rows(self, table: Any) -> TreeRows:
        agreed = self._agreed
        return tree_rows(table, agreed.features, agreed.totals, self._task.options)

    def _margins(self, rows: TreeRows, trees: list[list[Tree]]) -> Floats32:
        margins, columns = start(self._agreed.objective, len(rows)), np.asfortranarray(rows.matrix)
        for each in trees:
            leaf = private.leaves_of(each[0], columns, self._growth.depth)
            margins = private.added(margins, each, leaf)
        return margins

    def _cells(self, margins: Floats32, target: Floats) -> Ints:
        """The cell of each held-out row: of several classes truth and what is likeliest; of two the
        truth and the probability's bin; of a number, the bin of how far off it is."""
        said = self._agreed.objective.predicted(margins).astype(np.float64)
        if said.ndim == 2:
            chosen: Ints = target.astype(np.int64) * said.shape[1] + said.argmax(axis=1)
            return chosen
        if self._task.kind == "binary":
            place = np.minimum((said * BINS).astype(np.int64), BINS - 1)
            cell: Ints = target.astype(np.int64) * BINS + place
            return cell
        off = np.abs(said - target) / self._growth.scale
        found: Ints = np.minimum((off * BINS / 2).astype(np.int64), BINS - 1)
        return found

    # --- what is told -----------------------------------------------------------------------------
    def result(self, earlier: Earlier, asked: Asked) -> Mapping[str, str]:
        trees = tuple(one for each in self._trees(earlier) for one in each)
        model = TreeModel(self._agreed.features, self._agreed.objective, trees)
        cells = earlier[-1][_CELLS] / private.WHOLE
        columns = self._task.options.columns
        values = {
            "hospitals": asked.hospitals,
            "smallest_leaf": None,
            "rows": None,
            "held_out": {},
            "objective": self._agreed.objective.name,
            "target": str(columns.target),
            "classes": list(self._agreed.classes),
            "rounds": model.rounds,
            "grown": model.rounds,
            "trees": len(trees),
            "scores": [],
            "figures": {"test": self._figures(cells)},
            "columns": importance(model),
            "settings": self._options.model_dump(mode="json", include=set(_READ)),
            "privacy": {
                "unit": asked.unit,
                "epsilon": asked.epsilon,
                "delta": asked.delta,
                "noise": asked.noise / private.WHOLE,
            },
        }
        return {
            MODEL: text_of(model, told_of(self._task.options, self._agreed.classes)) + "\n",
            FILE: to_json(FORMAT.seal(values), indent=1) + "\n",
        }

    def _figures(self, cells: Floats) -> dict[str, float | None]:
        """Of noised counts as they came: what is below 0 stays, so that noise moves figures to
        either side."""
        if self._agreed.objective.outputs > 1:
            return {"accuracy": _share(float(np.trace(cells)), float(cells.sum()))}
        if self._task.kind == "regression":
            off = (np.arange(BINS) + 0.5) * 2 / BINS * self._growth.scale
            return {
                "mae": _share(float(cells[0] @ off), float(cells[0].sum()), self._growth.scale * 2)
            }
        no, yes = cells
        below = np.cumsum(no) - no / 2
        hits = float(no[: BINS // 2].sum() + yes[BINS // 2 :].sum())
        return {
            "auc": _share(float(yes @ below), float(max(yes.sum(), 0) * max(no.sum(), 0))),
            "accuracy": _share(hits, float(cells.sum())),
        }


def _share(part: float, whole: float, most: float = 1.0) -> float | None:
    """Within what a figure can be; None where noise leaves no rows."""
    return float(f"{min(max(part / whole, 0.0), most):.6g}") if whole > 0 else None


def expected_noise(config: Config, steps: int) -> float:
    """About what the noise on a sum deviates by, in whole units: leaves are shrunk by it, alike at
    both ends, and no privacy hangs on it (``common/privacy`` says what is paid and drawn).

    A Gaussian of multiplier z, n times, costs about sqrt(2 n ln(1 / delta)) / z.
    """
    table = config.privacy
    records = table.records_per_patient if table.unit == "patient" else 1
    multiplier = table.noise_multiplier
    if multiplier is None:
        assert table.epsilon is not None  # the settings have one or the other
        multiplier = math.sqrt(2 * steps * math.log(1 / table.delta)) / table.epsilon
    return multiplier * private.sensitivity(records)


def features_of(task: TabularTask, ranges: Ranges) -> tuple[Feature, ...]:
    """The columns that the settings name: numbers and yes-or-no ones, then categories."""
    columns = task.options.columns
    target = str(columns.target)
    numbers = [Feature(name) for name in sorted(ranges) if name != target]
    declared = sorted(columns.categorical)
    return (*numbers, *(Feature(name, tuple(columns.categories[name])) for name in declared))


def ranges_of(task: TabularTask) -> dict[str, tuple[float, float]]:
    """Of all columns of numbers, and the target of a regression, as declared."""
    columns = task.options.columns
    names = [*columns.numeric, *([str(columns.target)] if task.kind == "regression" else [])]
    found = {name: (0.0, 1.0) for name in columns.binary}
    for name in names:
        expected = columns.expected.get(name)
        if expected is not None and expected.range is not None:
            found[name] = (float(expected.range[0]), float(expected.range[1]))
    return found


def objective_of(task: TabularTask, scale: float, ranges: Ranges) -> Objective:
    """What is minimised, from where no row says anything yet."""
    if task.kind == "multiclass":
        return Multi(len(task.options.classes or ()))
    if task.kind == "regression":
        return Squared(ranges[str(task.options.columns.target)][0] + scale, scale)
    return Binary(0.5)


def check(config: Config, task: TabularTask, options: TreesOptions) -> None:
    """Raise ConfigError, by key, for settings with which trees can't be private."""
    columns = task.options.columns
    if task.kind == "survival":
        raise config.error(
            "procedure.name",
            "with [privacy] 'trees' learn no survival: who is at risk would be a sum of its own",
            "ask for 'binary', whether it happens by a day that the study names",
        )
    if odd := sorted(options.model_fields_set - _READ - {"name"}):
        raise config.error(
            f"procedure.{odd[0]}",
            "has no effect with [privacy]: splits are drawn and not searched",
            f"leave it out; what has an effect is {', '.join(sorted(_READ))}",
        )
    if columns.numeric == ["*"]:
        raise config.error(
            "task.columns.numeric", "with [privacy] columns aren't agreed on", "name them"
        )
    ranges = ranges_of(task)
    wanted = [*columns.numeric, *([str(columns.target)] if task.kind == "regression" else [])]
    if lacking := [name for name in wanted if name not in ranges]:
        raise config.error(
            f"task.columns.expected.{lacking[0]}",
            "has no range, which private trees draw their cuts in",
            "declare range = [lowest, highest], from what is known of such a column, not of rows",
        )
    open_ = [name for name in columns.categorical if name not in columns.categories]
    if open_ or (task.kind == "multiclass" and task.options.classes is None):
        raise config.error(
            f"task.columns.categories.{open_[0]}" if open_ else "task.classes",
            "isn't declared, and with [privacy] its texts can't be agreed on",
            "declare them",
        )
