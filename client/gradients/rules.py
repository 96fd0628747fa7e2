"""Layers by book-keeping: squared norms of the units' gradients, then their weighted sum.

Bu et al. 2023, "Differentially Private Optimization on Large Foundation Models" (2210.00038). Each
class here is made with a layer's inputs and output gradients (``tape.py``), gives the units'
``squares`` and, once the factors are known, the weighted sums of their gradients. Units' gradients
are formed (U x parameters) only where that costs less than the ghost norm.

Invariants: squares are never negative. Where sums are not made of the very numbers that the norm
was taken from, squares are rounded up by ``ROUNDING`` times the largest the norm could have been
without cancellation. Rows of dropped units are masked, not multiplied: 0 times inf is NaN.

Shapes: B examples, U units, R examples of a unit, T positions, I inputs, O outputs, K groups of a
convolution.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wardround.client.gradients.groups import Block, Groups
from wardround.client.gradients.tape import Use

ROUNDING = 16 * 2.0**-24
"""Relative error allowed to a float32 inner product; its square root enters the norm."""
INSTANTIATE_COST = 24
"""Multiplications that cost as much as writing and twice reading one number of a gradient."""
MOST_FLOATS = 1 << 26
"""Of a temporary: 256 MiB."""


class LayerGradients(Protocol):
    """The gradients of one layer's trainable parameters.

    squares : U, squared norm of each unit's gradient; not finite where the gradient isn't
    """

    squares: Tensor

    def weighted(self, factors: Tensor, finite: Tensor | None) -> dict[str, Tensor]:
        """Per trainable parameter, the sum over units of factor (U) times gradient.

        ``finite`` (U, bool) is false for units to be left out, None if there are none.
        """


def trainable(layer: nn.Module) -> set[str]:
    """Names of the layer's own parameters that are trained."""
    return {name for name, p in layer._parameters.items() if p is not None and p.requires_grad}


class Dense:
    """y = W a + b at every position, for K groups of channels: linear layers and convolutions.

    Parameters
    ----------
    a : B x T x I, or B x K x T x I
    b : B x T x O, or B x K x T x O, gradient of the losses at the output
    names : 'weight' and 'bias', as far as they are trained
    """

    def __init__(self, a: Tensor, b: Tensor, names: set[str], groups: Groups) -> None:
        self._a, self._b, self._names, self._groups = a, b, names, groups
        self._weights: Tensor | None = None
        self._biases: Tensor | None = None
        if groups.units is None and a.dim() == 3 and a.shape[1] == 1:
            self.squares = self._outer_squares(a[:, 0], b[:, 0])
            return
        grouped = a.dim() == 4
        positions, size = a.shape[-2] * groups.width, a.shape[-1] * b.shape[-1]
        ghost_cost = positions**2 * (a.shape[-1] + b.shape[-1])
        fits = groups.count * size <= MOST_FLOATS
        if grouped or (fits and ghost_cost > INSTANTIATE_COST * size):
            self.squares = self._form()
        else:
            self.squares = self._ghost_squares()

    def _outer_squares(self, a: Tensor, b: Tensor) -> Tensor:
        """One record of one position: |b|^2 (|a|^2 + 1), without cancellation."""
        scale = torch.linalg.vecdot(a, a) if "weight" in self._names else a.new_zeros(len(a))
        if "bias" in self._names:
            scale = scale + 1.0
        return torch.linalg.vecdot(b, b) * scale * (1.0 + ROUNDING)

    def _form(self) -> Tensor:
        """Form the units' gradients and take their squares."""
        a, b, groups = self._a, self._b, self._groups
        squares = b.new_zeros(groups.count)
        if a.dim() == 3:
            a, b = a[:, None], b[:, None]
        if "weight" in self._names:
            inputs, outputs = a.shape[-1], b.shape[-1]
            whole = len(groups.blocks) == 1 and groups.blocks[0].units is None
            if not whole:
                self._weights = b.new_zeros(groups.count, a.shape[1], outputs, inputs)
            for block in groups.blocks:
                found = self._product(block, a, b)
                if block.units is None:
                    self._weights = found
                else:
                    assert self._weights is not None
                    self._weights[block.units] = found
            assert self._weights is not None
            flat = self._weights.reshape(groups.count, -1)
            squares = squares + torch.linalg.vecdot(flat, flat)
        if "bias" in self._names:
            self._biases = groups.sums(b.sum(-2)).reshape(groups.count, -1)
            squares = squares + torch.linalg.vecdot(self._biases, self._biases)
        return squares

    @staticmethod
    def _product(block: Block, a: Tensor, b: Tensor) -> Tensor:
        """V x K x O x I: sums over a unit's records and positions of b a^T."""
        if block.width == 1:
            left, right = block.pack(b)[:, 0], block.pack(a)[:, 0]
        else:
            left = block.pack(b).transpose(1, 2).flatten(2, 3)
            right = block.pack(a).transpose(1, 2).flatten(2, 3)
        product = torch.bmm(left.flatten(0, 1).transpose(1, 2), right.flatten(0, 1))
        return product.reshape(block.count, a.shape[1], *product.shape[1:])

    def _ghost_squares(self) -> Tensor:
        """Sums over pairs of positions of one unit of <a_s, a_t> <b_s, b_t>."""
        squares = self._b.new_zeros(self._groups.count)
        for block in self._groups.blocks:
            a, b = block.pack(self._a).flatten(1, 2), block.pack(self._b).flatten(1, 2)
            chunk = max(1, MOST_FLOATS // (2 * a.shape[1] ** 2))
            parts = [
                self._pair_squares(one, other)
                for one, other in zip(a.split(chunk), b.split(chunk), strict=True)
            ]
            found = parts[0] if len(parts) == 1 else torch.cat(parts)
            if block.units is None:
                return found
            squares[block.units] = found
        return squares

    def _pair_squares(self, a: Tensor, b: Tensor) -> Tensor:
        """V, for V x R T x I and V x R T x O."""
        of_b = torch.bmm(b, b.transpose(1, 2))
        if "weight" in self._names:
            of_a = torch.bmm(a, a.transpose(1, 2))
            if "bias" in self._names:
                of_a += 1.0
        else:
            of_a = torch.ones_like(of_b)
        found = torch.linalg.vecdot(of_a.flatten(1), of_b.flatten(1))
        alone = of_a.diagonal(dim1=1, dim2=2) * of_b.diagonal(dim1=1, dim2=2)
        largest = alone.sqrt().sum(1).square()
        return found.clamp_min(0.0) + ROUNDING * largest

    def weighted(self, factors: Tensor, finite: Tensor | None) -> dict[str, Tensor]:
        """Per parameter as the layer's 2-d weight (K O x I), and K O for the bias."""
        if self._weights is not None or self._biases is not None:
            return self._weighted_formed(factors, finite)
        a, b, groups = self._a[:, :, :], self._b, self._groups
        b = b * groups.spread(factors)[:, None, None]
        if finite is not None:
            keep = groups.spread(finite)[:, None, None]
            a, b = torch.where(keep, a, 0.0), torch.where(keep, b, 0.0)
        b = b.flatten(0, 1)
        sums = {}
        if "weight" in self._names:
            sums["weight"] = b.t() @ a.flatten(0, 1)
        if "bias" in self._names:
            sums["bias"] = b.sum(0)
        return sums

    def _weighted_formed(self, factors: Tensor, finite: Tensor | None) -> dict[str, Tensor]:
        sums = {}
        if self._weights is not None:
            total = weighted_sum(self._weights, factors, finite)
            sums["weight"] = total.flatten(0, 1)
        if self._biases is not None:
            sums["bias"] = weighted_sum(self._biases, factors, finite)
        return sums


def weighted_sum(gradients: Tensor, factors: Tensor, finite: Tensor | None) -> Tensor:
    """Sum over units (first axis) of factor times gradient, without the units to leave out."""
    if finite is not None:
        keep = finite.reshape(-1, *[1] * (gradients.dim() - 1))
        gradients = torch.where(keep, gradients, 0.0)
    return (factors @ gradients.reshape(len(factors), -1)).reshape(gradients.shape[1:])


def joined(uses: list[tuple[Tensor, Tensor]], dim: int) -> tuple[Tensor, Tensor]:
    """Several calls of one layer are one call with more positions."""
    if len(uses) == 1:
        return uses[0]
    return torch.cat([a for a, _ in uses], dim), torch.cat([b for _, b in uses], dim)


class LinearGradients(Dense):
    """nn.Linear on B x I or B x ... x I."""

    def __init__(self, layer: nn.Linear, uses: list[Use], groups: Groups) -> None:
        pairs = []
        for use in uses:
            assert use.gradient is not None
            pairs.append(
                (
                    use.inputs.reshape(groups.size, -1, layer.in_features),
                    use.gradient.reshape(groups.size, -1, layer.out_features),
                )
            )
        super().__init__(*joined(pairs, 1), trainable(layer), groups)


class ConvGradients(Dense):
    """nn.Conv1d and nn.Conv2d: a linear layer on patches."""

    def __init__(self, layer: nn.Conv1d | nn.Conv2d, uses: list[Use], groups: Groups) -> None:
        self._shape = layer.weight.shape
        pairs = []
        for use in uses:
            assert use.gradient is not None
            a = patches(layer, use.inputs)
            b = use.gradient.reshape(groups.size, layer.groups, -1, math.prod(use.shape[2:]))
            b = b.transpose(2, 3)
            pairs.append((a[:, 0], b[:, 0]) if layer.groups == 1 else (a, b))
        super().__init__(*joined(pairs, -2), trainable(layer), groups)

    def weighted(self, factors: Tensor, finite: Tensor | None) -> dict[str, Tensor]:
        """As the layer's own weight and bias."""
        sums = super().weighted(factors, finite)
        if "weight" in sums:
            sums["weight"] = sums["weight"].reshape(self._shape)
        return sums


def patches(layer: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """B x K x T x (I / K times kernel): what each output position of the convolution sees."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    if any(layer._reversed_padding_repeated_twice):
        x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    if x.dim() == 3:  # unfold knows images only
        x, kernel, dilation, stride = (
            x[:, :, None],
            (1, *layer.kernel_size),
            (1, *layer.dilation),
            (1, *layer.stride),
        )
    else:
        kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride  # type: ignore[assignment]
    columns = F.unfold(x, kernel, dilation=dilation, stride=stride)
    columns = columns.reshape(len(x), layer.groups, -1, columns.shape[-1])
    return columns.transpose(2, 3)


class ScaleGradients:
    """Normalisation layers: y = weight * normalised + bias, elementwise."""

    def __init__(self, layer: nn.Module, uses: list[Use], groups: Groups) -> None:
        self._names = trainable(layer)
        self._sums: dict[str, Tensor] = {}
        for use in uses:
            assert use.gradient is not None
            if "weight" in self._names:
                self._add("weight", layer, use.gradient * normalised(layer, use.inputs), groups)
            if "bias" in self._names:
                self._add("bias", layer, use.gradient, groups)
        flat = [value.flatten(1) for value in self._sums.values()]
        self.squares = torch.stack([torch.linalg.vecdot(one, one) for one in flat]).sum(0)

    def _add(self, name: str, layer: nn.Module, gradient: Tensor, groups: Groups) -> None:
        if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
            shape = gradient.shape[-len(layer.normalized_shape) :]
            gradient = gradient.reshape(groups.size, -1, *shape).sum(1)
        else:
            gradient = gradient.flatten(2).sum(2) if gradient.dim() > 2 else gradient
        gradient = groups.sums(gradient)
        found = self._sums.get(name)
        self._sums[name] = gradient if found is None else found + gradient

    def weighted(self, factors: Tensor, finite: Tensor | None) -> dict[str, Tensor]:
        """See ``LayerGradients``."""
        return {name: weighted_sum(one, factors, finite) for name, one in self._sums.items()}


def normalised(layer: nn.Module, x: Tensor) -> Tensor:
    """The layer's output before weight and bias."""
    if isinstance(layer, nn.LayerNorm):
        return F.layer_norm(x, layer.normalized_shape, eps=layer.eps)
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(x, layer.num_groups, eps=layer.eps)
    if isinstance(layer, nn.RMSNorm):
        return F.rms_norm(x, layer.normalized_shape, eps=layer.eps)
    assert isinstance(layer, nn.modules.instancenorm._InstanceNorm)
    return F.instance_norm(x, eps=layer.eps)


class EmbeddingGradients:
    """nn.Embedding: tokens that a unit repeats are added up before the norm is taken."""

    def __init__(self, layer: nn.Embedding, uses: list[Use], groups: Groups) -> None:
        self._shape, self._count = layer.weight.shape, groups.count
        keys, rows = [], []
        for use in uses:
            assert use.gradient is not None
            tokens = use.inputs.reshape(groups.size, -1)
            owners = torch.arange(groups.size, device=tokens.device)
            owners = owners if groups.units is None else groups.units
            keys.append((owners[:, None] * layer.num_embeddings + tokens).flatten())
            rows.append(use.gradient.reshape(-1, layer.embedding_dim))
        key, row = torch.cat(keys), torch.cat(rows)
        if layer.padding_idx is not None:
            kept = key % layer.num_embeddings != layer.padding_idx
            key, row = key[kept], row[kept]
        found, place = torch.unique(key, return_inverse=True)
        self._rows = row.new_zeros(len(found), row.shape[1]).index_add_(0, place, row)
        self._units = found // layer.num_embeddings
        self._tokens = found % layer.num_embeddings
        alone = torch.linalg.vecdot(self._rows, self._rows)
        self.squares = alone.new_zeros(groups.count).index_add_(0, self._units, alone)

    def weighted(self, factors: Tensor, finite: Tensor | None) -> dict[str, Tensor]:
        """See ``LayerGradients``."""
        rows = self._rows * factors[self._units][:, None]
        if finite is not None:
            rows = torch.where(finite[self._units][:, None], rows, 0.0)
        return {"weight": rows.new_zeros(self._shape).index_add_(0, self._tokens, rows)}
