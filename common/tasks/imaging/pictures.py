"""PNG, JPEG, BMP and TIFF by Pillow, in every sample format that Pillow reads right, or refused."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.imaging.pixels import Decoded, fit

if TYPE_CHECKING:
    from PIL import Image

_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339
_WHITE_IS_ZERO = 0
_UNSIGNED, _SIGNED = 1, 2
_ORIENTED = frozenset(["exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"])
"""Where Pillow looks for an orientation; a TIFF's own tag is followed when it is loaded."""
_BYTES = frozenset(
    ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"]
)
"""Pillow's modes of at most 8 bits a channel; others are of one deeper channel."""


@dataclass(frozen=True)
class _Read:
    """values : rows x columns (x 3 if in colours); inverted : low values are bright"""

    values: NDArray[Any]
    inverted: bool = False


def read_picture(path: Path, options: ImagingOptions, place: str) -> Decoded:
    """The picture of a file, turned as its orientation says. Raises DataError, and Pillow's errors.

    Of a JPEG that holds previews or gain maps behind its picture (MPO), the picture.
    """
    from PIL import Image, ImageOps

    left: tuple[LeftOut, ...] = ()
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                pages = int(getattr(image, "n_frames", 1))
                if pages > 1 and image.format != "MPO":
                    raise DataError(
                        f"{place}: {pages} pages, where an image is one; save each as a file of "
                        "its own, or a volume as NIfTI"
                    )
                if pages > 1:
                    left = (LeftOut(pages - 1, "pictures", "behind another in a JPEG file (MPO)"),)
                tags = dict(getattr(image, "tag_v2", {}))
                image.load()
                if not _ORIENTED.isdisjoint(image.info):  # most files have none, and it costs
                    ImageOps.exif_transpose(image, in_place=True)
                read = _values(image, tags, options.channels, place)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise DataError(f"{place}: larger than an image should be; crop or shrink it") from None
    found = fit(read.values, options, place, read.values.ndim == 3, read.inverted)
    return Decoded(found.pixels, None, left, found.noted)


def _values(image: Image.Image, tags: dict[int, Any], channels: int, place: str) -> _Read:
    formats = tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))
    signed = _SIGNED in (formats if isinstance(formats, tuple) else (formats,))
    white_is_zero = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if image.mode == "L" and signed and not white_is_zero:  # Pillow reads the bits as unsigned
        return _Read(np.asarray(image).view(np.int8))
    if image.mode in _BYTES and not signed:
        mode = "L" if channels == 1 else "RGB"
        return _Read(np.asarray(image if image.mode == mode else image.convert(mode)))
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "I" and tags and not signed:  # the bits of an unsigned one
            values = values.view(np.uint32)
        return _Read(values, white_is_zero)
    raise DataError(
        f"{place}: samples of a form that isn't read (Pillow's mode {image.mode}"
        f"{', signed' if signed else ''}); save it in grey or RGB"
    )
