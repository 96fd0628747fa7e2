"""How many examples go through a model at once, where nobody says: as its activations have room.

What a forward pass takes of memory, and of the processor's caches, are the outputs of its layers,
not its inputs: a small network of convolutions makes a megabyte of a picture of 4 kB. Taking what
fits into a few caches is as fast as any more, or faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_ON_CPU, _ELSEWHERE = 32 << 20, 1 << 30
"""Bytes that the activations of all examples may take: a processor's caches, a share of a GPU."""
_FEW = 32
"""Examples that are taken at once without a look."""


def rows_at_once(model: nn.Module, row: Callable[[], Tensor], examples: int, most: int) -> int:
    """At most ``most`` of so many examples: as many as keep the largest layer's inputs and outputs
    within some memory. It depends on the model and an example's shape alone, so that a result is
    the same again.

    Parameters
    ----------
    model : in evaluation mode, on its device
    row : gives one example, 1 x ..., on that device; asked for where there are many
    """
    if examples <= min(_FEW, most):
        return most
    given = row()
    with torch.no_grad(), _watched(model) as largest:
        model(given)
    room = _ON_CPU if given.device.type == "cpu" else _ELSEWHERE
    return min(most, max(1, room // max(1, largest[0])))


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[int]]:
    """Inside, the most bytes that one layer of the model has had as input and output."""
    largest = [0]

    def look(_: nn.Module, inputs: Any, outputs: Any) -> None:
        largest[0] = max(largest[0], _bytes(inputs) + _bytes(outputs))

    layers = [one for one in model.modules() if not any(True for _ in one.children())]
    hooks = [layer.register_forward_hook(look) for layer in layers]
    try:
        yield largest
    finally:
        for hook in hooks:
            hook.remove()


def _bytes(values: Any) -> int:
    if isinstance(values, Tensor):
        return math.prod(values.shape) * values.element_size()
    if isinstance(values, tuple | list):
        return sum(map(_bytes, values))
    return 0
