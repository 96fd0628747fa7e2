"""Clipped sums by hand: one example after the other, in double precision."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wardround.client.gradients import ClippedSum


def losses(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def by_hand(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    units: list[int] | None,
    count: int,
    norm: float,
    per_layer: bool = False,
) -> tuple[list[Tensor], list[float]]:
    """One example after the other, in double precision; per_layer by owner of a parameter."""
    model = copy.deepcopy(model).double()
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    owners = [n.rpartition(".")[0] for n, _ in named]
    total, norms = [torch.zeros_like(p) for _, p in named], []
    numbers = list(range(len(targets))) if units is None else units
    for unit in range(count):
        sums = [torch.zeros_like(p) for _, p in named]
        for i, number in enumerate(numbers):
            if number == unit:
                loss = losses(model(inputs[i : i + 1]), targets[i : i + 1]).sum()
                each = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
                for s, g in zip(sums, each, strict=True):
                    s += 0 if g is None else g
        norms.append(math.sqrt(sum(float((s**2).sum()) for s in sums)))
        for owner in set(owners) if per_layer else {None}:
            mine = [i for i, one in enumerate(owners) if owner in (None, one)]
            size = math.sqrt(sum(float((sums[i] ** 2).sum()) for i in mine))
            bound = norm / math.sqrt(len(set(owners))) if per_layer else norm
            for i in mine:
                total[i] += sums[i] * min(1.0, bound / size if size else 1.0)
    return [t.detach() for t in total], norms


class LowRank(nn.Module):
    """As peft writes it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.base_layer = nn.Linear(size, size).requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(size, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, size, bias=False)})

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.base_layer(x) + 0.5 * self.lora_B["default"](self.lora_A["default"](x))
        return found


def agree(found: ClippedSum, wanted: tuple[list[Tensor], list[float]]) -> None:
    torch.testing.assert_close(
        found.norms, torch.tensor(wanted[1], dtype=torch.float32), rtol=2e-4, atol=2e-5
    )
    for one, other in zip(found.gradients, wanted[0], strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-3, atol=3e-5)
    assert found.dropped == 0
