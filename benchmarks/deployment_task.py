"""A task whose training costs next to nothing: each step changes every parameter at random.

The updates are unique (Flower sends equal chunks once) and follow from the run's seed, the round
and the hospital, so a simulation of the same configuration gives the same model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wardround.common.figures.sums import Sums
from wardround.common.tasks.base import Examples, Task

LAYERS, COLUMNS = 8, 1000
LR = 0.01


def layer_rows(parameters: int) -> int:
    """Rows of each of the ``LAYERS`` matrices of a model with so many parameters."""
    rows, rest = divmod(parameters, LAYERS * COLUMNS)
    if rest or not rows:
        raise ValueError(f"parameters must be a multiple of {LAYERS * COLUMNS}")
    return rows


def random_matrix(rows: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Every number another one, of magnitude around 1, at the price of writing it once."""
    return torch.outer(torch.randn(rows).to(dtype), (torch.rand(COLUMNS) + 0.5).to(dtype))


class _RandomGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, count: int, *layers: Tensor) -> Tensor:
        ctx.rows, ctx.dtype = [len(layer) for layer in layers], layers[0].dtype
        return torch.zeros(count)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, *(random_matrix(rows, ctx.dtype) for rows in ctx.rows)


class _Layers(nn.Module):
    def __init__(self, parameters: int, dtype: torch.dtype) -> None:
        super().__init__()
        shape = (layer_rows(parameters), COLUMNS)
        self.layers = nn.ParameterList(torch.zeros(shape, dtype=dtype) for _ in range(LAYERS))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = _RandomGradient.apply(len(inputs), *self.layers)  # type: ignore[no-untyped-call]
        return outputs


class RandomUpdates(Task[Examples]):
    """A model of ``parameters`` numbers in eight layers: float32, or ``narrow`` bfloat16."""

    def __init__(self, parameters: int, narrow: bool = False) -> None:
        layer_rows(parameters)
        self.parameters, self.narrow = parameters, narrow

    def load(self, path: Path | None) -> Examples:
        return Examples(torch.zeros(10, 1), torch.zeros(10))

    def model(self, totals: Sums) -> nn.Module:
        return _Layers(self.parameters, torch.bfloat16 if self.narrow else torch.float32)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        return {"examples": np.array([float(len(outputs))])}

    def summarise(self, sums: Sums) -> dict[str, float]:
        return {}
