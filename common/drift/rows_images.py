"""What is counted of images: how bright and how full of contrast, how much black and white.

Sizes aren't: images are of the model's size by the time that they are read.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wardround.common.drift.counts import Column
from wardround.common.drift.field import IMAGE, Field, outcome_name
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.inputs import in_spans, piece
from wardround.common.tasks.schema import Schema

_DARK, _BRIGHT = 0.02, 0.98


def image_columns(raw: Images, schema: Schema) -> dict[str, Column]:
    """Of each image, over all pixels and channels, what ``field.IMAGE`` names; its class, where
    known."""
    spans = in_spans(raw.pixels)
    parts = [_measured(piece(raw.pixels, span)) for span in spans]
    values = torch.cat(parts).numpy() if parts else np.zeros((0, len(IMAGE)))
    (one,) = schema.inputs
    found = {
        Field("input", f"{one.name}: {what}").key: Column(values[:, place].copy())
        for place, what in enumerate(IMAGE)
    }
    if (raw.labels >= 0).any():
        found[Field("outcome", outcome_name(schema)).key] = Column(
            np.where(raw.labels >= 0, raw.labels, -1).astype(np.int64)
        )
    return found


def _measured(pixels: Tensor) -> Tensor:
    """Mean, deviation, shares of dark and of bright pixels of each image: B x 4 float64."""
    values = pixels.flatten(1).double()
    if pixels.dtype == torch.uint8:
        values = values / 255
    return torch.stack(
        [
            values.mean(1),
            values.std(1, correction=0),
            (values <= _DARK).double().mean(1),
            (values >= _BRIGHT).double().mean(1),
        ],
        dim=1,
    )
