"""Drawing a training row from one update, with and without protection.

Where the first layer is linear with an intercept, one row's gradient gives the row itself: the
weight's gradient is the row times the intercept's (Phong et al. 2018, 10.1109/TIFS.2017.2787987).
Otherwise inputs are searched whose gradient points the same way (Geiping et al. 2020, 2003.14053):
cosine distance, a total-variation prior for images, Adam on signs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Gradients = list[Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Inversion:
    """How close an attempt came.

    row : what was drawn, in the input's shape
    correlation : with the true row, over its values; 1 is the row itself up to scale
    """

    row: Tensor
    correlation: float


@dataclass(frozen=True)
class Search:
    """How inputs are searched: ``steps`` of Adam, from the start that ``seed`` draws."""

    steps: int = 300
    seed: int = 0


_SHORT = Search()


def gradient_of(model: nn.Module, loss: Loss, row: Tensor, target: Tensor) -> Gradients:
    """Of one row (1 x ...), for each trainable parameter."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss(model(row), target).sum(), parameters, allow_unused=True)
    return [
        torch.zeros_like(p) if g is None else g.detach()
        for p, g in zip(parameters, found, strict=True)
    ]


def invert(
    model: nn.Module,
    loss: Loss,
    gradients: Gradients,
    truth: Tensor,
    target: Tensor,
    *,
    search: Search = _SHORT,
) -> Inversion:
    """Draw the row (1 x ...) that the gradients are of. The label is given to the attacker."""
    row = _by_first_layer(model, gradients, truth.shape)
    if row is None:
        row = _by_search(model, loss, gradients, truth.shape, target, search)
    return Inversion(row, correlation(row, truth))


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's, over all values; 0 where one of them is constant."""
    a, b = one.flatten().double(), other.flatten().double()
    a, b = a - a.mean(), b - b.mean()
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 0 else 0.0


def _by_first_layer(model: nn.Module, gradients: Gradients, shape: torch.Size) -> Tensor | None:
    """The row by division: of z = W x + b with d = dL/dz, dL/dW = d x^T and dL/db = d, so a row of
    the one over an entry of the other is x. The unit with the largest d, where rounding and noise
    weigh least. None where the model doesn't begin so; zeros where no unit learns anything."""
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    layers = [(path, m) for path, m in model.named_modules() if not list(m.children())]
    if not layers:
        return None
    path, first = next(((p, m) for p, m in layers if list(m.parameters())), layers[0])
    prefix = f"{path}." if path else ""
    if not isinstance(first, nn.Linear) or f"{prefix}bias" not in names:
        return None
    weight, bias = (gradients[names.index(prefix + key)] for key in ("weight", "bias"))
    if weight.shape[1] != shape[1:].numel():
        return None
    unit = int(bias.abs().argmax())
    if bias[unit] == 0:
        return torch.zeros(shape)
    return (weight[unit] / bias[unit]).view(shape)


def _by_search(
    model: nn.Module,
    loss: Loss,
    gradients: Gradients,
    shape: torch.Size,
    target: Tensor,
    search: Search,
) -> Tensor:
    """The row by Geiping et al.'s search, from one start and by few steps: they take thousands."""
    generator = torch.Generator().manual_seed(search.seed)
    row = torch.randn(shape, generator=generator).requires_grad_()
    optimizer, steps = torch.optim.Adam([row], lr=0.1), search.steps
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps // 2, 4 * steps // 5], 0.3)
    parameters = [p for p in model.parameters() if p.requires_grad]
    wanted = torch.cat([g.flatten() for g in gradients])
    for _ in range(steps):
        optimizer.zero_grad()
        found = torch.autograd.grad(
            loss(model(row), target).sum(), parameters, create_graph=True, allow_unused=True
        )
        flat = torch.cat(
            [
                (torch.zeros_like(p) if g is None else g).flatten()
                for p, g in zip(parameters, found, strict=True)
            ]
        )
        distance = 1 - torch.cosine_similarity(flat, wanted, dim=0)
        if row.dim() == 4:
            distance = distance + 1e-2 * _total_variation(row)
        distance.backward()  # type: ignore[no-untyped-call]
        assert row.grad is not None
        row.grad.sign_()
        optimizer.step()
        schedule.step()
    return row.detach()


def _total_variation(images: Tensor) -> Tensor:
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean()
    return down + (images[..., 1:] - images[..., :-1]).abs().mean()
