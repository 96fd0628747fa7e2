"""An image with a heat map over it, as PNG: a patient's picture, which stays where it is made."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import TaskError

_SIDE = 224
_SHARE = 0.5


def overlay(image: NDArray[np.generic], heat: NDArray[np.float64]) -> bytes:
    """The image in grey with the map in red over it; of a volume the slice where the map is most.

    image : C x rows x columns or C x depth x rows x columns, uint8 or numbers in [0, 1]
    heat : without the channels, 0 to 1

    Raises TaskError without Pillow.
    """
    try:
        from PIL import Image
    except ImportError:
        raise TaskError("pictures need: pip install 'wardround[imaging]'") from None
    grey = image.astype(np.float64).mean(axis=0)
    if image.dtype == np.uint8:
        grey = grey / 255
    if grey.ndim == 3:
        place = int(heat.reshape(len(heat), -1).sum(axis=1).argmax())
        grey, heat = grey[place], heat[place]
    grey = np.clip(grey, 0, 1)
    share = _SHARE * heat[..., None]
    colours = grey[..., None].repeat(3, axis=-1) * (1 - share) + share * np.array([1.0, 0.15, 0.1])
    picture = Image.fromarray((colours * 255).round().astype(np.uint8))
    side = max(1, _SIDE // max(grey.shape)) * np.array(grey.shape[::-1])
    picture = picture.resize((int(side[0]), int(side[1])), Image.Resampling.NEAREST)
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return out.getvalue()
