"""A hospital's sums by group, and what is shown of the totals.

Each group's sums are those that the task makes of its rows (``Task.metrics``), so a block's figures
are the pooled figures of its rows: equal to scikit-learn's, the areas within their bins' bound.
Beside them stand counts of rows and persons by outcome and prediction, by which groups are put
together (``cells.py``).

| kind       | outcomes        | predictions                | figures                         |
|------------|-----------------|----------------------------|---------------------------------|
| binary     | 0 and 1         | 0 and 1, by ``threshold``  | rates, area, calibration        |
| multiclass |                 | right and wrong            | accuracy, Brier                 |
| regression |                 |                            | RMSE, MAE, bias                 |
| survival   | no event, event |                            | c-index, of pairs in one group  |

Shapes: N rows, G groups of a column, T outcomes, Q predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wardround.common.config.load import Config
from wardround.common.durable.versioned import Format
from wardround.common.figures.figure import is_number
from wardround.common.figures.intervals import figure_intervals
from wardround.common.figures.sums import Sums
from wardround.common.judgement.cells import Block, shown_blocks
from wardround.common.judgement.fairness import gaps
from wardround.common.judgement.groups import Grouping, groupings
from wardround.common.settings import EVALUATE, TRAIN, JudgementTable
from wardround.common.tasks.base import Task
from wardround.common.tasks.categories import classes
from wardround.common.tasks.classes import UNLABELLED
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.tabular import TabularTask

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Values = dict[str, Any]
FILE = "judgement.json"
FORMAT = Format("judgement of a model", "have the model judged again")
KINDS = {"binary": (2, 2), "multiclass": (1, 2), "regression": (1, 1), "survival": (2, 1)}
"""T outcomes and Q predictions by the task's kind."""
SPLIT = "test"
"""Whose rows a run's model is judged on: those that chose nothing."""
_SHOWN = {
    "binary": (
        *("auc", "auc_error_bound", "accuracy", "balanced_accuracy", "sensitivity", "specificity"),
        *("precision", "brier", "calibration_error"),
    ),
    "multiclass": ("accuracy", "brier"),
    "regression": ("rmse", "mae", "bias"),
    "survival": ("c_index",),
}
"""Of the task's figures, what is shown of a block at the last level."""


def check_judgement(config: Config, task: Task[Any]) -> None:
    """Raise ConfigError, by key, for settings with which no model can be judged."""
    if config.judgement is None:
        return
    if config.procedure.name not in (TRAIN, EVALUATE):
        raise config.error("judgement", f"has no effect with procedure '{config.procedure.name}'")
    if not config.secure_aggregation.enabled:
        raise config.error(
            "judgement.groups",
            "figures by group are sums over hospitals, and without masks the server has each one's",
            "set secure_aggregation.enabled = true, or leave [judgement] out",
        )
    if config.privacy.enabled:
        raise config.error(
            "judgement.groups",
            "figures by group are exact sums, of few persons each, and [privacy] would not be on "
            "them",
            "leave one of the two out",
        )
    if config.strategy.keeps:
        raise config.error(
            "judgement.groups",
            "where layers or models are personal there is no one model to be judged",
            "leave [judgement] out; each hospital has its own figures with its results",
        )
    Judge.of(config, task)


@dataclass(frozen=True)
class Judge:
    """The worker and the driver of a judgement in one, made on both sides of the same.

    Parameters
    ----------
    columns : by which rows are grouped
    classes : of the target
    """

    task: TabularTask
    table: JudgementTable
    columns: tuple[Grouping, ...]
    classes: int

    @classmethod
    def of(cls, config: Config, task: Task[Any], totals: Sums | None = None) -> Self:
        """The one that ``[judgement]`` asks for. Raises ConfigError, by key, where it doesn't go
        with the task.

        totals : the preparation's; None: only the settings are tried
        """
        assert config.judgement is not None
        if not isinstance(task, TabularTask):
            raise config.error(
                "judgement.groups",
                "are columns of a table's rows, and this task has none",
                "leave [judgement] out",
            )
        several = task.kind == "multiclass" and totals is not None
        count = len(classes(totals or {}, task.options)) if several else 1
        columns = tuple(groupings(config, task, totals))
        return cls(task, config.judgement, columns, count)

    # --- at a hospital ----------------------------------------------------------------------------
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the sums: no row is needed for them."""
        whole = torch.int64 if self.task.kind == "multiclass" else torch.float32
        pair = (2,) if self.task.kind in ("regression", "survival") else ()
        outputs, targets = torch.zeros(0, self.classes), torch.zeros(0, *pair, dtype=whole)
        found: dict[str, tuple[int, ...]] = {}
        for grouping in self.columns:
            none = self._of_column(grouping, np.zeros(0, np.int64), None, outputs, targets)
            found |= {name: value.shape for name, value in none.items()}
        return found

    def sums(self, parts: Sequence[Table], outputs: Tensor, targets: Tensor) -> Sums:
        """A hospital's sums.

        Parameters
        ----------
        parts : tables, as they are read
        outputs, targets : of all their rows, one after the other, as ``Task.metrics`` takes them

        Raises DataError by place, TaskError.
        """
        found: Sums = {}
        whose = self._persons(parts)
        for grouping in self.columns:
            places = np.concatenate([grouping.places(part, self.task) for part in parts])
            found |= self._of_column(grouping, places, whose, outputs, targets)
        return found

    def _persons(self, parts: Sequence[Table]) -> Ints | None:
        """Whose each row is, by numbers; None where the study names no patients."""
        if not self._named:
            return None
        people = [one for one in map(self.task.people, parts) if one is not None]
        return np.unique(np.concatenate(people), return_inverse=True)[1].astype(np.int64)

    @property
    def _named(self) -> bool:
        return self.task.options.columns.patient_id is not None

    def _of_column(
        self,
        grouping: Grouping,
        places: Ints,
        whose: Ints | None,
        outputs: Tensor,
        targets: Tensor,
    ) -> Sums:
        size, (outcomes, predictions) = len(grouping.groups), KINDS[self.task.kind]
        cells, counted = self._cells(outputs, targets)
        found: dict[str, list[Floats]] = {}
        for group in range(size):
            here = torch.from_numpy(places == group)
            for name, value in self.task.metrics(outputs[here], targets[here]).items():
                found.setdefault(name, []).append(value)
        kept = {name: np.stack(values) for name, values in found.items() if name != "loss"}
        each = places * outcomes * predictions + cells
        shape = (size, outcomes, predictions)
        kept["cells"] = _counted(each[counted], shape)
        if self._named:
            kept["persons"] = _counted(_firsts(each[counted], whose, counted), shape)
        return {f"{grouping.key}/{name}": value for name, value in kept.items()}

    def _cells(self, outputs: Tensor, targets: Tensor) -> tuple[Ints, NDArray[np.bool_]]:
        """Outcome and prediction of each row as one number, and which rows figures count."""
        kind, rows = self.task.kind, len(targets)
        truth = targets.numpy()
        if kind == "binary":
            scores = torch.sigmoid(outputs.double()[:, 0]).numpy()
            cells = truth.astype(np.int64) * 2 + (scores >= self.table.threshold)
            return cells, np.ones(rows, np.bool_)
        if kind == "multiclass":
            predicted = torch.softmax(outputs.double(), dim=1).numpy().argmax(axis=1)
            return (predicted == truth).astype(np.int64), truth != UNLABELLED
        if kind == "survival":
            return truth[:, 1].astype(np.int64), np.ones(rows, np.bool_)
        return np.zeros(rows, np.int64), np.ones(rows, np.bool_)

    # --- what is shown ----------------------------------------------------------------------------
    def judgement(self, totals: Sums, model: str, hospitals: int, **more: Any) -> Values:
        """What is shown of the totals, as values of JSON.

        Parameters
        ----------
        model : what stands for the model
        hospitals : how many are in the totals
        more : what else there is to say of it
        """
        return FORMAT.seal(
            {
                "model": model,
                **more,
                "hospitals": hospitals,
                "kind": self.task.kind,
                "smallest_cell": self.table.smallest_cell,
                **({"threshold": self.table.threshold} if self.task.kind == "binary" else {}),
                "columns": [self._column(grouping, totals) for grouping in self.columns],
            }
        )

    def _column(self, grouping: Grouping, totals: Sums) -> Values:
        prefix = f"{grouping.key}/"
        own = {k.removeprefix(prefix): v for k, v in totals.items() if k.startswith(prefix)}
        cells = own.pop("cells")
        persons = own.pop("persons", cells)
        blocks = shown_blocks(persons, self.table.smallest_cell)
        found: Values = {"column": grouping.column, "groups": list(grouping.groups)}
        found["rows"] = [
            {"name": grouping.name_of(block), "rows": _whole(cells[list(block)].sum())}
            for block in blocks.rows
        ]
        if len(cells[0]) > 1:
            found["outcomes"] = [
                self._outcomes(grouping.name_of(block), cells[list(block)].sum(axis=0))
                for block in blocks.outcomes
            ]
        found["figures"] = [
            self._figures(grouping.name_of(block), block, cells, own)
            for block in blocks.predictions
        ]
        found["gaps"] = gaps(self.task.kind, found["figures"])
        return found

    def _outcomes(self, name: str, cells: Floats) -> Values:
        rows, cases = cells.sum(), cells[1].sum()
        word = "prevalence" if self.task.kind == "binary" else "events"
        value = float(cases / rows) if word == "prevalence" else _whole(cases)
        return {"name": name, "rows": _whole(rows), word: value}

    def _figures(self, name: str, block: Block, cells: Floats, sums: Sums) -> Values:
        """A block's figures, with intervals where there are."""
        here = list(block)
        added = {key: value[here].sum(axis=0) for key, value in sums.items()}
        counts = cells[here].sum(axis=0)
        found: Values = {"name": name, "rows": _whole(counts.sum())}
        if self.task.kind == "binary":
            added["confusion"] = counts
        added["loss"] = np.zeros(1)
        every = self.task.summarise(added)
        figures = {key: every[key] for key in _SHOWN[self.task.kind]}
        spans = figure_intervals(figures, added)
        if self.task.kind == "binary":
            figures |= _rates(counts, added)
        for key, value in figures.items():
            found[key] = float(value) if is_number(value) else None
            if key in spans:
                found[f"{key}_interval"] = list(spans[key])
        return found


def _rates(counts: Floats, sums: Sums) -> dict[str, float]:
    """What a confusion at the threshold tells beside the task's own figures, by fairlearn's names;
    and by how much probabilities are too high on average."""
    (spared, alarms), (missed, found) = counts
    rows = counts.sum()
    return {
        "selection_rate": float((alarms + found) / rows),
        "false_positive_rate": float(alarms / (spared + alarms)),
        "prevalence": float((missed + found) / rows),
        "calibration_in_the_large": float(sums["calibration"].sum() / rows),
    }


def _counted(places: Ints, shape: tuple[int, ...]) -> Floats:
    found = np.bincount(places, minlength=int(np.prod(shape)))
    return found.reshape(shape).astype(np.float64)


def _firsts(each: Ints, whose: Ints | None, counted: NDArray[np.bool_]) -> Ints:
    """For each person the first of the cells that their rows are in: so persons of several cells
    can be added, and are never more than there are."""
    if whose is None or not len(each):
        return each[:0]
    here = whose[counted]
    first = np.full(int(here.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, here, each)
    return first[first < np.iinfo(np.int64).max]


def _whole(value: Any) -> int:
    return int(round(float(value)))
