"""The general form: ``torch.func``'s vmap of grad, for any model that has no state of its own.

Each client's parameters are one slice of a stacked tensor; a step of all of them is one vectorised
call. What can't be vectorised so (running statistics, control flow that depends on data, random
numbers drawn inside) is refused as ``Unsuited`` with the reason, and trains one client at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from wardround.common.tasks.base import Task
from wardround.common.text import one_line
from wardround.simulations.executors.engines.base import (
    CohortResult,
    CohortWork,
    Engine,
    Need,
    StackedResult,
    Unsuited,
    rows_of,
)
from wardround.simulations.executors.engines.dropout import Masks, random_module, with_given_masks
from wardround.simulations.executors.engines.optimizers import clip_each, make_stacked

Step = Callable[..., tuple[dict[str, Tensor], Tensor]]


def check_vectorisable(model: nn.Module, task: Task[Any]) -> None:
    """Raise Unsuited, with the reason, for what no form of a cohort can train."""
    if task.coupled_examples:
        raise Unsuited("the loss of an example depends on others of its batch")
    for module in model.modules():
        if isinstance(module, _BatchNorm):  # empty slots of a smaller batch would be in them
            raise Unsuited(f"{type(module).__name__} takes its statistics from the whole batch")
    if task.low_rank(model) is not None:
        raise Unsuited("low-rank factors are combined client by client")
    if name := random_module(model):
        raise Unsuited(f"{name} draws random numbers inside the model")
    if len(list(model.named_parameters(remove_duplicate=False))) > len(list(model.parameters())):
        raise Unsuited("a parameter is shared between layers")


class Vmapped(Engine):
    """vmap of grad over clients.

    Parameters
    ----------
    model : the task's; copied
    compiled : whether ``torch.compile`` makes one kernel of a step; ``note`` says where it can't
    """

    name = "vmap"

    def __init__(self, model: nn.Module, task: Task[Any], compiled: bool = False) -> None:
        check_vectorisable(model, task)
        self._task = task
        self._model = with_given_masks(model)
        for parameter in self._model.parameters():
            parameter.requires_grad_(False)
        self._masks: Masks | None = None
        self._knows_buffers = False
        self._eager: Step = vmap(grad_and_value(self._loss), in_dims=(0, None, 0, 0, 0, 0))
        self._compiled: Step | None = None
        if compiled:
            # one kernel for all sizes: fewer clients train towards the end of a round
            self._compiled = torch.compile(self._eager, dynamic=True)

    def client_bytes(self, need: Need) -> int:
        # parameters, gradients, optimiser state; activations are guessed at ten inputs each
        return 4 * (5 * need.parameters + 10 * need.example_numbers * need.slots)

    def train(self, work: CohortWork) -> CohortResult:
        # a forward pass that writes into a buffer would write one client's into all: seen once
        if self._knows_buffers:
            return self._train(work)
        before = {name: value.clone() for name, value in work.fixed.items()}
        result = self._train(work)
        for name, value in before.items():
            if not torch.equal(value, work.fixed[name]):
                work.fixed[name].copy_(value)
                raise Unsuited(f"the forward pass changes '{name}'")
        self._knows_buffers = True
        return result

    @torch.no_grad()
    def _train(self, work: CohortWork) -> CohortResult:
        batches, count = work.batches, work.clients
        parameters = {
            name: x.clone() if name in work.own else x.expand(count, *x.shape).clone()
            for name, x in work.start.items()
        }
        optimizer = make_stacked(work.training, work.lr, list(parameters.values()))
        masks, generators = self._draws(work)
        losses = torch.zeros(count, device=work.inputs.device)
        for step in range(batches.most_steps):
            active = batches.active(step)
            rows = batches.rows[step, :active].to(work.inputs.device)
            given = masks.draw(
                generators[:active], batches.sizes[step, :active].tolist(), rows.shape[1]
            )
            now = {name: value[:active] for name, value in parameters.items()}
            gradients, values = self._gradients(
                now,
                {name: mask.to(work.inputs.device) for name, mask in given.items()},
                work.fixed,
                rows_of(work.inputs, rows),
                rows_of(work.targets, rows),
                batches.weights[step, :active].to(work.inputs.device),
            )
            correct(gradients, now, work, active)
            ordered = [gradients[name] for name in now]
            if work.training.max_grad_norm is not None:
                clip_each(ordered, work.training.max_grad_norm)
            optimizer.step(list(now.values()), ordered)
            losses[:active] += values
        steps = torch.from_numpy(batches.steps).to(losses.device)
        return StackedResult(work.start, parameters, losses / steps)

    def _draws(self, work: CohortWork) -> tuple[Masks, list[torch.Generator]]:
        if self._masks is None:
            try:
                self._masks = Masks(self._model, work.inputs[:1])
            except ValueError as error:
                raise Unsuited(str(error)) from None
        if not self._masks:
            return self._masks, []
        return self._masks, [torch.Generator().manual_seed(seed) for seed in work.seeds()]

    def _gradients(
        self,
        parameters: dict[str, Tensor],
        masks: dict[str, Tensor],
        fixed: dict[str, Tensor],
        inputs: Tensor,
        targets: Tensor,
        weights: Tensor,
    ) -> tuple[dict[str, Tensor], Tensor]:
        arguments = (parameters, fixed, masks, inputs, targets, weights)
        if self._compiled is not None:
            try:
                return self._compiled(*arguments)
            except Exception as error:  # no compiler, or a model that it doesn't know
                self.note = f"not compiled: {one_line(str(error), 120)}"
                self._compiled = None
        try:
            return self._eager(*arguments)
        except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
            raise Unsuited(f"vmap: {one_line(str(error), 120)}") from error

    def _loss(
        self,
        parameters: dict[str, Tensor],
        fixed: dict[str, Tensor],
        masks: dict[str, Tensor],
        inputs: Tensor,
        targets: Tensor,
        weights: Tensor,
    ) -> Tensor:
        """One client's: its batch's mean loss. vmap maps it over parameters, masks, inputs, targets
        and weights; ``fixed`` is one for all."""
        outputs = functional_call(self._model, {**fixed, **parameters, **masks}, (inputs,))
        losses = self._task.loss(outputs, targets)
        if losses.shape != weights.shape:
            raise Unsuited("the task's loss isn't one number per example")
        return (losses * weights).sum()


def correct(
    gradients: dict[str, Tensor], parameters: dict[str, Tensor], work: CohortWork, active: int
) -> None:
    """Add the strategy's terms to the gradients of the first ``active`` clients, in place:
    proximal (y - x) + shift. Before clipping and the optimiser, as in ``client/training``."""
    if work.proximal:
        for name in work.shared:
            start = work.start[name]
            start = start[:active] if name in work.own else start
            gradients[name].add_(parameters[name] - start, alpha=work.proximal)
    for name, shift in work.shift.items():
        gradients[name].add_(shift[:active])
