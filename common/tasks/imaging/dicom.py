"""One DICOM file's pixels in the modality's units, without what identifies the patient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import DataError, Unreadable
from wardround.common.tasks.imaging.deidentify import PIXELS, deidentify, silent_pydicom

if TYPE_CHECKING:
    from pydicom import Dataset

PHOTOMETRIC = frozenset(
    "MONOCHROME1 MONOCHROME2 RGB YBR_FULL YBR_FULL_422 YBR_ICT YBR_RCT".split() + ["PALETTE COLOR"]
)
"""PS3.3 C.7.6.3.1.2; pydicom turns the YBR ones into RGB. The others are retired, or films'."""
_RETIRED = ("HSV", "ARGB", "CMYK", "YBR_PARTIAL_422", "YBR_PARTIAL_420")


def has_pixels(dataset: Dataset) -> bool:
    """Whether it is an image: reports, presentation states and DICOMDIR aren't."""
    return any(name in dataset for name in PIXELS)


def in_colours(dataset: Dataset) -> bool:
    """Whether ``dicom_pixels`` gives three channels."""
    return dataset.get("SamplesPerPixel", 1) == 3 or _photometric(dataset) == "PALETTE COLOR"


def is_inverted(dataset: Dataset) -> bool:
    """Whether low values are bright."""
    return _photometric(dataset) == "MONOCHROME1"


def _photometric(dataset: Dataset) -> str:
    return str(dataset.get("PhotometricInterpretation", "")).strip()


def dicom_pixels(dataset: Dataset, windowed: bool, place: str) -> NDArray[Any]:
    """Pixels in the modality's units (of a CT: Hounsfield), or colours; padding is NaN.

    ``dataset`` is de-identified first. Bytes stay bytes, and fewer bits become bytes, unless
    ``windowed``: a window is meant in the file's own values. Raises DataError, pydicom's errors.
    """
    from pydicom.pixels import apply_color_lut, apply_modality_lut

    _check_format(dataset, place)
    slope, intercept = _rescale(dataset, place)
    palette, bits = _photometric(dataset) == "PALETTE COLOR", int(dataset.get("BitsStored", 8))
    padding = _padding_range(dataset)
    with silent_pydicom():
        deidentify(dataset)
        values = _decompressed(dataset, place)
        if palette:
            colours = np.asarray(apply_color_lut(values, dataset))
            return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours
        if slope is None or intercept is None:
            units = np.asarray(apply_modality_lut(values, dataset))
        else:
            same = values.dtype == np.uint8 and (slope, intercept) == (1, 0)
            units = values if same else np.asarray(values * slope + intercept)
    if units.dtype == np.uint8:
        if bits < 8 and not windowed:  # else a mask's ones are nearly black
            units = np.rint(units * (255 / (2**bits - 1))).astype(np.uint8)
        return units
    if padding is None:
        return units
    return np.where((values >= padding[0]) & (values <= padding[1]), np.nan, units)


def _decompressed(dataset: Dataset, place: str) -> NDArray[Any]:
    """Stored values. By Pillow where it can: lossy pictures then have the same values whatever else
    is installed. Raises Unreadable, which names the compression, and pydicom's errors."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return np.asarray(dataset.pixel_array)
    for plugin in ("pillow", ""):
        dataset.pixel_array_options(decoding_plugin=plugin)
        try:
            return np.asarray(dataset.pixel_array)
        except Exception:  # of the plugins, and of the libraries behind them
            continue
    name = syntax.name if not syntax.is_private and syntax.name != syntax else "a form of its own"
    raise Unreadable(
        f"{place}: its pixels, compressed as {name}, {dataset.get('BitsStored', '?')} bits, can't "
        "be read; decompress it (gdcmconv --raw, dcmdjpeg), or where this computer may use GPL "
        "software pip install pylibjpeg pylibjpeg-libjpeg, which reads JPEG of 12 bits"
    )


def _check_format(dataset: Dataset, place: str) -> None:
    name = _photometric(dataset)
    if name not in PHOTOMETRIC:
        told = name if name in _RETIRED else "that it names"
        raise DataError(
            f"{place}: the photometric interpretation {told} isn't read; convert it to MONOCHROME2 "
            "or RGB"
        )
    stored, high = dataset.get("BitsStored"), dataset.get("HighBit")
    if "PixelData" in dataset and stored and high is not None and high != stored - 1:
        raise DataError(
            f"{place}: its samples don't begin at the lowest bit (HighBit isn't BitsStored - 1); "
            "convert it"
        )


def _padding_range(dataset: Dataset) -> tuple[int, int] | None:
    """Stored values that the file says are no part of the image (PS3.3 C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = [int(value), int(value if limit is None else limit)]
    return min(ends), max(ends)


def _rescale(dataset: Dataset, place: str) -> tuple[float | None, float | None]:
    """Slope and intercept (units = stored * slope + intercept), which an enhanced file's frames
    have in a functional group; None where pydicom is to look for a table.
    """
    if "ModalityLUTSequence" in dataset:
        return None, None
    key = "PixelValueTransformationSequence"
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if any(key in frame for frame in frames):
        raise DataError(
            f"{place}: each frame has units of its own, which isn't supported; convert it to NIfTI"
        )
    items = [
        g[key].value[0] for g in dataset.get("SharedFunctionalGroupsSequence") or [] if key in g
    ]
    for item in [*items, dataset]:
        if item.get("RescaleSlope") is not None and item.get("RescaleIntercept") is not None:
            return float(item.RescaleSlope), float(item.RescaleIntercept)
    return None, None
