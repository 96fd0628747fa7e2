"""Local training: K steps of an optimiser on one hospital's examples.

Batches are drawn by a key of (run seed, round, hospital), dropout from a generator of the same, so
a round that is repeated gives the same update.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from wardround.client.training.activation_checkpointing import recomputing
from wardround.client.training.batches import Drawn, least_rows, on_device
from wardround.client.training.channels_last import channels_last
from wardround.client.training.compiling import Compiled
from wardround.client.training.contrast import Contrast
from wardround.client.training.distillation import Teacher
from wardround.client.training.objective import Objective
from wardround.client.training.pieces import Pieces, obstacle
from wardround.client.training.precision import make_scaler
from wardround.client.training.resting import resting
from wardround.common.config.load import Config
from wardround.common.errors import TaskError
from wardround.common.rng import client_keys, seeded_globals
from wardround.common.settings import TrainingTable
from wardround.common.tasks.base import Examples, Task

Seed = tuple[int, int, str]
"""Run seed, round, hospital."""
Scaler = torch.amp.GradScaler | None
_ONE_VALUE = "Expected more than 1 value per channel"
"""How torch refuses batch normalisation of one value."""


@dataclass(frozen=True)
class TrainingOutcome:
    """What a round of local steps was.

    steps : that were taken, also where a scaler left one out
    lr : the learning rate of the round, which a strategy may divide by
    loss : mean over steps of the batch's mean loss, before each step; NaN if private
    """

    steps: int
    lr: float
    loss: float


class Stepper(Protocol):
    """What training needs of an optimiser."""

    def step(self) -> Any:
        """Move the parameters by their gradients."""


class Adjusting(Protocol):
    """What training needs of a strategy's client side."""

    def adjust_gradients(self) -> None:
        """Change gradients in place, after backward and before the step."""


class PlainSGD:
    """p <- p - lr g, exactly torch's SGD without momentum or decay, but free to construct.

    A simulation makes one optimiser per client and round; torch's costs more than five small steps.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float) -> None:
        self._parameters, self._lr = parameters, lr
        self.param_groups = [{"params": parameters}]  # a gradient scaler looks here

    @torch.no_grad()
    def step(self) -> None:
        moved = [(p, p.grad) for p in self._parameters if p.grad is not None]
        if moved:
            torch._foreach_add_([p for p, _ in moved], [g for _, g in moved], alpha=-self._lr)


def make_optimizer(parameters: list[nn.Parameter], training: TrainingTable, lr: float) -> Stepper:
    """The configured optimiser, with fresh state: moments of a round would be of a model that is
    not this one's (and would have to stay at the hospital)."""
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

    A batch that goes through the model in pieces gives the same gradient: each piece's summed loss
    over the size of the whole batch, added up.

    scaler : multiplies the loss, and so the gradients, for whoever takes the step to undo

    Raises TaskError for a loss that isn't one value per example, for pieces where a batch's
    gradient isn't a sum over examples, and for batch normalisation of a single row.
    """

    def __init__(
        self,
        model: nn.Module,
        drawn: Drawn,
        objective: Objective,
        *,
        obstacle: Callable[[], str] = lambda: "",
        scaler: Scaler = None,
    ) -> None:
        self._model, self._drawn, self._objective = model, drawn, objective
        self._obstacle, self._scaler = obstacle, scaler
        self._parameters = [p for p in model.parameters() if p.requires_grad]

    def __iter__(self) -> Iterator[Tensor]:
        training, size = self._drawn.training, len(self._drawn.examples)
        most = training.micro_batch_size or training.batch_size
        why = self._obstacle()
        if why and most < min(training.batch_size, size):
            raise TaskError(f"training.micro_batch_size can't be used here: {why}")
        least = least_rows(self._model)
        most = max(most, training.batch_size + least - 1) if why else most  # a batch is whole
        pieces = Pieces(self._model, "training", most, training.device, why)
        rows = self._drawn.rows(least)
        for inputs, targets in on_device(self._drawn.examples, rows, training.device):

            def step(most: int, inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
                return self._step(inputs, targets, most)

            try:
                loss = pieces.run(len(targets), step)
            except ValueError as error:
                if len(targets) == 1 and str(error).startswith(_ONE_VALUE):
                    raise TaskError(
                        "batch normalisation needs more than one row in a step; set "
                        "task.model.norm to 'layer' (tabular) or 'group' (imaging), or raise "
                        "training.batch_size where it is 1"
                    ) from None
                raise
            yield loss

    def _step(self, inputs: Tensor, targets: Tensor, most: int) -> Tensor:
        """One batch's gradient, ``most`` examples at a time; its mean loss, a scalar without graph.

        Pieces: d/dp (1/B sum_i l_i) = sum over pieces of d/dp (1/B sum of the piece's l_i), and
        ``backward`` adds up. Dividing by a piece's own size would weigh a small last one too much.
        """
        for p in self._parameters:
            p.grad = None
        size = len(targets)
        if most >= size:
            loss = self._objective(inputs, targets).mean()
            self._backward(loss)
            return loss.detach()
        total = torch.zeros((), device=inputs.device)
        for start in range(0, size, most):
            piece = slice(start, start + most)
            loss = self._objective(inputs[piece], targets[piece]).sum() / size
            self._backward(loss)
            total += loss.detach()
        return total

    def _backward(self, loss: Tensor) -> None:
        loss = loss if self._scaler is None else self._scaler.scale(loss)
        loss.backward()  # type: ignore[no-untyped-call]


def train_model(
    model: nn.Module,
    gradients: Iterable[Tensor],
    config: Config,
    seed: Seed,
    algorithm: Adjusting | None = None,
    scaler: Scaler = None,
) -> TrainingOutcome:
    """Train ``model`` in place: one step of the optimiser for each of ``gradients``.

    The order of a step: backward (in ``gradients``), unscale, the strategy's terms, clipping by
    ``training.max_grad_norm``, then the optimiser. So what is clipped is the norm of all terms.

    seed : run seed, round, hospital: of dropout and whatever else draws from torch's generator
    scaler : what ``gradients`` are scaled by; a step that overflows counts, and moves nothing
    """
    run_seed, server_round, name = seed
    training, lr = config.training, config.lr_of(server_round)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer(parameters, training, lr)
    total, steps = torch.zeros((), device=training.device), 0
    model.train()
    with seeded_globals(run_seed, "training", server_round, name):
        for loss in gradients:
            if scaler is not None:  # before anything else looks at the gradients
                scaler.unscale_(cast(torch.optim.Optimizer, optimizer))
            if algorithm is not None:
                algorithm.adjust_gradients()
            if training.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(parameters, training.max_grad_norm)
            if scaler is None:
                optimizer.step()
            else:
                scaler.step(cast(torch.optim.Optimizer, optimizer))
                scaler.update()
            total += loss
            steps += 1
    return TrainingOutcome(steps, lr, float(total) / max(1, steps))


def gradients_of(
    model: nn.Module,
    examples: Examples,
    task: Task[Any],
    config: Config,
    seed: Seed,
    scaler: Scaler = None,
    contrast: Contrast | None = None,
) -> BatchGradients:
    """Those of ordinary local training, in the order that round and hospital give the batches.

    contrast : of the model (``contrast.py``)
    """
    training, (run_seed, server_round, name) = config.training, seed
    keys = client_keys(run_seed, "batches", server_round, [name])
    teacher = Teacher(model, training) if training.distillation else None
    forward = Compiled(model) if training.compile else model
    objective = Objective(
        forward, task, training, teacher, taught=config.teacher, contrast=contrast
    )
    return BatchGradients(
        model,
        Drawn(examples, training, keys),
        objective,
        obstacle=lambda: obstacle(model, task),
        scaler=scaler,
    )


def train_on_batches(
    model: nn.Module,
    examples: Examples,
    task: Task[Any],
    config: Config,
    seed: Seed,
    algorithm: Adjusting | None = None,
    contrast: Contrast | None = None,
) -> TrainingOutcome:
    """Ordinary local training, in place.

    examples : with ``[teacher]`` they have its outputs beside their targets
        (``Hospital.training_examples``)
    contrast : a strategy's term of the loss

    Raises TaskError for a task or model that can't be trained as configured.
    """
    training = config.training
    scaler = make_scaler(training)
    gradients = gradients_of(model, examples, task, config, seed, scaler, contrast)
    recomputed = recomputing(model) if training.checkpoint_activations else nullcontext()
    with recomputed, resting(model, task, seed[1]), channels_last(model, training.device):
        outcome = train_model(model, gradients, config, seed, algorithm, scaler)
    if training.precision == "bf16" and not math.isfinite(outcome.loss):
        raise TaskError(
            "the training loss is not a finite number with training.precision = 'bf16'; set it to "
            "'float32', or lower training.lr"
        )
    return outcome
