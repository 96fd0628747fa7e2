"""``adalora``: a change of a layer as triplets, with a budget over all layers.

The change is written as P diag(E) Q and left a budget of triplets over all layers (Zhang et al.
2023, arXiv 2303.10512). This form differs from the paper's, because here training is cut into
rounds and a task doesn't see steps: the budget is the same from the first step on; a triplet's
importance is the size of its own contribution, |E_i| |P_i| |Q_i|, which needs no penalty that keeps
P and Q orthonormal, and there is none. So which triplets count follows from the model alone and is
the same at every party.

Shapes: I inputs and O outputs of a layer, r rank, L adapted layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TripletLinear(nn.Module):
    """A frozen linear layer and r triplets: W x + (alpha / r) P diag(E) Q x.

    ``lora_P``: O x r, ``lora_E``: r, zero at first, ``lora_Q``: r x I.
    """

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base_layer = layer
        self.scaling = alpha / rank
        self.lora_P = nn.Parameter(torch.empty(layer.out_features, rank))
        self.lora_E = nn.Parameter(torch.zeros(rank))
        self.lora_Q = nn.Parameter(torch.empty(rank, layer.in_features))
        nn.init.normal_(self.lora_P, std=1 / math.sqrt(layer.out_features))
        nn.init.normal_(self.lora_Q, std=1 / math.sqrt(layer.in_features))
        self.least: float | Tensor | None = None
        """Importance below which a triplet is left out; set for each forward of the model."""

    def importance(self) -> Tensor:
        """r: the Frobenius norm of each triplet's contribution."""
        with torch.no_grad():
            sizes = self.lora_P.norm(dim=0) * self.lora_Q.norm(dim=1)
            found: Tensor = self.lora_E.abs() * sizes
        return found

    def forward(self, x: Tensor) -> Tensor:
        """B x ... x I to B x ... x O."""
        scale: Tensor = self.lora_E
        if self.least is not None:
            # What is left out still gets its gradient, so that it can come back.
            scale = scale - torch.where(self.importance() < self.least, scale, 0.0).detach()
        change = F.linear(F.linear(x, self.lora_Q) * scale, self.lora_P)
        out: Tensor = self.base_layer(x)
        return out + self.scaling * change


@contextmanager
def budget(model: nn.Module, rank: int | None) -> Iterator[None]:
    """Leave the L * ``rank`` most important triplets of all layers; equal ones stay together, so
    that no order of layers decides.

    None: the model has no triplets, or all count.
    """
    layers = [one for one in model.modules() if isinstance(one, TripletLinear)]
    if rank is None or not layers:
        yield
        return
    found = torch.cat([layer.importance() for layer in layers])
    least: float | Tensor = found.topk(rank * len(layers)).values[-1]
    try:
        least = float(least)
    except RuntimeError:  # within vmap it has no value, and isn't a tensor that could stay
        pass
    for layer in layers:
        layer.least = least
    try:
        yield
    finally:
        # a number stays: blocks that are recomputed in the backward pass need it again
        if not isinstance(least, float):
            for layer in layers:
                layer.least = None
