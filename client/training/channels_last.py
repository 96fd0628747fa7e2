"""Convolutions over images with channels innermost, while a model trains on a CPU.

oneDNN's kernels take blocks of channels. From the usual order (N x C x H x W) every call brings
inputs and outputs into such blocks and back; where a convolution's weights lie channels innermost,
what it gives does too, and so on through the network. The numbers are the same ones in another
order; sums are rounded in another order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def channels_last(model: nn.Module, device: str) -> Iterator[None]:
    """Within, the weights of the model's ``nn.Conv2d`` lie channels innermost.

    After it they lie where they lay before, as they lay, with the values that they have then. On
    other devices than a CPU nothing is done: nobody has measured it there.
    """
    weights = []
    if torch.device(device).type == "cpu":
        convolutions = [one for one in model.modules() if isinstance(one, nn.Conv2d)]
        weights = list(dict.fromkeys(p for one in convolutions for p in one.parameters(False)))
    before = [(p, p.data) for p in weights if p.dim() == 4]
    for p, _ in before:
        p.data = p.data.contiguous(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for p, was in before:
            p.data = was.copy_(p.data)
            p.grad = None
