"""One file to an array: PNG, JPEG, BMP and TIFF by Pillow, DICOM by pydicom, NIfTI by nibabel.

DICOM is de-identified before its pixels are looked at. A folder is a volume whose files are its
slices.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wardround.common.errors import DataError, WardroundError
from wardround.common.tasks.imaging.deidentify import (
    burned_in,
    deidentify,
    read_dicom,
    silent_pydicom,
)
from wardround.common.tasks.imaging.images import digest
from wardround.common.tasks.imaging.options import ImagingOptions

if TYPE_CHECKING:
    from pydicom import Dataset

PICTURES = frozenset([".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"])
DICOM = frozenset([".dcm", ".dicom", ".ima"])
NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Decoded:
    """``pixels``: C x size, uint8 or float32 in [0, 1]; ``patient``: a digest, or None."""

    pixels: Tensor
    patient: str | None = None


def is_image(path: Path) -> bool:
    """Whether a file's name is one of an image that ``decode`` reads."""
    name = path.name.lower()
    return path.suffix.lower() in PICTURES | DICOM or name.endswith(NIFTI)


def decode(path: Path, options: ImagingOptions, place: str) -> Decoded | None:
    """An image of the size and channels asked for; None for one that is to be left out.

    Parameters
    ----------
    place : says in errors which file it is, without its name

    Raises DataError for what can't be read, or shows who the patient is.
    """
    try:
        if path.is_dir():
            return _series(path, options, place)
        if path.name.lower().endswith(NIFTI):
            return Decoded(fit(_nifti(path), options, place))
        if path.suffix.lower() in PICTURES:
            return Decoded(fit(_picture(path, options.channels), options, place))
        dataset = read_dicom(path, place)
        if not _may_be_read(dataset, options, place):
            return None
        return _decoded([dataset], options, place)
    except ImportError as error:
        raise DataError(
            f"{place}: reading it needs {error.name}: pip install 'wardround[imaging]'"
        ) from None
    except WardroundError:
        raise
    except Exception as error:  # three libraries' readers, each with errors of its own
        raise DataError(f"{place}: not readable as an image ({type(error).__name__})") from None


def fit(values: NDArray[Any], options: ImagingOptions, place: str) -> Tensor:
    """Channels first, windowed and resampled: C x size.

    values : rows x columns, with channels behind (3) in pictures of colours; or a volume
    """
    axes = len(options.size)
    if values.ndim == axes:
        values = values[None]
    elif values.ndim == axes + 1 and values.shape[-1] in (1, 3, 4):
        values = np.moveaxis(values[..., :3], -1, 0)
    else:
        raise DataError(
            f"{place}: an image of {values.ndim} axes, where task.size has {axes}; give it "
            f"{'two' if values.ndim == 2 else 'three'} numbers"
        )
    if options.channels == 1 and len(values) == 3:
        values = values.mean(0, keepdims=True).round().astype(values.dtype)
    elif len(values) != options.channels:
        values = values[[0, 0, 0]]
    pixels = torch.from_numpy(scaled(values, options.window).copy())  # (a file's is read-only)
    if list(pixels.shape[1:]) == options.size:
        return pixels
    mode = "bilinear" if axes == 2 else "trilinear"
    whole = pixels.dtype == torch.uint8
    resized = F.interpolate(
        pixels[None].float(), options.size, mode=mode, align_corners=False, antialias=axes == 2
    )[0]
    return resized.round_().clamp_(0, 255).to(torch.uint8) if whole else resized.clamp_(0, 1)


def scaled(values: NDArray[Any], window: tuple[float, float] | None) -> NDArray[Any]:
    """uint8 as it is; else float32 in [0, 1], by the window or the image's own extremes."""
    if values.dtype == np.uint8 and window is None:
        return values
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = window or (float(values.min()), float(values.max()))
    return np.clip((values - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)


def _picture(path: Path, channels: int) -> NDArray[Any]:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                deep = image.mode in ("I", "F", "I;16", "I;16B", "I;16L")
                return np.asarray(image if deep else image.convert("L" if channels == 1 else "RGB"))
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise ValueError("larger than an image should be") from None


def _nifti(path: Path) -> NDArray[Any]:
    """In RAS+ orientation, rows first of the slices: depth x rows x columns (or rows x columns)."""
    import nibabel

    image = nibabel.as_closest_canonical(nibabel.load(path))
    values = np.asarray(image.dataobj, dtype=np.float32)
    while values.ndim > 2 and values.shape[-1] == 1:
        values = values[..., 0]
    return np.ascontiguousarray(values.T)


def _may_be_read(dataset: Dataset, options: ImagingOptions, place: str) -> bool:
    if not burned_in(dataset) or options.burned_in == "keep":
        return True
    if options.burned_in == "drop":
        return False
    raise DataError(
        f"{place}: its pixels show who the patient is (BurnedInAnnotation); remove it, or set "
        "task.burned_in = 'drop'"
    )


def _patient(dataset: Dataset) -> str | None:
    name = str(dataset.get("PatientID", "")).strip()
    return digest(name) if name else None


def _decoded(datasets: list[Dataset], options: ImagingOptions, place: str) -> Decoded:
    """One file's image, or a volume of several files' slices, in their order."""
    patient = _patient(datasets[0])
    inverted = datasets[0].get("PhotometricInterpretation") == "MONOCHROME1"
    with silent_pydicom():
        slices = [_dicom(dataset, place) for dataset in datasets]
    pixels = fit(slices[0] if len(slices) == 1 else np.stack(slices), options, place)
    if inverted:  # within the window, not before it
        pixels = 255 - pixels if pixels.dtype == torch.uint8 else 1 - pixels
    return Decoded(pixels, patient)


def _dicom(dataset: Dataset, place: str) -> NDArray[Any]:
    """Pixels in the modality's units (of a CT: Hounsfield), or colours."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut

    slope, intercept = _shared_rescale(dataset, place)
    palette = dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
    deidentify(dataset)
    values = dataset.pixel_array
    if palette:
        colours = np.asarray(apply_color_lut(values, dataset))
        return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours
    if slope is not None and intercept is not None:
        return np.asarray(values * slope + intercept)
    return np.asarray(apply_modality_lut(values, dataset))


def _shared_rescale(dataset: Dataset, place: str) -> tuple[float | None, float | None]:
    """Slope and intercept of an enhanced file's frames, which have them in a functional group."""
    key = "PixelValueTransformationSequence"
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if any(key in frame for frame in frames):
        raise DataError(
            f"{place}: each frame has units of its own, which isn't supported; convert it to NIfTI"
        )
    for group in dataset.get("SharedFunctionalGroupsSequence") or []:
        if key in group:
            item = group[key].value[0]
            return float(item.RescaleSlope), float(item.RescaleIntercept)
    return None, None


def _series(folder: Path, options: ImagingOptions, place: str) -> Decoded | None:
    """A volume of the slices in a folder, along the axis on which they are stacked."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and is_image(path)]
    if not files:
        raise DataError(f"{place}: a folder without an image")
    if any(path.suffix.lower() not in DICOM for path in files):
        raise DataError(f"{place}: a folder that is a volume holds DICOM slices only")
    datasets = [read_dicom(path, f"{place}, slice {n}") for n, path in enumerate(files, 1)]
    if not all(_may_be_read(dataset, options, place) for dataset in datasets):
        return None
    return _decoded(_in_order(datasets, place), options, place)


def _in_order(datasets: list[Dataset], place: str) -> list[Dataset]:
    """Slices by their position along the normal of their plane (PS3.3 C.7.6.2), else by number.

    Raises DataError if neither tells them apart: names of files say nothing.
    """
    keys = [_position(dataset) for dataset in datasets]
    if None in keys or len(set(keys)) < len(keys):
        keys = [float(dataset.get("InstanceNumber") or 0) for dataset in datasets]
    if len(set(keys)) < len(keys):
        raise DataError(
            f"{place}: neither ImagePositionPatient nor InstanceNumber says in which order the "
            "slices are; convert the volume to NIfTI"
        )
    return [datasets[index] for index in np.argsort(np.array(keys, dtype=np.float64))]


def _position(dataset: Dataset) -> float | None:
    position = dataset.get("ImagePositionPatient")
    if not position or len(position) != 3:
        return None
    axes = dataset.get("ImageOrientationPatient")
    plane = [float(x) for x in axes] if axes and len(axes) == 6 else [1.0, 0, 0, 0, 1, 0]
    normal = np.cross(plane[:3], plane[3:])
    return round(float(normal @ np.array([float(x) for x in position])), 4)
