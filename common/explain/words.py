"""Integrated gradients of a text model's output, token by token (Sundararajan et al., ICML 2017).

From padding's embedding at every token to the text's own, along a straight line. The parts of a
row add up to its output less that of the padded text, up to the error of the sum over steps, which
comes beside them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.errors import TaskError

STEPS = 64


def token_parts(
    encoder: nn.Module, model: nn.Module, tokens: Tensor, chosen: Any, pad: int, keep: Tensor
) -> tuple[NDArray[np.float64], float, float]:
    """Parts of one row's output, T, the output of the baseline, and what the parts miss.

    encoder : has ``get_input_embeddings``; ``model`` takes token ids, 1 x T, through it
    chosen : of the model's outputs, B x ..., the number that is explained, B
    keep : T, True for tokens that stay in the baseline (those around a text)

    Raises TaskError for an encoder without word embeddings.
    """
    found = getattr(encoder, "get_input_embeddings", lambda: None)()
    if not isinstance(found, nn.Module):
        raise TaskError("the encoder has no embeddings of words to look at")
    own = found(tokens).detach()
    blank = torch.where(keep[None, :, None], own, found(torch.full_like(tokens, pad)).detach())
    steps = (torch.arange(STEPS, dtype=own.dtype) + 0.5) / STEPS  # midpoints
    slopes = torch.zeros_like(own)
    for step in steps:
        point = (blank + step * (own - blank)).requires_grad_()
        (slope,) = torch.autograd.grad(_at(found, model, tokens, point, chosen).sum(), point)
        slopes += slope / STEPS
    with torch.no_grad():
        whole = float(_at(found, model, tokens, own, chosen)[0])
        base = float(_at(found, model, tokens, blank, chosen)[0])
    parts = ((own - blank) * slopes).sum(2)[0].double().numpy()
    return parts, base, whole - base - float(parts.sum())


def _at(embeddings: nn.Module, model: nn.Module, tokens: Tensor, point: Tensor, chosen: Any) -> Any:
    """The number at these embeddings, whatever the tokens'."""
    handle = embeddings.register_forward_hook(lambda module, inputs, outputs: point)
    try:
        return chosen(model(tokens))
    finally:
        handle.remove()
