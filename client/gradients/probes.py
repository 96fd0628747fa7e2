"""Whether a model, in the mode in which it stands, keeps the examples of a batch apart.

Some code mixes them only while it trains (batch statistics written by hand, mixtures of inputs), so
a comparison in evaluation mode doesn't show it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wardround.client.gradients.base import Inputs, Loss, call_model, check_losses, select
from wardround.common.errors import TaskError

_RELATIVE, _ABSOLUTE = 1e-4, 1e-6
Buffers = dict[str, Tensor]


def mixes_examples(model: nn.Module, loss: Loss, inputs: Inputs, targets: Tensor) -> bool | None:
    """Whether the loss of one of these examples depends on the others; None if they are too alike
    to tell.

    Each example is looked at among copies of itself. Shapes and random numbers (dropout) stay the
    same, so only the others can change its loss. The model is left as it was.

    Raises TaskError for a buffer that keeps something of a batch by which later losses change: it
    would change the next steps' gradients of all other examples, and no noise covers that.
    """
    wanted, kept = _forward(model, loss, inputs, targets)
    if bool((wanted == wanted[:1]).all()):
        return None
    mixed = False
    for number in range(len(targets)):
        rows = torch.full((len(targets),), number, device=targets.device)
        found, other = _forward(model, loss, select(inputs, rows), targets[rows])
        if differ := [path for path in kept if not torch.equal(other[path], kept[path])]:
            one, two = (_forward(model, loss, inputs, targets, left)[0] for left in (kept, other))
            if not _same(one, two):
                raise TaskError(
                    f"buffer '{differ[0]}' of the model keeps something of a batch that changes "
                    "later losses, and no noise covers it; leave it as it is while the model "
                    "trains, or use nn.GroupNorm or nn.LayerNorm instead"
                )
        mixed |= not _same(found[number], wanted[number])
    return mixed


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, _RELATIVE, _ABSOLUTE, equal_nan=True)


def _forward(
    model: nn.Module, loss: Loss, inputs: Inputs, targets: Tensor, start: Mapping[str, Tensor] = {}
) -> tuple[Tensor, Buffers]:
    """The losses, and copies of the buffers as the forward left them; buffers and random generators
    are then put back. ``start``: what buffers hold before."""
    before = [
        (f"{path}.{name}" if path else name, module, name, buffer, buffer.clone())
        for path, module in model.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    devices = [targets.device] if targets.device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            for path, _, _, buffer, value in before:
                buffer.copy_(start.get(path, value))
            torch.manual_seed(0)
            losses = check_losses(loss(call_model(model, inputs), targets), len(targets))
        after = {path: module._buffers[name] for path, module, name, _, _ in before}
        return losses, {path: value.clone() for path, value in after.items() if value is not None}
    finally:
        for _, module, name, buffer, value in before:
            with torch.no_grad():
                buffer.copy_(value)
            module._buffers[name] = buffer
