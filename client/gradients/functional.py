"""The slower forms, for models that book-keeping can't do.

``Functional`` forms each example's gradient by ``vmap`` of ``grad``, for any model that ``vmap``
can transform: parameters of one's own, shared parameters, nn.MultiheadAttention. ``Loop`` takes
one unit after the other by ordinary autograd, for all others (nn.LSTM, control flow by value).
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from wardround.client.gradients.base import (
    Batch,
    ClippedSum,
    Inputs,
    UnitGradients,
    clip_factors,
    losses_of,
    select,
)
from wardround.client.gradients.per_layer import MOST_FLOATS, weighted_sum


class _InParts(UnitGradients):
    """Forms that go through the units in parts and add the parts' clipped sums up."""

    def _squares(self, gradients: list[Tensor]) -> list[Tensor]:
        """U for each layer, from U x ... for each parameter."""
        squares: list[Tensor | None] = [None] * self.layers
        for layer, gradient in zip(self.layer_of, gradients, strict=True):
            flat = gradient.flatten(1)
            square, before = torch.linalg.vecdot(flat, flat), squares[layer]
            squares[layer] = square if before is None else before + square
        return [square for square in squares if square is not None]

    def _clip(self, gradients: list[Tensor], batch: Batch, units: Tensor) -> ClippedSum:
        """The clipped sum of gradients of these units, U x ... for each parameter; losses are left
        out."""
        only = None if batch.only is None else batch.only[units]
        factors = clip_factors(self._squares(gradients), batch.clipping, only)
        by_layer = factors.by_layer * (1 if batch.clipping.per_layer else self.layers)
        sums = [
            weighted_sum(gradient, by_layer[layer], factors.finite)
            for layer, gradient in zip(self.layer_of, gradients, strict=True)
        ]
        return ClippedSum(sums, factors.norms, factors.norms.new_zeros(0), factors.dropped)

    def _parts(self, units: Tensor | None, size: int, most: int) -> Iterator[Tensor]:
        """Rows of the examples of at most ``most`` units at a time, in order of units: a unit is
        never in two parts, for its examples' gradients are added before it is clipped."""
        numbers = torch.arange(size) if units is None else units.cpu()
        order = torch.argsort(numbers, stable=True)
        part = numbers[order] // max(1, most)
        _, sizes = torch.unique_consecutive(part, return_counts=True)
        yield from torch.split(order, sizes.tolist())


class ByExample(_InParts):
    """Forms that make each example's gradients, with at most 256 MiB of them at a time."""

    def _clipped_sum(self, batch: Batch) -> ClippedSum:
        targets, units = batch.targets, batch.units
        total = [torch.zeros_like(p, requires_grad=False) for _, p in self.parameters]
        norms, losses = total[0].new_zeros(batch.count), total[0].new_zeros(len(targets))
        dropped = 0
        # units at a time, and examples of them at a time: both kinds of gradients are formed
        most = max(1, MOST_FLOATS // sum(p.numel() for _, p in self.parameters))
        for rows in self._parts(units, len(targets), most):
            rows = rows.to(targets.device)
            owners = rows if units is None else units[rows]
            found, place = torch.unique(owners, return_inverse=True)
            gradients = []
            if len(found) < len(rows) or len(rows) > most:
                gradients = [p.new_zeros(len(found), *p.shape) for p in total]
            for chunk, unit in zip(torch.split(rows, most), torch.split(place, most), strict=True):
                each, values = self._each(select(batch.inputs, chunk), targets[chunk])
                losses[chunk] = values.detach()
                if not gradients:  # each example is a unit, and stands where its unit does
                    gradients = each
                    break
                for gradient, one in zip(gradients, each, strict=True):
                    gradient.index_add_(0, unit, one)
            part = self._clip(gradients, batch, found)
            norms[found] = part.norms
            dropped += part.dropped
            for sum_, one in zip(total, part.gradients, strict=True):
                sum_ += one
        return ClippedSum(total, norms, losses, dropped)

    @abstractmethod
    def _each(self, inputs: Inputs, targets: Tensor) -> tuple[list[Tensor], Tensor]:
        """Each example's gradients, B x ... for each parameter, and the losses, B."""


class Functional(ByExample):
    """``UnitGradients`` by ``vmap`` of ``grad``."""

    form = "functional"

    def _each(self, inputs: Inputs, targets: Tensor) -> tuple[list[Tensor], Tensor]:
        trained = {name: p.detach() for name, p in self.parameters}
        fixed = {
            name: value.detach()
            for name, value in [*self.model.named_parameters(), *self.model.named_buffers()]
            if name not in trained
        }

        def loss(parameters: dict[str, Tensor], inputs: Inputs, target: Tensor) -> Tensor:
            def model(*args: Tensor, **kwargs: Tensor) -> Tensor:
                state = {**fixed, **parameters}
                return functional_call(self.model, state, args, kwargs)  # type: ignore[no-any-return]

            return losses_of(model, self.loss, select_one(inputs), target[None], self.context)[0]

        # randomness: each example draws dropout of its own, as it would in a plain batch
        each = vmap(grad_and_value(loss), in_dims=(None, 0, 0), randomness="different")
        # Fused attention has no vmap rule: it would run example by example, with a warning.
        # Its decomposed backward meets both types under autocast, unless it is within it as well.
        with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings(), self.context():
            warnings.filterwarnings("ignore", "There is a performance drop")
            gradients, losses = each(trained, inputs, targets)
        return [gradients[name] for name, _ in self.parameters], losses


def select_one(inputs: Inputs) -> Inputs:
    """One example as a batch of one."""
    if isinstance(inputs, dict):
        return {name: value[None] for name, value in inputs.items()}
    return tuple(value[None] for value in inputs) if isinstance(inputs, tuple) else inputs[None]


class Loop(_InParts):
    """``UnitGradients`` by one ordinary backward per unit."""

    form = "loop"

    def _clipped_sum(self, batch: Batch) -> ClippedSum:
        targets, units = batch.targets, batch.units
        parameters: list[nn.Parameter] = [p for _, p in self.parameters]
        total = [torch.zeros_like(p, requires_grad=False) for p in parameters]
        norms, losses = total[0].new_zeros(batch.count), total[0].new_zeros(len(targets))
        dropped = 0
        for rows in self._parts(units, len(targets), 1):
            rows = rows.to(targets.device)
            unit = rows[0] if units is None else units[rows[0]]
            with torch.enable_grad():
                one = select(batch.inputs, rows)
                values = losses_of(self.model, self.loss, one, targets[rows], self.context)
                found = torch.autograd.grad(
                    values, parameters, torch.ones_like(values), allow_unused=True
                )
            losses[rows] = values.detach()
            gradients = [
                (torch.zeros_like(p) if one is None else one).detach()[None]
                for p, one in zip(parameters, found, strict=True)
            ]
            part = self._clip(gradients, batch, unit[None])
            norms[unit] = part.norms[0]
            dropped += part.dropped
            for sum_, one in zip(total, part.gradients, strict=True):
                sum_ += one.detach()
        return ClippedSum(total, norms, losses, dropped)
