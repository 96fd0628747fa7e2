"""What figures are: direction, bounds, and that every task describes what it makes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from wardround.common.figures.figure import REGRESSION, STANDARD, Figure, FigureTable, with_bound
from wardround.common.figures.sums import regression_figures, regression_sums
from wardround.common.tasks.tabular import TabularTask
from wardround.common.tasks.text.entities import described_figures, entity_figures


def test_the_star_follows_the_direction() -> None:
    values = [-0.5, 0.1, 3.0, math.nan, None, "hidden"]
    none = [False] * 3
    assert Figure("auc", "higher").stars(values) == [False, False, True, *none]
    assert Figure("rmse", "lower").stars(values) == [True, False, False, *none]
    assert Figure("bias", "zero").stars(values) == [False, True, False, *none]
    assert not any(Figure("support").stars(values))
    assert not any(Figure("auc", "higher").stars([0.7, math.nan]))  # nothing to compare it with
    assert Figure("auc", "higher").stars([0.7, 0.7]) == [True, True]


def test_better_and_reached() -> None:
    bias = Figure("bias", "zero")
    assert bias.is_better(-0.1, 0.2) and not bias.is_better(0.3, -0.2) and bias.is_better(9.0, None)
    assert bias.reaches(-0.1, 0.1) and not bias.reaches(-0.2, 0.1)
    assert not Figure("auc", "higher").is_better(math.nan, None)
    assert not Figure("events").is_better(1.0, None)


def test_a_bound_is_shown_where_it_matters() -> None:
    auc = FigureTable(STANDARD, "auc").primary
    assert auc.bound_in({"auc": 0.7, "auc_error_bound": 0.079}) == 0.079
    assert auc.bound_in({"auc": 0.7, "auc_error_bound": 0.004}) is None
    assert auc.bound_in({"auc": 0.7, "auc_error_bound": math.nan}) is None
    assert with_bound("0.651", 0.079) == "0.651 ±0.079" and with_bound("0.651", None) == "0.651"


COLUMNS: dict[str, Any] = {"survival": {"time": "t", "event": "e"}}


def test_every_figure_of_a_regression_is_described() -> None:
    task = TabularTask(kind="regression")
    made = regression_figures(regression_sums([1.0, 2.0], [1.5, 2.5]))
    assert {*made, "loss"} == {figure.name for figure in task.figures}
    assert task.figure_table().primary == Figure("rmse", "lower", unit="target")


@pytest.mark.parametrize("kind", ["binary", "multiclass", "survival"])
def test_every_figure_of_a_tabular_task_is_described(kind: str) -> None:
    task = TabularTask(kind=kind, columns=COLUMNS.get(kind, {}))
    outputs = torch.randn(6, 3 if kind == "multiclass" else 1, generator=torch.manual_seed(1))
    targets = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
    if kind == "survival":
        targets = torch.stack([torch.arange(1.0, 7.0), targets], 1)
    made = task.summarise(
        task.metrics(outputs, targets.long() if outputs.shape[1] > 1 else targets)
    )
    assert set(made) == {figure.name for figure in task.figures}
    table = task.figure_table()
    assert table.primary.name == task.primary_metric and table.primary.better != "none"


def test_every_figure_of_entities_is_described() -> None:
    ones = {"true_positives": np.ones(2), "false_positives": np.ones(2)}
    sums = ones | {"false_negatives": np.ones(2), "examples": np.ones(1)}
    made = entity_figures(sums, ["Drug", "Disease"])
    described = described_figures(["Drug", "Disease"])
    assert set(made) | {"loss"} == {figure.name for figure in described}
    assert {one.name for one in described if one.better == "higher"} == {
        name for name in made if name.startswith(("f1", "precision", "recall"))
    }


def test_a_task_of_ones_own_says_its_figures(line: type) -> None:
    own = {"primary_metric": "bias", "figures": (Figure("bias", "zero"), Figure("mine", "lower"))}
    table = type("Own", (line,), own)().figure_table()
    assert (table.primary.better, table["mine"].better) == ("zero", "lower")
    assert (table["auc"].better, table["unheard_of"].better) == ("higher", "none")
    old = type("Old", (line,), {"primary_metric": "score", "higher_is_better": True})()
    assert old.figure_table().primary == Figure("score", "higher")
    assert (
        type("Low", (line,), {"primary_metric": "score"})().figure_table().primary.better == "lower"
    )


def test_a_run_keeps_its_table() -> None:
    table = FigureTable(REGRESSION, "rmse")
    again = FigureTable.read(table.record())
    assert again.primary == table.primary and again["bias"] == table["bias"]
    older = FigureTable.read({"primary": "kappa", "higher_is_better": True})
    assert older.primary.better == "higher" and older["rmse"].better == "lower"
    assert "auc_error_bound" in FigureTable(STANDARD, "auc").bounds()
