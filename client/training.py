"""Local training: K steps of an optimiser on one hospital's examples.

Batches are drawn by a key of (run seed, round, hospital), dropout from a generator of the same, so
a round that is repeated gives the same update.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.client.algorithms import LocalAlgorithm
from wardround.common.config import Config
from wardround.common.config_tables import TrainingTable
from wardround.common.errors import TaskError
from wardround.common.rng import client_keys, orders, seeded_globals
from wardround.common.tasks.base import Examples, Task

Seed = tuple[int, int, str]
"""Run seed, round, hospital."""


@dataclass(frozen=True)
class TrainingOutcome:
    """``loss``: mean over steps of the batch's mean loss, before each step; NaN if private."""

    steps: int
    lr: float
    loss: float


def steps_of(size: int, training: TrainingTable) -> int:
    """How many steps a client with ``size`` examples makes in a round."""
    return training.local_steps or training.local_epochs * -(-size // training.batch_size)


def batches(
    size: int, training: TrainingTable, keys: NDArray[np.uint64]
) -> Iterator[NDArray[np.int64]]:
    """Positions of each batch: shuffled epochs, the last batch of an epoch may be smaller.

    ``local_steps`` batches if set (starting new epochs as needed), else ``local_epochs`` epochs.

    keys : one, of this client's order in this round (``common.rng.client_keys``)
    """
    per_epoch = -(-size // training.batch_size)
    order = np.empty(0, dtype=np.int64)
    for step in range(steps_of(size, training)):
        position = step % per_epoch
        if position == 0:
            (order,) = orders(keys, size, step // per_epoch)
        yield order[position * training.batch_size : (position + 1) * training.batch_size]


class Stepper(Protocol):
    """What training needs of an optimiser."""

    def step(self) -> Any:
        """Move the parameters by their gradients."""


class PlainSGD:
    """p <- p - lr g, exactly torch's SGD without momentum or decay, but free to construct.

    A simulation makes one optimiser per client and round; torch's costs more than five small steps.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float) -> None:
        self._parameters, self._lr = parameters, lr

    @torch.no_grad()
    def step(self) -> None:
        moved = [(p, p.grad) for p in self._parameters if p.grad is not None]
        if moved:
            torch._foreach_add_([p for p, _ in moved], [g for _, g in moved], alpha=-self._lr)


def make_optimizer(parameters: list[nn.Parameter], training: TrainingTable, lr: float) -> Stepper:
    """The configured optimiser, with fresh state."""
    if training.optimizer == "sgd" and not training.momentum and not training.weight_decay:
        return PlainSGD(parameters, lr)
    if training.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=lr, momentum=training.momentum, weight_decay=training.weight_decay
        )
    kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr=lr, weight_decay=training.weight_decay)


class BatchGradients:
    """Gradients of a batch's mean loss: iterating sets ``.grad`` and gives the loss of each batch.

    Raises TaskError if the task's loss isn't one value per example.
    """

    def __init__(
        self,
        model: nn.Module,
        examples: Examples,
        task: Task[Any],
        training: TrainingTable,
        keys: NDArray[np.uint64],
    ) -> None:
        self._model, self._examples, self._task = model, examples, task
        self._training, self._keys = training, keys

    def __iter__(self) -> Iterator[Tensor]:
        parameters = [p for p in self._model.parameters() if p.requires_grad]
        device = self._training.device
        for rows in batches(len(self._examples), self._training, self._keys):
            index = torch.from_numpy(rows)
            inputs = self._examples.inputs.index_select(0, index).to(device)
            targets = self._examples.targets.index_select(0, index).to(device)
            losses = self._task.loss(self._model(inputs), targets)
            if losses.shape != (len(rows),):
                raise TaskError(
                    f"{type(self._task).__name__}.loss returned shape {tuple(losses.shape)} for a "
                    f"batch of {len(rows)}; return one loss per example"
                )
            loss = losses.mean()
            for p in parameters:
                p.grad = None
            loss.backward()  # type: ignore[no-untyped-call]
            yield loss.detach()


def train_model(
    model: nn.Module,
    gradients: Iterable[Tensor],
    config: Config,
    seed: Seed,
    algorithm: LocalAlgorithm | None = None,
) -> TrainingOutcome:
    """Train ``model`` in place: one step of the optimiser for each of ``gradients``."""
    run_seed, server_round, name = seed
    training, lr = config.training, config.lr_of(server_round)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer(parameters, training, lr)
    total, steps = torch.zeros((), device=training.device), 0
    model.train()
    with seeded_globals(run_seed, "training", server_round, name):
        for loss in gradients:
            if algorithm is not None:
                algorithm.adjust_gradients()
            if training.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(parameters, training.max_grad_norm)
            optimizer.step()
            total += loss
            steps += 1
    return TrainingOutcome(steps, lr, float(total) / max(1, steps))


def train_on_batches(
    model: nn.Module,
    examples: Examples,
    task: Task[Any],
    config: Config,
    seed: Seed,
    algorithm: LocalAlgorithm | None = None,
) -> TrainingOutcome:
    """Ordinary local training, in place. Raises TaskError for a loss of the wrong shape."""
    run_seed, server_round, name = seed
    keys = client_keys(run_seed, "batches", server_round, [name])
    gradients = BatchGradients(model, examples, task, config.training, keys)
    return train_model(model, gradients, config, seed, algorithm)
