"""Per-unit clipping with one forward and one backward pass (Bu et al. 2023, 2210.00038).

Hooks keep every layer's input and the edge of the graph at its output; one call of autograd gives
the gradients at these edges (and computes no weight gradient). Edges, not tensors, because an
activation may overwrite a layer's output in place.

What hooks can't see (a parameter used outside its module, a batch that isn't the first dimension)
is found by ``engine.py``, which compares with autograd, unit by unit, before a form is trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from wardround.client.gradients.layers import Piece, formed, rule_for
from wardround.client.gradients.units import ClippedSum, Clipping, Grouping, factors


class NotSeen(Exception):
    """Book-keeping can't follow what this model does."""


@dataclass(frozen=True)
class _Use:
    """One call of a layer in a forward pass."""

    module: nn.Module
    inputs: Tensor
    version: int
    edge: GradientEdge


def owners(model: nn.Module) -> dict[nn.Module, str]:
    """Modules with trainable parameters of their own, and their paths."""
    return {
        module: path
        for path, module in model.named_modules()
        if any(p.requires_grad for p in module.parameters(recurse=False))
    }


def supports(model: nn.Module) -> bool:
    """Whether every trainable parameter is in a layer with a rule."""
    return all(rule_for(module) is not None for module in owners(model))


def clipped_sum(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    parameters: list[tuple[str, nn.Parameter]],
    inputs: Any,
    targets: Tensor,
    grouping: Grouping,
    clipping: Clipping,
) -> ClippedSum:
    """See ``UnitGradients.clipped_sum``. Raises NotSeen where the hooks miss something."""
    uses: list[_Use] = []
    with torch.enable_grad(), _hooks(model, uses):
        losses = loss(model(inputs), targets)
        total = losses.sum()
    trained = [p for _, p in parameters]
    found = torch.autograd.grad(total, [use.edge for use in uses], allow_unused=True)
    if any(g is None or len(g) != len(losses) for g in found):
        raise NotSeen("a layer's first dimension isn't the batch")
    with torch.no_grad():
        gradients = list(found)
        result = _clip(trained, _pieces(uses, gradients, grouping), grouping, clipping)
        if result.dropped:  # 0 times NaN is NaN: take the rows out and do it again
            keep = grouping.spread(torch.isfinite(result.norms))
            clean = [_without(use, keep) for use in uses]
            gradients = [_masked(g, keep) for g in gradients]
            again = _clip(trained, _pieces(clean, gradients, grouping), grouping, clipping)
            result = ClippedSum(again.gradients, result.norms, losses, result.dropped)
        return ClippedSum(result.gradients, result.norms, losses.detach(), result.dropped)


@contextmanager
def _hooks(model: nn.Module, uses: list[_Use]) -> Iterator[None]:
    def keep(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if not args or not isinstance(output, Tensor):
            raise NotSeen("a layer is called with keywords")
        inputs = args[0]
        uses.append(_Use(module, inputs.detach(), inputs._version, get_gradient_edge(output)))

    handles = [module.register_forward_hook(keep) for module in owners(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _pieces(
    uses: list[_Use], gradients: list[Tensor], grouping: Grouping
) -> dict[int, tuple[int, Piece]]:
    """By parameter: the module that it is clipped with (first user), and its gradients."""
    pieces: dict[int, tuple[int, Piece]] = {}
    for use, gradient in zip(uses, gradients, strict=True):
        if use.inputs._version != use.version:
            raise NotSeen("a layer's input is overwritten later")
        rule = rule_for(use.module)
        assert rule is not None  # supports() was asked
        for name, piece in rule(use.module, use.inputs, gradient, grouping).items():
            key = id(getattr(use.module, name))
            if key in pieces:
                owner, before = pieces[key]
                pieces[key] = owner, _both(before, piece, grouping.count)
            else:
                pieces[key] = id(use.module), piece
    return pieces


def _both(one: Piece, other: Piece, count: int) -> Piece:
    """A parameter that is used twice: the two gradients must be formed to be added."""
    units = torch.eye(count, device=one.squares.device)
    return formed(torch.stack([one.weighted(u) + other.weighted(u) for u in units]))


def _clip(
    trained: list[nn.Parameter],
    pieces: dict[int, tuple[int, Piece]],
    grouping: Grouping,
    clipping: Clipping,
) -> ClippedSum:
    device = trained[0].device
    squares: dict[int, Tensor] = {}
    for owner, piece in pieces.values():
        before = squares.get(owner)
        squares[owner] = piece.squares if before is None else before + piece.squares
    zero = torch.zeros(grouping.count, device=device)
    norms = sum(squares.values(), zero).sqrt()
    norms = torch.where(torch.isfinite(norms), norms, torch.full_like(norms, torch.inf))
    if clipping.per_layer:
        bound = clipping.norm / max(1, len(squares)) ** 0.5
        alive = torch.isfinite(norms)
        weights = {
            owner: torch.where(alive, factors(s.sqrt(), bound), zero)
            for owner, s in squares.items()
        }
    else:
        weights = dict.fromkeys(squares, factors(norms, clipping.norm))
    gradients = []
    for p in trained:
        found = pieces.get(id(p))
        gradients.append(
            torch.zeros_like(p) if found is None else found[1].weighted(weights[found[0]])
        )
    return ClippedSum(gradients, norms, zero, int((~torch.isfinite(norms)).sum()))


def _without(use: _Use, keep: Tensor) -> _Use:
    inputs = _masked(use.inputs, keep) if use.inputs.is_floating_point() else use.inputs
    return _Use(use.module, inputs, inputs._version, use.edge)


def _masked(values: Tensor, keep: Tensor) -> Tensor:
    return torch.where(keep.view(-1, *[1] * (values.dim() - 1)), values, torch.zeros_like(values))
