"""Classes and categories that too few rows, or patients, of a hospital have aren't sent."""

from __future__ import annotations

import numpy as np
import pytest

from tests.common.tasks.made import table
from wardround.client.data.hospital import Hospital
from wardround.client.data.shard import OwnShard
from wardround.common.config.load import parse_config
from wardround.common.errors import TaskError
from wardround.common.figures.sums import add_sums
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.tabular import TabularTask
from wardround.common.tasks.vocabulary import read_words

Y = {"target": "y"}


def agree(task: TabularTask, shards: list[Table]) -> dict[str, np.ndarray]:
    totals: dict[str, np.ndarray] = {}
    for phase in range(task.phases):
        totals = totals | add_sums([task.statistics(shard, phase, totals) for shard in shards])
    return task.condense(totals)


def test_a_class_that_too_few_rows_or_patients_have_is_not_sent_and_not_learned() -> None:
    """One patient's six visits are one patient; another hospital's many rows make it a class."""
    y = ["a"] * 8 + ["b"] * 6 + ["RARE"] * 4 + ["LONE"] * 6
    people = [f"p{n}" for n in range(18)] + ["q"] * 6
    x = [str(n % 5) for n in range(24)]
    north = table(x=x, y=y, p=people)
    south = table(x=x[:13], y=["b"] * 7 + ["RARE"] * 6, p=people[:13])
    task = TabularTask(kind="multiclass", columns=Y | {"patient_id": "p"})
    named = read_words(task.statistics(north, 0, {})["words"])
    assert named == {"class/a": 8, "class/b": 6}
    alone, both = agree(task, [north]), agree(task, [north, south])
    assert task.prepare(north, alone, north).targets.tolist() == [0] * 8 + [1] * 6 + [-100] * 10
    examples = task.prepare(north, both, north)
    assert examples.targets.tolist() == [1] * 8 + [2] * 6 + [0] * 4 + [-100] * 6
    (line,) = (line for line in task.unused(north, both) if "class" in line)
    assert line.startswith("6 of 24 training rows have a class") and "LONE" not in line

    model = task.model(both)
    losses = task.loss(model(examples.inputs), examples.targets)
    assert not losses[18:].any() and bool((losses[:18] > 0).all())
    losses[18:].sum().backward()
    assert all(not p.grad.any() for p in model.parameters())
    outputs = model(examples.inputs).detach()
    known = task.metrics(outputs[:18], examples.targets[:18])
    for name, value in task.metrics(outputs, examples.targets).items():
        np.testing.assert_allclose(value, known[name], rtol=1e-12)

    rows = TabularTask(kind="multiclass", columns=Y | {"ignore": ["p"]})
    assert "class/LONE" in read_words(rows.statistics(north, 0, {})["words"])
    declared = TabularTask(
        kind="multiclass", columns=Y | {"ignore": ["p"]}, classes=["a", "b", "RARE", "LONE"]
    )
    assert "words" not in declared.statistics(north, 0, {})
    targets = declared.prepare(north, agree(declared, [north]), north).targets.tolist()
    assert targets == [0] * 8 + [1] * 6 + [2] * 4 + [3] * 6
    with pytest.raises(TaskError, match="fewer than two classes have 5 rows.*task.classes"):
        task.model(agree(task, [south.select(np.arange(7))]))


def test_a_category_that_one_patient_has_is_not_sent() -> None:
    ward = ["x"] * 6 + ["y"] * 5
    people = ["one"] * 6 + [str(n) for n in range(5)]
    raw = table(ward=ward, y=["0", "1"] * 5 + ["0"], p=people)
    task = TabularTask(columns=Y | {"patient_id": "p", "categorical": ["ward"]})
    assert read_words(task.statistics(raw, 0, {})["words"]) == {"category/ward/y": 5}


def test_held_out_rows_of_a_class_that_nobody_trains_on_are_counted_at_home(
    caplog: pytest.LogCaptureFixture,
) -> None:
    y = ["a"] * 10 + ["b"] * 10 + ["SECRET"] * 2
    split = ["train"] * 20 + ["test"] * 2
    task = TabularTask(kind="multiclass", columns=Y | {"split": "s"})
    raw = table(x=[str(n) for n in range(22)], y=y, s=split)
    config = parse_config("")
    shard = OwnShard("north", task, config, lambda: raw)
    totals = agree(task, [raw.select(np.arange(20))])
    prepared = Hospital(shard).examples(totals, "d")
    assert prepared["test"].targets.tolist() == [-100, -100]
    assert "north: 2 of 2 test rows have a class that nobody trains on" in caplog.text
    assert "SECRET" not in caplog.text
