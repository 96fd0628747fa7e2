"""Batches in pieces: the gradient of the whole batch, whatever the pieces; memory that runs out."""

from __future__ import annotations

import copy
import logging
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.client.small_models import Classes, configured, residual, rows, vector
from wardround.client.data.hospital import Units
from wardround.client.privacy.steps import ClippedGradients
from wardround.client.training.evaluation import model_outputs
from wardround.client.training.pieces import Pieces
from wardround.client.training.steps import train_on_batches
from wardround.common.errors import TaskError
from wardround.common.model.torch_state import is_out_of_memory
from wardround.common.privacy.schedule import Bound
from wardround.common.settings import PrivacyTable, TrainingTable

SEED = (7, 2, "a")


class Full(RuntimeError):
    """What torch says when the machine's memory is full."""

    def __init__(self) -> None:
        super().__init__("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")


class Cramped(nn.Module):
    """A model that runs out of memory beyond ``room`` rows; ``sizes`` is what it was asked."""

    def __init__(self, inside: nn.Module, room: int, error: type[RuntimeError] = Full) -> None:
        super().__init__()
        self.inside, self.room, self.error = inside, room, error
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        out: Tensor = self.inside(x)  # draws dropout before it fails
        if len(x) > self.room:
            raise self.error()
        return out


def trained(model: nn.Module, **options: Any) -> Tensor:
    train_on_batches(model, rows(), Classes(), configured(**options), SEED)
    return vector(model)


@pytest.mark.parametrize("micro", [1, 2, 3, 5, 7, 8, 100])
def test_the_gradient_is_the_whole_batchs(micro: int) -> None:
    torch.manual_seed(0)
    model = residual()
    options = {"local_epochs": 2, "optimizer": "adamw", "max_grad_norm": 0.5}
    whole = trained(copy.deepcopy(model), **options)
    outcome = train_on_batches(
        copied := copy.deepcopy(model),
        rows(),
        Classes(),
        configured(micro_batch_size=micro, **options),
        SEED,
    )
    plain = train_on_batches(model, rows(), Classes(), configured(**options), SEED)
    assert outcome.loss == pytest.approx(plain.loss, rel=1e-6)
    torch.testing.assert_close(vector(copied), whole, rtol=1e-5, atol=1e-6)
    assert not micro < 8 or outcome.steps == plain.steps == 6


@pytest.mark.parametrize("error", [Full, torch.OutOfMemoryError])
def test_where_memory_runs_out_the_step_is_repeated_in_halves(
    caplog: pytest.LogCaptureFixture, error: type[RuntimeError]
) -> None:
    torch.manual_seed(0)
    inside = residual()
    whole = trained(copy.deepcopy(inside))
    cramped = Cramped(inside, 3, error)
    with caplog.at_level(logging.WARNING, "wardround.client"):
        found = trained(cramped)
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-6)
    # 8, 4 and then 2 at a time; the last batch has 7 rows
    assert cramped.sizes == [8, 4, 2, 2, 2, 2, *[2] * 4, 2, 2, 2, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory in training with 8 examples at once: going on with 4",
        "out of memory in training with 4 examples at once: going on with 2",
    ]
    cramped.sizes.clear()
    trained(cramped)  # another round begins with what fitted
    assert cramped.sizes[0] == 2 and len(caplog.records) == 2


def test_a_repeated_step_draws_the_same_dropout() -> None:
    torch.manual_seed(0)
    inside = residual(dropout=0.5)
    cramped, roomy = Cramped(copy.deepcopy(inside), 4), Cramped(inside, 100)
    found, whole = trained(cramped), trained(roomy, micro_batch_size=4)
    assert cramped.sizes[0] == 8 and roomy.sizes[0] == 4
    assert torch.equal(found, whole)


def test_not_even_one_example() -> None:
    with pytest.raises(TaskError, match="out of memory in training with a single example"):
        trained(Cramped(residual(), 0))


def test_other_errors_are_not_memory() -> None:
    class Wrong(RuntimeError):
        pass

    with pytest.raises(Wrong):
        trained(Cramped(residual(), 0, Wrong))
    assert is_out_of_memory(torch.OutOfMemoryError()) and not is_out_of_memory(Wrong("shape"))


def test_statistics_of_a_batch_are_not_those_of_its_pieces() -> None:
    def norm() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))

    with pytest.raises(TaskError, match="micro_batch_size can't be used.*layer '1' .BatchNorm1d."):
        trained(norm(), micro_batch_size=4)
    with pytest.raises(TaskError, match="fewer can't be taken: layer 'inside.1'"):
        trained(Cramped(norm(), 3))
    trained(norm(), micro_batch_size=8)  # no batch is cut

    class Coupled(Classes):
        coupled_examples = True

    with pytest.raises(TaskError, match="depends on others of its batch"):
        train_on_batches(residual(), rows(), Coupled(), configured(micro_batch_size=4), SEED)


def test_evaluation_in_pieces_gives_the_same_outputs() -> None:
    model = residual()
    whole = model_outputs(model, rows())
    for training in (TrainingTable(micro_batch_size=5), TrainingTable()):
        cramped = Cramped(model, 5)
        torch.testing.assert_close(model_outputs(cramped, rows(), training), whole)
        assert max(cramped.sizes[-4:]) <= 5


@pytest.mark.parametrize("engine", ["own", "opacus"])
def test_clipped_sums_in_pieces_are_the_same_sums(
    engine: Literal["own", "opacus"], caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    data = rows(30)
    units = Units.of(np.repeat(np.arange(12), [1, 5, 2, 3, 1, 1, 4, 2, 3, 2, 5, 1]), 32, 0)
    table = PrivacyTable(unit="patient", noise_multiplier=1.0, engine=engine)
    model = residual()

    def total(model: nn.Module, training: TrainingTable | None = None) -> np.ndarray:
        clipped = ClippedGradients(model, Classes().loss, data, units, table, training)
        return clipped.total(np.arange(12), Bound(0.3))

    whole = total(model)
    for micro in (1, 4, 7):
        part = total(model, TrainingTable(micro_batch_size=micro))
        np.testing.assert_allclose(part, whole, rtol=1e-4, atol=1e-6)
    cramped = Cramped(model, 10)
    np.testing.assert_allclose(total(cramped), whole, rtol=1e-4, atol=1e-6)
    assert "going on with 8" in caplog.text
    assert engine == "opacus" or max(cramped.sizes) <= 10  # there a copy is what runs


def test_what_fits_is_remembered_for_each_kind_of_work() -> None:
    model = residual()

    def work(most: int) -> int:
        if most > 3:
            raise Full
        return most

    assert Pieces(model, "training", 8, "cpu").run(100, work) == 2
    assert Pieces(model, "training", 8, "cpu").most == 2
    assert Pieces(model, "training", 1, "cpu").most == 1
    assert Pieces(model, "evaluation", 8, "cpu").most == 8
