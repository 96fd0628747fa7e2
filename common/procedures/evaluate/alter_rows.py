"""Images and texts of a hospital's rows, altered as they are read (``alter.py`` has what is done).

Shapes: B rows at a time, T tokens of a text.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from wardround.common.tasks.inputs import Inputs, Rows, selected, taken
from wardround.common.tasks.text.encoder import encoder_folder, make_tokenizer
from wardround.common.tasks.text.task import TextTask

Change = Callable[[Tensor], Tensor]


class AlteredRows:
    """Inputs that are altered as they are read: in order, each once.

    Parameters
    ----------
    change : of rows, altered copies

    altered : N, those that have changed so far
    """

    def __init__(self, inputs: Inputs, change: Change) -> None:
        self._inputs, self._change = inputs, change
        self.altered = np.zeros(len(inputs), dtype=np.bool_)

    @property
    def dtype(self) -> torch.dtype:
        """As it was."""
        return self._inputs.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """As it was."""
        return tuple(self._inputs.shape)

    def __len__(self) -> int:
        return len(self._inputs)

    def take(self, rows: Rows) -> Tensor:
        """See ``StoredInputs``."""
        before = taken(self._inputs, rows)
        found = self._change(before)
        self.altered[rows] = (found != before).flatten(1).any(dim=1).numpy()
        return found

    def select(self, rows: Rows) -> AlteredRows:
        """See ``StoredInputs``."""
        return AlteredRows(selected(self._inputs, rows), self._change)


def altered_images(images: Tensor, kind: str, strength: float, draw: np.random.Generator) -> Tensor:
    """Images B x C x (D x) H x W, uint8 or float32 in [0, 1], altered and again such."""
    values = images.to(torch.float32)
    axes = tuple(range(1, values.ndim))
    mean = values.mean(dim=axes, keepdim=True)
    deviation = values.std(dim=axes, keepdim=True, correction=0)
    if kind == "noise":
        noise = draw.standard_normal(values.shape, dtype=np.float32)
        found = values + strength * deviation * torch.from_numpy(noise)
    elif kind == "contrast":
        found = mean + (1 - strength) * (values - mean)
    elif kind == "brightness":
        found = values + strength * deviation
    else:
        found = values
        for axis in range(2, values.ndim):
            found = _blurred(found, axis, strength)
    if images.dtype.is_floating_point:
        return found.clamp(0, 1).to(images.dtype)
    return found.round().clamp(0, torch.iinfo(images.dtype).max).to(images.dtype)


def _blurred(values: Tensor, axis: int, deviation: float) -> Tensor:
    """Along one axis, by a Gaussian to three deviations; pixels at an edge go on beyond it."""
    reach = max(1, round(3 * deviation))
    steps = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (steps / deviation) ** 2)
    weights /= weights.sum()
    size = values.shape[axis]
    found = torch.zeros_like(values)
    for step, weight in zip(steps, weights, strict=True):
        places = (torch.arange(size) + step).clamp(0, size - 1)
        found += weight * values.index_select(axis, places)
    return found


def altered_tokens(
    tokens: Tensor, task: TextTask, strength: float, draw: np.random.Generator
) -> Tensor:
    """Tokens B x T of which each, but padding and those that stand around every text, is unknown
    with the chance ``strength``."""
    known = make_tokenizer(encoder_folder(task.options.encoder))
    lengths = (tokens != known.pad).sum(dim=1, keepdim=True)
    places = torch.arange(tokens.shape[1])[None]
    inside = (places >= len(known.prefix)) & (places < lengths - len(known.suffix))
    here = torch.from_numpy(draw.random(tuple(tokens.shape)) < strength)
    return torch.where(inside & here, torch.full_like(tokens, known.unknown), tokens)
