"""Private figure sums: no example changes more than is said, none has a part in another's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.common.figures.noised_words import unmeasured
from wardround.common.figures.sums import Sums
from wardround.common.tasks import Examples, Task
from wardround.common.tasks.private_sums import ClassSums, ClippedSums, NumberSums, PrivateSums
from wardround.common.tasks.tabular import TabularTask
from wardround.common.tasks.text.entities import entity_counts, entity_sums
from wardround.common.tasks.text.entities_noised import MOST, EntitySums
from wardround.common.tasks.text.rows import IGNORED


class Counting(Task[Examples]):
    """A task of one's own: mean squared distance, and a wild sum that one row may fill."""

    metric_bounds = {"squares": 4.0, "rows": 1.0}
    rowwise = True

    def labels(self, raw: Examples) -> Any:
        return np.zeros(len(raw), dtype=np.int64)

    def load(self, path: Any) -> Examples:
        x = torch.linspace(-1, 1, 200)[:, None]
        return Examples(x, 2 * x[:, 0])

    def model(self, totals: Sums) -> nn.Module:
        return nn.Linear(1, 1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] - targets) ** 2

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        if len(outputs) == 1 and float(targets[0]) == 13:
            raise ValueError("a row that fails")
        losses = self.loss(outputs, targets).double().numpy()
        return {"squares": losses.sum(keepdims=True), "rows": np.array([float(len(losses))])}

    def summarise(self, sums: Sums) -> dict[str, float]:
        return {"loss": float(sums["squares"][0] / sums["rows"][0])}


SUMS: dict[str, PrivateSums] = {
    "binary": ClassSums("binary", 2, 3.0),
    "multiclass": ClassSums("multiclass", 4, 3.0),
    "numbers": NumberSums(7.0),
    "entities": EntitySums(["Disease", "Drug"]),
    "own": ClippedSums(Counting(), Counting.metric_bounds),
}
WILD = [-1e9, -3.0, -0.5, 0.0, 0.5, 3.0, 13.0, 1e9, math.inf, math.nan]


def drawn(kind: str, rows: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Outputs, some of them wild, and targets as the task has them."""
    if kind == "entities":
        outputs = torch.from_numpy(generator.normal(0, 1, (rows, 30, 5)))
        tags = torch.from_numpy(generator.integers(0, 5, (rows, 30)))
        tags[torch.from_numpy(generator.random((rows, 30)) < 0.2)] = IGNORED
        return outputs, tags
    width = 4 if kind == "multiclass" else 1
    outputs = torch.from_numpy(generator.choice(WILD, (rows, width)))
    if kind == "numbers":
        return outputs, torch.from_numpy(generator.choice(WILD[:-2], (rows, 2)))
    if kind == "own":
        return outputs, torch.from_numpy(generator.choice(WILD[:-2], rows))
    return outputs, torch.from_numpy(generator.integers(0, max(2, width), rows))


@pytest.mark.parametrize("kind", SUMS)
@settings(max_examples=15, deadline=None)
@given(rows=st.integers(0, 5), seed=st.integers(0, 2**32))
def test_one_example_changes_no_more_than_is_said(kind: str, rows: int, seed: int) -> None:
    measure = SUMS[kind]
    outputs, targets = drawn(kind, rows + 1, np.random.default_rng(seed))
    with_, without = measure.sums(outputs, targets), measure.sums(outputs[:-1], targets[:-1])
    change = [with_[name] - without[name] for name in with_]
    assert with_.keys() == without.keys() == measure.sums(outputs[:0], targets[:0]).keys()
    assert all(np.array_equal(value, np.rint(value)) for value in with_.values())
    size = math.sqrt(sum(float(np.square(one).sum()) for one in change))
    assert size <= measure.sensitivity * (1 + 1e-12)


def test_what_a_row_fails_on_costs_that_row_alone() -> None:
    measure, outputs = SUMS["own"], torch.zeros(3, 1)
    found = measure.sums(outputs, torch.tensor([1.0, 13.0, 100.0]))
    assert found["rows"] == 2 * 1024 and found["squares"] == 256 + 1024  # 1 of 4; cut off at 4


def test_a_task_of_ones_own_has_intervals_by_the_noise() -> None:
    measure, generator = SUMS["own"], np.random.default_rng(1)
    sums = {"rows": np.array([1024.0 * 5000]), "squares": np.array([256.0 * 5000])}
    noise, held = 20 * measure.sensitivity, 0
    for _ in range(60):
        noised = {name: value + generator.normal(0, noise, 1) for name, value in sums.items()}
        found = measure.measured(noised, noise)
        low, high = found.intervals["loss"]
        held += low <= 1.0 <= high
    assert held >= 52
    few = {"rows": np.array([1024.0 * 20]), "squares": np.array([256.0 * 20])}
    assert "loss" in unmeasured(measure.measured(few, noise))


def test_bounds_must_be_numbers() -> None:
    with pytest.raises(ValueError, match="metric_bounds: 'rows'"):
        ClippedSums(Counting(), {"rows": 0.0})


def test_entities_of_rows_add_up_and_full_rows_are_scaled() -> None:
    generator = np.random.default_rng(2)
    outputs, tags = drawn("entities", 20, generator)
    predicted = outputs.argmax(2).numpy()
    counts = entity_counts(tags.numpy(), predicted, 2)
    exact = entity_sums(tags.numpy(), predicted, 2)
    for which, name in enumerate(("true_positives", "false_positives", "false_negatives")):
        assert np.array_equal(counts[:, which].sum(axis=0), exact[name])
    assert (counts.sum(axis=(1, 2)) > MOST).any()
    found = SUMS["entities"].sums(outputs, tags)
    assert found["entities"].sum() <= 20 * MOST and found["rows"] == 20


def test_entities_without_noise_are_those_of_the_rows() -> None:
    tags = torch.tensor([[1, 2, 0, 3], [0, 1, 0, IGNORED]])
    outputs = torch.nn.functional.one_hot(torch.tensor([[1, 2, 0, 0], [0, 0, 3, 0]]), 5).double()
    measure = SUMS["entities"]
    found = measure.measured(measure.sums(outputs, tags), 0.0)
    # one hit, one false Drug, one Disease and one Drug missed; too few for intervals but of rows
    assert found.figures["examples"] == 2
    many = {name: 200 * value for name, value in measure.sums(outputs, tags).items()}
    figures = measure.measured(many, 0.0).figures
    assert figures["precision"] == pytest.approx(1 / 2)
    assert figures["recall"] == pytest.approx(1 / 3)
    assert figures["f1"] == pytest.approx(0.4) and figures["support_Drug"] == 200


def test_survival_has_none_and_says_so() -> None:
    columns = {"target": None, "time": "days", "event": "died"}
    assert TabularTask(kind="survival", columns=columns).private_sums({}, 1.0) is None
