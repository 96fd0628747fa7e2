"""Whether a model, in the mode in which it stands, keeps the examples of a batch apart.

Some code mixes them only while it trains (batch statistics written by hand, mixtures of inputs), so
a comparison in evaluation mode doesn't show it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wardround.client.gradients.base import Inputs, Loss, call_model, check_losses, select
from wardround.common.errors import TaskError

_SAME = 1e-4


def mixes_examples(model: nn.Module, loss: Loss, inputs: Inputs, targets: Tensor) -> bool | None:
    """Whether the loss of one of these examples depends on the others; None if they are too alike
    to tell.

    Each example is looked at among copies of itself. Shapes and random numbers (dropout) stay the
    same, so only the others can change its loss. The model is left as it was.

    Raises TaskError for a buffer that comes to hold what the batch held: it would change the next
    steps' gradients of all other examples, and no noise covers that.
    """
    wanted, kept = _forward(model, loss, inputs, targets)
    if bool((wanted == wanted[:1]).all()):
        return None
    for number in range(len(targets)):
        rows = torch.full((len(targets),), number, device=targets.device)
        found, buffers = _forward(model, loss, select(inputs, rows), targets[rows])
        for path, value in buffers.items():
            if not torch.equal(value, kept[path].to(value)):
                raise TaskError(
                    f"buffer '{path}' of the model comes to hold what a batch held, and no noise "
                    "covers it; leave it as it is while the model trains, or use nn.GroupNorm or "
                    "nn.LayerNorm instead"
                )
        if not torch.isclose(found[number], wanted[number], _SAME, 1e-6, equal_nan=True):
            return True
    return False


def _forward(
    model: nn.Module, loss: Loss, inputs: Inputs, targets: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The losses, and copies of the buffers as the forward left them; then both generators and
    buffers are put back."""
    before = [
        (f"{path}.{name}" if path else name, module, name, buffer, buffer.clone())
        for path, module in model.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    devices = [targets.device] if targets.device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            torch.manual_seed(0)
            losses = check_losses(loss(call_model(model, inputs), targets), len(targets))
        after = {path: module._buffers[name] for path, module, name, _, _ in before}
        return losses, {path: value.clone() for path, value in after.items() if value is not None}
    finally:
        for _, module, name, buffer, value in before:
            buffer.copy_(value)
            module._buffers[name] = buffer
