"""What comes of trees: the model in xgboost's file, and what is told of it.

    model.json   plain xgboost loads it; the names of classes and of the target stand in it too
    trees.json   rows, rounds, figures of held-out rows, what each column was worth

Rows are rounded to the plan's smallest leaf. A leaf's weight is of no fewer rows than that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wardround.common.durable.versioned import Format
from wardround.common.figures.sums import Sums
from wardround.common.procedures.trees.agreed import Agreed
from wardround.common.settings.trees import TreesOptions
from wardround.common.tasks.tabular import TabularTask
from wardround.common.text import to_json
from wardround.common.trees.model import TreeModel
from wardround.common.trees.plan import Growth
from wardround.common.trees.table import told_of
from wardround.common.trees.tree import NONE, Tree
from wardround.common.trees.xgboost_file import text_of

FILE, MODEL = "trees.json", "model.json"
FORMAT = Format("what is told of trees", "grow them in another run")
HELD_OUT = ("validation", "test")
Values = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Told:
    """What is published of a run.

    scores : loss of all validation rows after each round, where it was asked
    figures : totals of the figures' step
    """

    agreed: Agreed
    model: TreeModel
    scores: list[float]
    figures: Sums
    options: TreesOptions
    hospitals: int


def model_of(agreed: Agreed, trees: tuple[Tree, ...], growth: Growth, rounds: int) -> TreeModel:
    """The first rounds of these trees."""
    whole = TreeModel(agreed.features, agreed.objective, trees, growth.num_parallel_tree)
    return whole.first(rounds)


def files(told: Told, task: TabularTask) -> Mapping[str, str]:
    """Texts by file name."""
    attributes = told_of(task.options, told.agreed.classes)
    values = values_of(told, task)
    return {
        MODEL: text_of(told.model, attributes) + "\n",
        FILE: to_json(FORMAT.seal(values), indent=1) + "\n",
    }


def values_of(told: Told, task: TabularTask) -> Values:
    """What ``trees.json`` holds."""
    agreed, options = told.agreed, told.options
    return {
        "hospitals": told.hospitals,
        "smallest_leaf": options.smallest_leaf,
        "rows": _rounded(agreed.rows, options.smallest_leaf),
        "held_out": {
            split: _rounded(rows, options.smallest_leaf) for split, rows in agreed.held_out.items()
        },
        "objective": agreed.objective.name,
        "target": _target(task),
        "classes": list(agreed.classes),
        "rounds": told.model.rounds,
        "grown": len(told.scores) if told.scores else told.model.rounds,
        "trees": len(told.model.trees),
        "scores": [_number(one) for one in told.scores],
        "figures": _figures(told.figures, task),
        "columns": importance(told.model),
        "settings": options.model_dump(mode="json"),
    }


def importance(model: TreeModel) -> list[Values]:
    """Of each column: summed gain (of all 1), splits, whether it is a category; the most useful
    first."""
    gain = np.zeros(len(model.features))
    splits = np.zeros(len(model.features), np.int64)
    for tree in model.trees:
        inner = tree.left != NONE
        np.add.at(gain, tree.feature[inner], tree.gain[inner].astype(np.float64))
        np.add.at(splits, tree.feature[inner], 1)
    whole = float(gain.sum()) or 1.0
    found = [
        {
            "name": one.name,
            "category": not one.number,
            "gain": _number(share / whole),
            "splits": int(number),
        }
        for one, share, number in zip(model.features, gain, splits, strict=True)
    ]
    return sorted(found, key=lambda each: (-each["gain"], each["name"]))


def _figures(totals: Sums, task: TabularTask) -> Values:
    found: Values = {}
    for split in HELD_OUT:
        sums = {
            key.removeprefix(f"{split}/"): value
            for key, value in totals.items()
            if key.startswith(f"{split}/")
        }
        if sums:
            found[split] = {name: _number(one) for name, one in task.summarise(sums).items()}
    return found


def _target(task: TabularTask) -> str:
    columns = task.options.columns
    return str(columns.time if task.kind == "survival" else columns.target)


def _number(value: float) -> float | None:
    """Eight digits; None of what is undefined."""
    return float(f"{value:.8g}") if math.isfinite(value) else None


def _rounded(rows: int, least: int) -> int | None:
    """To multiples of the smallest leaf; None of fewer."""
    return None if 0 < rows < least else least * round(rows / least)
