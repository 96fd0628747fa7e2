"""Tensors that the processes of one hospital's training share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_ALIGNED = 64


class SharedTensors:
    """Tensors by name in one block of shared memory: whoever gets this object sees the same."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._places: dict[str, tuple[int, int, torch.dtype, tuple[int, ...]]] = {}
        end = 0
        for name, tensor in tensors.items():
            size = tensor.numel() * tensor.element_size()
            self._places[name] = (end, size, tensor.dtype, tuple(tensor.shape))
            end += -(-size // _ALIGNED) * _ALIGNED
        self._block = torch.empty(end, dtype=torch.uint8)
        self._block.share_memory_()  # type: ignore[no-untyped-call]

    def views(self) -> dict[str, Tensor]:
        """The tensors in the block."""
        return {
            name: self._block[start : start + size].view(dtype).reshape(shape)
            for name, (start, size, dtype, shape) in self._places.items()
        }

    def write(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy values in; names and shapes are those it was made for."""
        views = self.views()
        for name, tensor in tensors.items():
            views[name].copy_(tensor.detach())
