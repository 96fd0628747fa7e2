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

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wardround.client.gradients.groups import Groups
from wardround.client.gradients.tape import Use

ROUNDING = 16 * 2.0**-24
"""Relative error allowed to a float32 inner product; its square root enters the norm."""
INSTANTIATE_COST = 24
"""Multiplications that cost as much as writing and twice reading one number of a gradient."""
MOST_FLOATS = 1 << 26
"""Of a temporary: 256 MiB."""
MOST_PAIRED = 128
"""Up to so many records of one position, all pairs are cheaper than sorting them by unit."""


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


class Formed:
    """Units' gradients themselves.

    gradients : per trainable parameter, U x its shape
    """

    def __init__(self, gradients: dict[str, Tensor]) -> None:
        self._gradients = gradients
        self.squares = torch.stack([squared(one.flatten(1)) for one in gradients.values()]).sum(0)

    def weighted(self, factors: Tensor, finite: Tensor | None) -> dict[str, Tensor]:
        """See ``LayerGradients``."""
        return {name: weighted_sum(one, factors, finite) for name, one in self._gradients.items()}


def squared(x: Tensor) -> Tensor:
    """Squared norms along the last axis."""
    found: Tensor = torch.linalg.vecdot(x, x)
    return found


def weighted_sum(gradients: Tensor, factors: Tensor, finite: Tensor | None) -> Tensor:
    """Sum over units (first axis) of factor times gradient, without the units to leave out."""
    flat = gradients.reshape(len(factors), -1)
    if finite is not None:
        flat = torch.where(finite[:, None], flat, 0.0)
    return (factors @ flat).reshape(gradients.shape[1:])


class Ghost:
    """y = W a + b at every position, without forming the units' gradients.

    Parameters
    ----------
    a : B x T x I
    b : B x T x O, gradient of the losses at the output
    names : 'weight' and 'bias', as far as they are trained
    """

    def __init__(self, a: Tensor, b: Tensor, names: set[str], groups: Groups) -> None:
        self._a, self._b, self._names, self._groups = a, b, names, groups
        if a.shape[1] == 1 and groups.units is None:
            self.squares = self._outer_squares(a[:, 0], b[:, 0])
        elif a.shape[1] == 1 and groups.size <= MOST_PAIRED and not groups.in_order:
            self.squares = self._masked_squares(a[:, 0], b[:, 0])
        else:
            self.squares = self._block_squares()

    def _outer_squares(self, a: Tensor, b: Tensor) -> Tensor:
        """One record of one position: |b a^T|^2 + |b|^2 = |b|^2 (|a|^2 + 1), without
        cancellation: a product of sums of squares, so a relative error is all it can have."""
        scale = squared(a) if "weight" in self._names else a.new_zeros(len(a))
        if "bias" in self._names:
            scale = scale + 1.0
        return squared(b) * scale * (1.0 + ROUNDING)

    def _masked_squares(self, a: Tensor, b: Tensor) -> Tensor:
        """All pairs of records; those of different units are masked."""
        products, largest = self._pairs(a[None], b[None])
        own = torch.where(self._groups.same_unit, products[0], 0.0).sum(1)
        return self._squares(self._groups.sums(own), self._groups.sums(largest[0]))

    def _block_squares(self) -> Tensor:
        """Sums over pairs of positions of one unit of <a_s, a_t> <b_s, b_t>."""
        squares = self._b.new_zeros(self._groups.count)
        for block in self._groups.blocks:
            a, b = block.pack(self._a).flatten(1, 2), block.pack(self._b).flatten(1, 2)
            chunk = max(1, MOST_FLOATS // (2 * a.shape[1] ** 2))
            parts = []
            for start in range(0, len(a), chunk):
                piece = slice(start, start + chunk)
                products, largest = self._pairs(a[piece], b[piece])
                parts.append(self._squares(products.sum((1, 2)), largest.sum(1)))
            found = parts[0] if len(parts) == 1 else torch.cat(parts)
            if block.units is None:
                return found
            squares[block.units] = found
        return squares

    def _pairs(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Of V x S x I and V x S x O: products of all pairs, V x S x S, and |a_s| |b_s|, V x S."""
        of_b = torch.bmm(b, b.transpose(1, 2))
        if "weight" in self._names:
            of_a = torch.bmm(a, a.transpose(1, 2))
            if "bias" in self._names:
                of_a += 1.0
            of_b *= of_a
        return of_b, of_b.diagonal(dim1=1, dim2=2).sqrt()

    @staticmethod
    def _squares(found: Tensor, largest: Tensor) -> Tensor:
        """Rounded up; ``largest`` is the norm that would be without cancellation.

        Pairs may cancel to nearly nothing, or below zero, and a norm that is too small would let a
        unit's gradient through unclipped: privacy asks for an error on the other side.
        """
        return found.clamp_min(0.0) + ROUNDING * largest.square()

    def weighted(self, factors: Tensor, finite: Tensor | None) -> dict[str, Tensor]:
        """See ``LayerGradients``; the weight as O x I."""
        a, b = self._a.flatten(0, 1), self._b
        if finite is not None:
            keep = self._groups.spread(finite)
            a = torch.where(keep.repeat_interleave(self._a.shape[1])[:, None], a, 0.0)
            b = torch.where(keep[:, None, None], b, 0.0)
        b = (b * self._groups.spread(factors)[:, None, None]).flatten(0, 1)
        sums = {}
        if "weight" in self._names:
            sums["weight"] = b.t() @ a
        if "bias" in self._names:
            sums["bias"] = b.sum(0)
        return sums


def prefers_forming(positions: int, inputs: int, outputs: int, groups: Groups) -> bool:
    """Whether to form the units' weight gradients rather than take ghost norms of them.

    With S = positions times records: S^2 (I + O) multiplications for the ghost norm of a unit, I O
    numbers to write and read for its gradient; and the gradients of all units must fit.
    """
    paired = positions * groups.width
    size = inputs * outputs
    ghost_cost = paired * paired * (inputs + outputs)
    return groups.count * size <= MOST_FLOATS and ghost_cost > INSTANTIATE_COST * size


def joined(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Several calls of one layer are one call with more positions (second axis)."""
    if len(pairs) == 1:
        return pairs[0]
    return torch.cat([a for a, _ in pairs], 1), torch.cat([b for _, b in pairs], 1)


def linear_gradients(layer: nn.Linear, uses: list[Use], groups: Groups) -> LayerGradients:
    """nn.Linear on B x I or B x ... x I."""
    a, b = joined(
        [
            (
                use.inputs.reshape(groups.size, -1, layer.in_features),
                use.gradient.reshape(groups.size, -1, layer.out_features),
            )
            for use in uses
        ]
    )
    names = trainable(layer)
    if not prefers_forming(a.shape[1], a.shape[2], b.shape[2], groups):
        return Ghost(a, b, names, groups)
    gradients = {}
    if "weight" in names:
        gradients["weight"] = products(a, b, groups)
    if "bias" in names:
        gradients["bias"] = groups.sums(b.sum(1))
    return Formed(gradients)


def products(a: Tensor, b: Tensor, groups: Groups) -> Tensor:
    """U x O x I: sums over a unit's records and positions of b a^T.

    a : B x T x I; b : B x T x O
    """
    found = []
    for block in groups.blocks:
        left, right = block.pack(b).flatten(1, 2), block.pack(a).flatten(1, 2)
        product = torch.bmm(left.transpose(1, 2), right)
        if block.units is None:
            return product
        found.append((block.units, product))
    total = b.new_zeros(groups.count, b.shape[-1], a.shape[-1])
    for units, product in found:
        total[units] = product
    return total


def scale_gradients(layer: nn.Module, uses: list[Use], groups: Groups) -> LayerGradients:
    """Normalisation layers: y = weight * normalised + bias, elementwise.

    Their parameters are few, so the units' gradients are formed: sums over positions of b times the
    normalised input, and of b.
    """
    names, found = trainable(layer), dict[str, Tensor]()
    for use in uses:
        parts = {"bias": use.gradient} if "bias" in names else {}
        if "weight" in names:
            parts["weight"] = use.gradient * normalised(layer, use.inputs)
        for name, part in parts.items():
            if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
                part = part.reshape(groups.size, -1, *layer.normalized_shape).sum(1)
            else:
                part = part.reshape(*part.shape[:2], -1).sum(2)
            part = groups.sums(part)
            found[name] = found[name] + part if name in found else part
    return Formed(found)


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
    """nn.Embedding: tokens that a unit repeats are added up before the norm is taken.

    The gradient of row v is the sum of b_t over positions with token v, so a unit's squared norm is
    the sum over its *distinct* tokens of |sum b_t|^2. Only rows that occur are held, never U x V.
    """

    def __init__(self, layer: nn.Embedding, uses: list[Use], groups: Groups) -> None:
        self._shape, self._count = layer.weight.shape, groups.count
        keys, rows = [], []
        for use in uses:
            tokens = use.inputs.reshape(groups.size, -1)
            owners = torch.arange(groups.size, device=tokens.device)
            owners = owners if groups.units is None else groups.units
            # one number for each (unit, token), so that equal ones can be found by sorting
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
        alone = squared(self._rows)
        self.squares = alone.new_zeros(groups.count).index_add_(0, self._units, alone)

    def weighted(self, factors: Tensor, finite: Tensor | None) -> dict[str, Tensor]:
        """See ``LayerGradients``."""
        rows = self._rows * factors[self._units][:, None]
        if finite is not None:
            rows = torch.where(finite[self._units][:, None], rows, 0.0)
        return {"weight": rows.new_zeros(self._shape).index_add_(0, self._tokens, rows)}
