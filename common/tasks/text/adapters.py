"""What of the encoder is trained: all of it, nothing, or low-rank adapters beside its layers.

With an adapter a linear layer W x becomes W x + (alpha / r) B A x, with W frozen: only A and B
travel (LoRA; Hu et al. 2021, arXiv 2106.09685). Averaging A and B separately is not averaging their
products. ``ffa_lora`` keeps A as it was initialised, the same at every party, and trains B alone:
then mean_k(B_k) A is mean_k(B_k A), and noise for privacy isn't multiplied with itself (FFA-LoRA;
Sun et al. 2024, arXiv 2403.12313).

``adalora`` writes the change as P diag(E) Q and leaves it a budget of triplets over all layers
(Zhang et al. 2023, arXiv 2303.10512). This form differs from the paper's, because here training is
cut into rounds and a task doesn't see steps: the budget is the same from the first step on; a
triplet's importance is the size of its own contribution, |E_i| |P_i| |Q_i|, which needs no penalty
that keeps P and Q orthonormal, and there is none. So which triplets count follows from the model
alone and is the same at every party.

Shapes: I inputs and O outputs of a layer, r rank, L adapted layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wardround.common.errors import TaskError
from wardround.common.tasks.text.options import TextOptions


def adapt(encoder: nn.Module, options: TextOptions) -> None:
    """Put adapters into a frozen encoder, in place, and leave only them trainable.

    Initial values come from torch's global generator; the adapted encoder computes what the encoder
    did. Raises TaskError if ``task.target_modules`` names no linear layer.
    """
    if options.tuning in ("full", "head"):
        return
    layers = {
        name: module
        for name, module in encoder.named_modules()
        if name.rpartition(".")[2] in options.adapted and isinstance(module, nn.Linear)
    }
    unknown = set(options.adapted) - {name.rpartition(".")[2] for name in layers}
    if unknown:
        linear = {n.rpartition(".")[2] for n, m in encoder.named_modules() if type(m) is nn.Linear}
        raise TaskError(
            f"task.target_modules: the model has no linear layer '{min(unknown)}'; it has "
            f"{', '.join(sorted(linear))}"
        )
    if options.tuning == "adalora":
        for name, layer in layers.items():
            parent = encoder.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], TripletLinear(layer, options))
        return
    _inject(encoder, options)
    if options.tuning == "ffa_lora":
        for name, parameter in encoder.named_parameters():
            if ".lora_A." in name:
                parameter.requires_grad = False


def _inject(encoder: nn.Module, options: TextOptions) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise TaskError("adapters need: pip install 'wardround[text]'") from None
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,  # type: ignore[arg-type]  # it only divides it
        target_modules=list(options.adapted),
        lora_dropout=0.0,
        bias="none",
    )
    inject_adapter_in_model(config, encoder)


class TripletLinear(nn.Module):
    """A frozen linear layer and r triplets: W x + (alpha / r) P diag(E) Q x.

    ``lora_P``: O x r, ``lora_E``: r, zero at first, ``lora_Q``: r x I.
    """

    def __init__(self, layer: nn.Linear, options: TextOptions) -> None:
        super().__init__()
        self.base_layer = layer
        self.scaling = options.alpha / options.rank
        self.lora_P = nn.Parameter(torch.empty(layer.out_features, options.rank))
        self.lora_E = nn.Parameter(torch.zeros(options.rank))
        self.lora_Q = nn.Parameter(torch.empty(options.rank, layer.in_features))
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


def merge(encoder: nn.Module) -> None:
    """Put what adapters change into the layers' own weights, in place: plain layers are left.

    Summed in float64 and rounded once, so the encoder computes what it did, up to the rounding of
    float32. With triplets, only those that ``budget`` leaves.
    """
    for name, layer in list(encoder.named_modules()):
        change = _change(layer)
        if change is None:
            continue
        plain: Any = layer.get_submodule("base_layer")
        with torch.no_grad():
            plain.weight.copy_(plain.weight.double() + change)
        parent, _, child = name.rpartition(".")
        setattr(encoder.get_submodule(parent), child, plain)


def _change(layer: nn.Module) -> Tensor | None:
    """O x I float64, what an adapter adds to its layer's weight; None for a layer without one."""
    with torch.no_grad():
        if isinstance(layer, TripletLinear):
            scale = layer.lora_E.double()
            if layer.least is not None:
                scale = torch.where(layer.importance() < layer.least, 0.0, scale)
            return layer.scaling * (layer.lora_P.double() * scale) @ layer.lora_Q.double()
        adapted: Any = layer
        if not hasattr(adapted, "lora_A"):
            return None
        found = torch.zeros(adapted.base_layer.weight.shape, dtype=torch.float64)
        for name, down in adapted.lora_A.items():
            up = adapted.lora_B[name].weight.double()
            found += adapted.scaling[name] * up @ down.weight.double()
        return found
