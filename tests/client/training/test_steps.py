"""Local training against torch's own optimisers; batches; determinism with dropout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.client.small_models import Classes
from wardround.client.training.batches import batches
from wardround.client.training.steps import make_optimizer, train_on_batches
from wardround.common.config.load import Config
from wardround.common.errors import TaskError
from wardround.common.rng import client_keys
from wardround.common.settings import TrainingTable
from wardround.common.tasks.base import Examples


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 3), st.integers(0, 30))
def test_epochs_see_every_row_once_and_steps_are_counted(size, batch, epochs, steps) -> None:
    table = TrainingTable(batch_size=batch, local_epochs=epochs, local_steps=steps or None)
    found = list(batches(size, table, client_keys(0, "batches", 1, ["a"])))
    per_epoch = -(-size // batch)
    assert len(found) == (steps or epochs * per_epoch)
    assert all(1 <= len(rows) <= batch for rows in found)
    for start in range(0, len(found) - per_epoch + 1, per_epoch):
        assert sorted(np.concatenate(found[start : start + per_epoch])) == list(range(size))


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 3), st.integers(0, 30))
def test_a_last_batch_of_one_joins_the_one_before(size, batch, epochs, steps) -> None:
    """For batch normalisation; no other batch changes."""
    table = TrainingTable(batch_size=batch, local_epochs=epochs, local_steps=steps or None)
    keys = client_keys(0, "batches", 1, ["a"])
    plain, found = (list(batches(size, table, keys, least)) for least in (1, 2))
    if batch == 1 or size <= batch or size % batch != 1:
        assert all(np.array_equal(*pair) for pair in zip(plain, found, strict=True))
        return
    assert min(len(rows) for rows in found) > 1
    per_epoch = size // batch
    assert len(found) == (steps or epochs * per_epoch)
    assert sorted(np.concatenate(found[:per_epoch])) == list(range(size)) or steps < per_epoch
    assert all(np.array_equal(*pair) for pair in zip(plain[: per_epoch - 1], found, strict=False))


def test_a_model_with_batch_normalisation_trains_on_any_number_of_rows() -> None:
    def trained(size: int) -> tuple[int, Tensor]:
        torch.manual_seed(0)
        data = Examples(torch.randn(size, 2), torch.randint(0, 2, (size,)))
        model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
        table = TrainingTable(batch_size=4)
        outcome = train_on_batches(model, data, Classes(), Config(training=table), (1, 1, "a"))
        return outcome.steps, model[1].num_batches_tracked

    for size, steps in ((8, 2), (9, 2), (10, 3), (5, 1), (2, 1)):
        assert trained(size) == (steps, steps)
    with pytest.raises(TaskError, match="batch normalisation needs more than one row in a step"):
        trained(1)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd"},
        {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1},
        {"optimizer": "adam"},
        {"optimizer": "adamw", "weight_decay": 0.1},
    ],
)
def test_it_is_torchs_optimiser_bit_for_bit(options, line) -> None:
    torch.manual_seed(0)
    data = Examples(torch.randn(23, 4), torch.randn(23))
    table = TrainingTable(lr=0.05, batch_size=5, local_epochs=3, **options)
    task = line(features=4)
    ours, theirs = nn.Linear(4, 1, bias=False), nn.Linear(4, 1, bias=False)
    theirs.load_state_dict(ours.state_dict())
    train_on_batches(ours, data, task, Config(training=table), (7, 2, "a"))
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    extra = {k: v for k, v in options.items() if k != "optimizer"}
    optimizer = kinds[options["optimizer"]](theirs.parameters(), lr=0.05, **extra)
    for rows in batches(23, table, client_keys(7, "batches", 2, ["a"])):
        optimizer.zero_grad()
        task.loss(theirs(data.inputs[rows]), data.targets[rows]).mean().backward()
        optimizer.step()
    assert torch.equal(ours.weight, theirs.weight)


def test_the_learning_rate_decays_per_round_and_gradients_are_clipped(line) -> None:
    data = Examples(torch.full((4, 1), 100.0), torch.zeros(4))
    table = TrainingTable(lr=0.5, lr_decay=0.5, batch_size=4, max_grad_norm=1.0)
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    outcome = train_on_batches(model, data, line(), Config(training=table), (1, 3, "a"))
    assert outcome.lr == pytest.approx(0.5 * 0.25)
    assert model.weight.item() == pytest.approx(1.0 - 0.125, rel=1e-5)


def test_dropout_repeats_for_a_round_and_leaves_the_global_generator_alone(line) -> None:
    data = Examples(torch.ones(40, 4), torch.ones(40))

    def run(server_round: int) -> torch.Tensor:
        model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1, bias=False))
        nn.init.constant_(model[1].weight, 0.0)
        train_on_batches(model, data, line(features=4), Config(), (1, server_round, "a"))
        return model[1].weight.detach().clone()

    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = run(1)
    torch.rand(3)
    assert torch.equal(first, run(1)) and not torch.equal(first, run(2))
    torch.manual_seed(1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_loss_that_is_not_per_example_is_named(line) -> None:
    class Mean(line):
        def loss(self, outputs, targets):
            return super().loss(outputs, targets).mean()

    with pytest.raises(TaskError, match=r"Mean.loss returned shape \(\) for a batch of 4"):
        train_on_batches(
            nn.Linear(1, 1),
            Examples(torch.ones(4, 1), torch.ones(4)),
            Mean(),
            Config(),
            (1, 1, "a"),
        )


def test_make_optimizer_knows_all_configured_kinds() -> None:
    parameters = [nn.Parameter(torch.ones(1))]
    for kind in ("sgd", "adam", "adamw"):
        make_optimizer(parameters, TrainingTable(optimizer=kind), 0.1).step()
