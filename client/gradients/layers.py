"""Book-keeping per layer: per-unit gradients from a layer's inputs and its outputs' gradients.

For a linear map with inputs a (n x S x d) and output gradients g (n x S x p), where S runs over
positions and over a unit's examples, a unit's weight gradient is G = sum_s g_s a_s^T. Its norm is
had either from G itself or, where S is small, from two Gram matrices without forming G
(Goodfellow 2015, 1510.01799; Li et al. 2022, 2110.05679); the sum of w_u G_u over units is one
product in either case (book-keeping, Bu et al. 2023, 2210.00038).

A Gram matrix may lose a small norm among large terms that cancel: a unit could then be clipped too
little. ``_CANCELLATION`` times the square of sum_s |a_s| |g_s|, which bounds what rounding may take,
is added to the squared norm; without cancellation that is 2e-6 of the norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wardround.client.gradients.units import Grouping

_CANCELLATION = 4e-6


@dataclass(frozen=True)
class Piece:
    """A parameter's gradient for every unit.

    squares : n, squared norms
    weighted : n factors to the weighted sum over units, in the parameter's shape
    """

    squares: Tensor
    weighted: Callable[[Tensor], Tensor]


Pieces = dict[str, Piece]
Rule = Callable[[Any, Tensor, Tensor, Grouping], Pieces]


def formed(values: Tensor) -> Piece:
    """From the gradients themselves, n x shape."""
    flat = values.flatten(1)
    return Piece(flat.square().sum(1), lambda w: (w.to(flat.dtype) @ flat).view(values.shape[1:]))


def rule_for(module: nn.Module) -> Rule | None:
    """How to book-keep this module's own parameters; None if that isn't known."""
    kind = type(module)
    if kind is nn.Embedding:
        plain = not (module.sparse or module.scale_grad_by_freq or module.max_norm)
        return _embedding if plain else None
    if kind in (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d):
        return None if module.track_running_stats else _norm
    return _RULES.get(kind)


def _linear(module: nn.Linear, a: Tensor, g: Tensor, grouping: Grouping) -> Pieces:
    """Weight p x d, bias p; a is B x ... x d, g is B x ... x p."""
    a, g = a.reshape(len(a), -1, a.shape[-1]), g.reshape(len(g), -1, g.shape[-1])
    return _matrix(grouping.stacked(a), grouping.stacked(g), module, module.weight.shape)


def _matrix(a: Tensor, g: Tensor, module: nn.Module, shape: torch.Size) -> Pieces:
    """Of stacked a (n x S x d) and g (n x S x p); the weight has ``shape``, p x ... of d in all."""
    pieces = {}
    (_, length, d), p = a.shape, g.shape[-1]
    if _trains(module, "weight"):
        if length == 1:
            squares = a[:, 0].square().sum(1) * g[:, 0].square().sum(1)
            pieces["weight"] = Piece(squares, _product(a, g, shape))
        elif 2 * length * length <= d * p:
            gram = torch.bmm(a, a.mT).mul_(torch.bmm(g, g.mT)).sum((1, 2))
            size = (a.norm(dim=2) * g.norm(dim=2)).sum(1).square()
            squares = gram.clamp_min(0).add_(size, alpha=_CANCELLATION)
            pieces["weight"] = Piece(squares, _product(a, g, shape))
        else:
            pieces["weight"] = formed(torch.bmm(g.mT, a).view(len(a), *shape))
    if _trains(module, "bias"):
        pieces["bias"] = formed(g.sum(1))
    return pieces


def _product(a: Tensor, g: Tensor, shape: torch.Size) -> Callable[[Tensor], Tensor]:
    """sum_u w_u sum_s g_s a_s^T as one matrix product."""

    def weighted(w: Tensor) -> Tensor:
        scaled = (g * w.to(g.dtype)[:, None, None]).flatten(0, 1)
        return (scaled.mT @ a.flatten(0, 1)).view(shape)

    return weighted


def _conv(module: Any, a: Tensor, g: Tensor, grouping: Grouping) -> Pieces:
    """As a linear map of unfolded patches; one dimension is treated as two."""
    pieces = {}
    if _trains(module, "bias"):
        pieces["bias"] = formed(grouping.added(g.flatten(2).sum(2)))
    if not _trains(module, "weight"):
        return pieces
    patches = _unfolded(module, a)  # B x (C k) x L
    groups, (out, *rest) = module.groups, module.weight.shape
    patches = patches.view(len(a), groups, -1, patches.shape[-1])
    g = g.flatten(2).view(len(g), groups, out // groups, -1)
    each = torch.matmul(g, patches.mT).view(len(a), out, *rest)
    return pieces | {"weight": formed(grouping.added(each))}


def _unfolded(module: Any, a: Tensor) -> Tensor:
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    pad = module._reversed_padding_repeated_twice
    if module.padding_mode != "zeros":
        a = F.pad(a, pad, mode=module.padding_mode)
    elif any(pad):
        a = F.pad(a, pad)
    if len(kernel) == 1:
        a, kernel, stride, dilation = a[:, :, None], (1, *kernel), (1, *stride), (1, *dilation)
    return F.unfold(a, kernel, dilation=dilation, stride=stride)


def _embedding(module: nn.Embedding, a: Tensor, g: Tensor, grouping: Grouping) -> Pieces:
    """Rows that one unit uses several times are added up before their norm is taken."""
    if not _trains(module, "weight"):
        return {}
    size, width = module.weight.shape
    unit = torch.arange(len(a), device=a.device) if grouping.units is None else grouping.units
    unit = unit.view(-1, *[1] * (a.dim() - 1)).expand_as(a).reshape(-1)
    token, rows = a.reshape(-1), g.reshape(-1, width)
    if module.padding_idx is not None:
        used = token != module.padding_idx
        unit, token, rows = unit[used], token[used], rows[used]
    pairs, place = torch.unique(unit * size + token, return_inverse=True)
    sums = rows.new_zeros(len(pairs), width).index_add_(0, place, rows)
    owner, row = pairs // size, pairs % size
    squares = rows.new_zeros(grouping.count).index_add_(0, owner, sums.square().sum(1))

    def weighted(w: Tensor) -> Tensor:
        scaled = sums * w.to(sums.dtype)[owner, None]
        return sums.new_zeros(size, width).index_add_(0, row, scaled)

    return {"weight": Piece(squares, weighted)}


def _norm(module: Any, a: Tensor, g: Tensor, grouping: Grouping) -> Pieces:
    """Scale and shift of a normalised input; what the parameters are shared over is summed."""
    if isinstance(module, nn.LayerNorm):
        shape = tuple(module.normalized_shape)
        hat = F.layer_norm(a, shape, eps=module.eps)
    elif isinstance(module, nn.RMSNorm):
        shape = tuple(module.normalized_shape)
        hat = F.rms_norm(a, shape, eps=module.eps)
    elif isinstance(module, nn.GroupNorm):
        shape = ()
        hat = F.group_norm(a, module.num_groups, eps=module.eps)
    else:
        shape = ()
        hat = F.instance_norm(a, eps=module.eps)
    pieces = {}
    for name, each in (("weight", g * hat), ("bias", g)):
        if _trains(module, name):
            if shape:
                each = each.reshape(len(a), -1, *shape).sum(1)
            else:  # one per channel
                each = each.reshape(len(a), each.shape[1], -1).sum(2)
            pieces[name] = formed(grouping.added(each))
    return pieces


def _trains(module: nn.Module, name: str) -> bool:
    parameter = getattr(module, name, None)
    return isinstance(parameter, nn.Parameter) and parameter.requires_grad


_RULES: dict[type, Rule] = {
    nn.Linear: _linear,
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    nn.LayerNorm: _norm,
    nn.RMSNorm: _norm,
    nn.GroupNorm: _norm,
}
