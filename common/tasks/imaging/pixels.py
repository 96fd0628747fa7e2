"""An image's numbers to the tensor that a model gets: one grey, one scale, one size.

Bytes stay bytes. Everything else becomes float32 in [0, 1] by ``task.window``, or by the extremes
of the image's own finite values; what is no number (NaN outside a field of view, padding) becomes
the darkest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wardround.common.errors import DataError, Unreadable
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.imaging.space import CUT, in_millimetres

NO_NUMBER = "pixels are no finite numbers, and count as the darkest"
_LUMINANCE = (19595, 38470, 7471)
"""Of red, green, blue in 65536ths: ITU-R 601-2, rounded as Pillow does."""


@dataclass(frozen=True)
class Decoded:
    """An image as the task keeps it.

    pixels : C x size, uint8 or float32 in [0, 1]
    patient : a digest, or None
    left_out : of the image's own files (slices, pages)
    noted : what its hospital should know of it; completes 'in N images ...'
    voxel : mm of the file's image that became one pixel of ``pixels``, along each axis; None where
        the file doesn't say
    """

    pixels: Tensor
    patient: str | None = None
    left_out: tuple[LeftOut, ...] = ()
    noted: tuple[str, ...] = ()
    voxel: tuple[float, ...] | None = None


def fit(
    values: NDArray[Any],
    options: ImagingOptions,
    place: str,
    colours: bool | None = None,
    inverted: bool = False,
    spacing: Sequence[float] | None = None,
) -> Decoded:
    """Channels first, grey or in colours as asked for, windowed and resampled.

    Parameters
    ----------
    values : rows x columns, or depth x rows x columns, with channels behind if ``colours``
    colours : None for an array that doesn't say so: told by the number of its axes
    inverted : low values are bright (MONOCHROME1)
    spacing : mm from pixel to pixel along each axis; None where the file doesn't say

    Raises DataError for an image of other axes, without a finite number, or, where ``task.spacing``
    is set, without a spacing of its own.
    """
    values = _channels_first(values, len(options.size), place, colours)
    if options.channels == 1 and len(values) == 3:
        values = _grey(values)
    elif len(values) != options.channels:
        values = values[[0, 0, 0]]
    noted: tuple[str, ...] = ()
    if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
        if not finite.any():
            raise Unreadable(f"{place}: none of its pixels is a finite number; leave the image out")
        values, noted = np.where(finite, values, np.nan), (NO_NUMBER,)
    scale = scaled(values, options.window)
    # the order: channels, grey, what is no number, window, inversion, size
    if inverted:  # within the window, not before it
        scale = (255 if scale.dtype == np.uint8 else 1) - scale
    if noted:
        scale = np.nan_to_num(scale, nan=0.0)
    return _sized(torch.from_numpy(scale.copy()), options, place, spacing, noted)


def _sized(
    pixels: Tensor,
    options: ImagingOptions,
    place: str,
    spacing: Sequence[float] | None,
    noted: tuple[str, ...],
) -> Decoded:
    """Of ``task.size``: by millimetres where ``task.spacing`` says so, else stretched to it."""
    size = options.size
    if options.spacing is None:
        ratios = [before / after for before, after in zip(pixels.shape[1:], size, strict=True)]
        voxel = spacing and tuple(s * r for s, r in zip(spacing, ratios, strict=True))
        return Decoded(_resized(pixels, size), noted=noted, voxel=tuple(voxel) if voxel else None)
    if spacing is None:
        raise DataError(
            f"{place}: its file doesn't say how many mm apart its pixels are, which task.spacing "
            "needs; leave the setting out, or save it as DICOM or NIfTI with spacings"
        )
    found, cut = in_millimetres(pixels, spacing, options.spacing, size)
    return Decoded(found, noted=(*noted, CUT) if cut else noted, voxel=tuple(options.spacing))


def scaled(values: NDArray[Any], window: tuple[float, float] | None) -> NDArray[Any]:
    """uint8 as it is; else float32 in [0, 1], by the window or the finite values' own extremes.

    NaN stays NaN.
    """
    if values.dtype == np.uint8 and window is None:
        return values
    # whole numbers beyond 2^24, and differences of large ones, need more than float32 has
    values = values.astype(np.float64 if values.dtype.itemsize > 2 else np.float32)
    if window is None:
        window = (float(np.nanmin(values)), float(np.nanmax(values)))
    low, high = window
    span = high - low if high > low else 1.0
    if not np.isfinite(span):  # of float64's extremes: a quarter of all three is the same fraction
        values, low, span = values / 4, low / 4, high / 4 - low / 4
    return np.clip((values - low) / span, 0, 1).astype(np.float32)


def _channels_first(
    values: NDArray[Any], axes: int, place: str, colours: bool | None
) -> NDArray[Any]:
    if colours is None:
        if values.ndim == axes == 3 and values.shape[-1] in (3, 4):
            raise DataError(
                f"{place}: a picture of colours, by its shape, where task.size has 3 numbers; give "
                "it two"
            )
        colours = values.ndim == axes + 1 and values.shape[-1] in (1, 3, 4)
    if values.ndim != axes + colours:
        raise DataError(
            f"{place}: an image of {values.ndim - colours} axes, where task.size has {axes}; "
            f"{_mend(values.shape, axes, colours)}"
        )
    return np.moveaxis(values[..., :3], -1, 0) if colours else values[None]


def _mend(shape: Sequence[int], axes: int, colours: bool) -> str:
    """What to do about an image of another number of axes."""
    if not colours and len(shape) == axes + 1 and shape[0] in (1, 3):
        return "its channels stand first, it seems: move them last, as in rows x columns x channels"
    found = len(shape) - colours
    if found == 2:
        return "give it two numbers"
    if found == 3:
        return "give it three numbers, or save slices as pictures"
    return "save each volume, or point in time, as an image of its own"


def _grey(values: NDArray[Any]) -> NDArray[Any]:
    """1 x ...: the luminance of 3 x ..., in every format the same; of bytes a byte.

    0.299 R + 0.587 G + 0.114 B in whole 65536ths, rounded to nearest: a byte's grey is then the
    same on every machine, and Pillow's.
    """
    if values.dtype == np.uint8:
        mixed = sum(part.astype(np.int32) * w for part, w in zip(values, _LUMINANCE, strict=True))
        return np.asarray((mixed + 0x8000) >> 16, dtype=np.uint8)[None]
    weights = np.array(_LUMINANCE) / 65536
    return np.asarray(np.tensordot(weights, values.astype(np.float64), 1))[None]


def _resized(pixels: Tensor, size: list[int]) -> Tensor:
    """C x size, by interpolation, bilinear or trilinear. Pictures are smoothed first where they
    get smaller (torch can't for volumes); bytes are rounded back to bytes."""
    if list(pixels.shape[1:]) == size:
        return pixels
    flat = len(size) == 2
    mode = "bilinear" if flat else "trilinear"
    resized = F.interpolate(
        pixels[None].float(), size, mode=mode, align_corners=False, antialias=flat
    )[0]
    if pixels.dtype == torch.uint8:
        return resized.round_().clamp_(0, 255).to(torch.uint8)
    return resized.clamp_(0, 1)
