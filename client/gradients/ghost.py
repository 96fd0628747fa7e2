"""Book-keeping: one forward, one backward, then norms and clipped sums layer by layer.

Bu et al. 2023 (2210.00038). ``tape.py`` records, ``per_layer.py`` and ``convolutions.py``
calculate.

A plain backward gives only the sum of all gradients, and U gradients of all parameters are large.
But a linear layer's gradient of one unit is sum_t b_t a_t^T over its positions, of inputs a_t and
output gradients b_t, so

    |sum_t b_t a_t^T|^2 = sum_{s,t} <a_s, a_t> <b_s, b_t>          (the ghost norm)

needs neither, and the clipped sum over units is one product of (factor b) and a: no second
backward.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from wardround.client.gradients.base import (
    Batch,
    ClippedSum,
    Context,
    Loss,
    UnitGradients,
    Unsupported,
    clip_factors,
)
from wardround.client.gradients.convolutions import conv_gradients
from wardround.client.gradients.groups import Groups
from wardround.client.gradients.per_layer import (
    EmbeddingGradients,
    LayerGradients,
    linear_gradients,
    scale_gradients,
    trainable,
)
from wardround.client.gradients.tape import Tape, Use

Rule = Callable[[Any, list[Use], Groups], LayerGradients]

RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: linear_gradients,
    nn.Conv1d: conv_gradients,
    nn.Conv2d: conv_gradients,
    nn.LayerNorm: scale_gradients,
    nn.RMSNorm: scale_gradients,
    nn.GroupNorm: scale_gradients,
    nn.InstanceNorm1d: scale_gradients,
    nn.InstanceNorm2d: scale_gradients,
    nn.InstanceNorm3d: scale_gradients,
    nn.Embedding: EmbeddingGradients,
}
"""By exact type: a subclass may compute something else."""


def unsupported(model: nn.Module) -> str | None:
    """Why book-keeping can't do this model, naming the module; None if it can."""
    owners: dict[nn.Parameter, str] = {}
    for path, module in model.named_modules():
        names = trainable(module)
        where = f"{path or 'the model'} ({type(module).__name__})"
        if names and (type(module) not in RULES or "forward" in vars(module)):
            return f"{where} has no book-keeping form"
        if not names <= {"weight", "bias"}:
            return f"{where} owns parameters other than weight and bias"
        for name in names:
            owner = owners.setdefault(module._parameters[name], where)
            if owner != where:
                return f"{where} shares its {name} with {owner}"
    return None


class BookKeeping(UnitGradients):
    """``UnitGradients`` by book-keeping.

    Raises Unsupported, from the constructor or the first call, for a model it can't do.
    """

    form = "bookkeeping"
    together = True

    def __init__(self, model: nn.Module, loss: Loss, context: Context = nullcontext) -> None:
        super().__init__(model, loss, context)
        reason = unsupported(model)
        if reason is not None:
            raise Unsupported(reason)
        self._layers = {module: path for path, module in model.named_modules() if trainable(module)}
        self._names = {p: name for name, p in self.parameters}
        self._checked: set[tuple[int, ...]] = set()

    def _clipped_sum(self, batch: Batch) -> ClippedSum:
        size = len(batch.targets)
        tape = Tape(self._layers, size)
        losses = tape.run(self.model, self.loss, batch.inputs, batch.targets, self.context)
        # how often each layer was called tells one way through the model from another: to walk the
        # graph once for each of them is enough
        pattern = tuple(len(uses) for uses in tape.uses.values())
        if pattern not in self._checked:
            tape.check_parameters(losses, self._names)
            self._checked.add(pattern)
        tape.backward(losses)
        with torch.no_grad():
            groups = Groups(batch.units, size, batch.count)
            return self._finish(tape, losses.detach(), groups, batch)

    def _finish(self, tape: Tape, losses: Tensor, groups: Groups, batch: Batch) -> ClippedSum:
        found: list[LayerGradients | None] = []
        for module, uses in tape.uses.items():
            found.append(RULES[type(module)](module, uses, groups) if uses else None)
        none = losses.new_zeros(groups.count)
        squares = [none if one is None else one.squares for one in found]
        factors = clip_factors(squares, batch.clipping, batch.only)
        by_layer = factors.by_layer * (1 if batch.clipping.per_layer else len(found))
        sums: dict[str, Tensor] = {}
        for path, one, factor in zip(self._layers.values(), found, by_layer, strict=True):
            if one is not None:
                for name, value in one.weighted(factor, factors.finite).items():
                    sums[f"{path}.{name}" if path else name] = value
        gradients = [
            sums[name].reshape(p.shape) if name in sums else torch.zeros_like(p)
            for name, p in self.parameters
        ]
        return ClippedSum(gradients, factors.norms, losses, factors.dropped)
