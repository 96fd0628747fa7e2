"""Convolutions by book-keeping: nn.Conv1d and nn.Conv2d.

A convolution is a linear layer on patches. Its ghost norm pairs all positions, which pays only for
few positions and many channels; else the units' weight gradients are formed: on a CPU by the
convolution's own backward, unit after unit (no patches are copied, and a unit's records are added
up on the way), else by a product with the patches.

Shapes: B examples, U units, T positions, I inputs (channels times kernel), O outputs, K groups.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wardround.client.gradients.groups import Groups
from wardround.client.gradients.per_layer import (
    Formed,
    Ghost,
    LayerGradients,
    joined,
    prefers_forming,
    products,
    trainable,
)
from wardround.client.gradients.tape import Use

LEAST_WORK = 1_500_000
"""Multiplications per unit from which a call of the backward costs less than copying patches."""
CHUNK_FLOATS = 1 << 22
"""Of patches at a time: temporaries beyond 32 MiB go back to the kernel at every step."""

Conv = nn.Conv1d | nn.Conv2d


def conv_gradients(layer: Conv, uses: list[Use], groups: Groups) -> LayerGradients:
    """The gradients of nn.Conv1d or nn.Conv2d on B x channels x ...

    Ghost norms where they are cheaper; with several groups of channels gradients are always formed.
    """
    outputs, shape = layer.out_channels, layer.weight.shape
    inputs = math.prod(shape[1:])
    positions = sum(math.prod(use.gradient.shape[2:]) for use in uses)
    names = trainable(layer)
    if layer.groups == 1 and not prefers_forming(positions, inputs, outputs, groups):
        pairs = []
        for use in uses:
            b = use.gradient.flatten(2).transpose(1, 2)
            pairs.append((patches(layer, use.inputs)[:, 0], b))
        return _Reshaped(Ghost(*joined(pairs), names, groups), shape)
    gradients = {}
    if "weight" in names:
        work = groups.size / groups.count * positions * inputs * outputs / layer.groups
        by_unit = layer.weight.device.type == "cpu" and work > LEAST_WORK
        form = _by_unit if by_unit else _by_patches
        found = [form(layer, use, groups) for use in uses]
        gradients["weight"] = torch.stack(found).sum(0) if len(found) > 1 else found[0]
    if "bias" in names:
        biases = sum(use.gradient.flatten(2).sum(2) for use in uses)
        gradients["bias"] = groups.sums(torch.as_tensor(biases))
    return Formed(gradients)


class _Reshaped:
    """``Ghost`` with the weight in the layer's shape."""

    def __init__(self, ghost: Ghost, shape: torch.Size) -> None:
        self._ghost, self._shape, self.squares = ghost, shape, ghost.squares

    def weighted(self, factors: Tensor, finite: Tensor | None) -> dict[str, Tensor]:
        """See ``LayerGradients``."""
        sums = self._ghost.weighted(factors, finite)
        if "weight" in sums:
            sums["weight"] = sums["weight"].reshape(self._shape)
        return sums


def _by_unit(layer: Conv, use: Use, groups: Groups) -> Tensor:
    """U x the weight's shape: the backward of one unit's records after the other."""
    x, padding = use.inputs, layer.padding
    if layer.padding_mode != "zeros" or isinstance(padding, str):
        x, padding = padded(layer, x), (0,) * (x.dim() - 2)
    gradient, starts = use.gradient, groups.starts
    if groups.order is not None:
        x, gradient = x[groups.order], gradient[groups.order]
    found = x.new_zeros(groups.count, *layer.weight.shape)
    for unit, (start, stop) in enumerate(zip(starts, starts[1:], strict=False)):
        if stop > start:
            found[unit] = torch.ops.aten.convolution_backward(
                gradient[start:stop],
                x[start:stop],
                layer.weight,
                None,
                layer.stride,
                padding,
                layer.dilation,
                False,
                [0] * len(layer.stride),
                layer.groups,
                [False, True, False],
            )[1]
    return found


def _by_patches(layer: Conv, use: Use, groups: Groups) -> Tensor:
    """U x the weight's shape: products of patches and output gradients, each record's or unit's."""
    size, kinds = groups.size, layer.groups
    b = use.gradient.reshape(size, kinds, layer.out_channels // kinds, -1)
    inputs = math.prod(layer.weight.shape[1:])
    if kinds == 1 and size * inputs * b.shape[3] <= CHUNK_FLOATS:
        found = products(patches(layer, use.inputs)[:, 0], b[:, 0].transpose(1, 2), groups)
        return found.reshape(groups.count, *layer.weight.shape)
    each = b.new_empty(size, kinds, b.shape[2], inputs)
    chunk = max(1, CHUNK_FLOATS // (kinds * inputs * b.shape[3]))
    for start in range(0, size, chunk):
        piece = slice(start, start + chunk)
        each[piece] = b[piece] @ patches(layer, use.inputs[piece])
    return groups.sums(each.reshape(size, *layer.weight.shape))


def padded(layer: Conv, x: Tensor) -> Tensor:
    """The layer's input with its padding."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    around = layer._reversed_padding_repeated_twice
    return F.pad(x, around, mode=mode) if any(around) else x


def patches(layer: Conv, x: Tensor) -> Tensor:
    """B x K x T x (I / K): what each output position of the convolution sees."""
    x = padded(layer, x)
    kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
    if x.dim() == 3:  # unfold knows images only
        x = x[:, :, None]
        kernel, dilation, stride = (1, *kernel), (1, *dilation), (1, *stride)
    columns = F.unfold(x, kernel, dilation=dilation, stride=stride)
    return columns.reshape(len(x), layer.groups, -1, columns.shape[-1]).transpose(2, 3)
