"""Adapters put into the layers' own weights: a plain model is left, to be taken elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wardround.common.tasks.text.adapters import ADAPTER, RestLinear
from wardround.common.tasks.text.frozen import FrozenEmbedding, FrozenLinear
from wardround.common.tasks.text.triplets import TripletLinear


def merge(encoder: nn.Module) -> None:
    """Put what adapters change into the layers' own weights, in place: plain layers are left, in
    float32 also where frozen weights were kept in fewer bits.

    Summed in float64 and rounded once, so the encoder computes what it did, up to the rounding of
    float32. With triplets, only those that ``budget`` leaves.
    """
    for name, layer in list(encoder.named_modules()):
        if isinstance(layer, TripletLinear) or hasattr(layer, "lora_A") or hasattr(layer, "ia3_l"):
            parent, _, child = name.rpartition(".")
            setattr(encoder.get_submodule(parent), child, _plain(layer))
    for name, layer in list(encoder.named_modules()):
        if isinstance(layer, FrozenLinear | FrozenEmbedding):
            parent, _, child = name.rpartition(".")
            setattr(encoder.get_submodule(parent), child, layer.plain())


@torch.no_grad()
def _plain(adapted: Any) -> nn.Linear:
    """A layer of its own weights, that computes what the adapted one does."""
    layer = adapted.base_layer
    rest = layer.lora_rest.double() if isinstance(layer, RestLinear) else 0.0
    layer = layer.base_layer if isinstance(layer, RestLinear) else layer
    plain: nn.Linear = layer.plain() if isinstance(layer, FrozenLinear) else layer
    weight = plain.weight.double() + rest
    if hasattr(adapted, "ia3_l"):
        factor = adapted.ia3_l[ADAPTER].double().reshape(-1)
        weight = weight * factor[:, None]
        if plain.bias is not None:
            plain.bias.copy_(plain.bias.double() * factor)
    else:
        weight = weight + _change(adapted)
        lengths = getattr(adapted, "lora_magnitude_vector", {})
        if ADAPTER in lengths:  # dora: each row has a length of its own
            lengths = lengths[ADAPTER].weight.double()
            weight = weight * (lengths / weight.norm(dim=1))[:, None]
    plain.weight.copy_(weight)
    return plain


def _change(layer: Any) -> Tensor:
    """O x I float64, what factors add to their layer's weight."""
    if isinstance(layer, TripletLinear):
        scale = layer.lora_E.double()
        if layer.least is not None:
            scale = torch.where(layer.importance() < layer.least, 0.0, scale)
        return layer.scaling * (layer.lora_P.double() * scale) @ layer.lora_Q.double()
    up, down = (getattr(layer, key)[ADAPTER].weight.double() for key in ("lora_B", "lora_A"))
    found: Tensor = layer.scaling[ADAPTER] * up @ down
    return found
