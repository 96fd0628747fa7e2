"""DICOM images: one file, an enhanced file of many frames, or a folder of slices.

Whatever shapes a volume is checked on headers, before pixels are decoded and thus before the
elements that tell a series or patient apart are removed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wardround.common.errors import DataError, Unreadable
from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.tasks.data.row_keys import identifier_digest
from wardround.common.tasks.data.shards import visible
from wardround.common.tasks.imaging.deidentify import SHOWS_PATIENT, burned_in, read_dicom
from wardround.common.tasks.imaging.dicom import (
    dicom_pixels,
    has_pixels,
    in_colours,
    is_inverted,
)
from wardround.common.tasks.imaging.kinds import kind_of
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.imaging.pixels import NO_NUMBER, Decoded, fit
from wardround.common.tasks.imaging.space import NOWHERE, Space, turned
from wardround.common.tasks.imaging.volume import (
    AXIAL,
    Plane,
    Volume,
    assembled,
    check_orientation,
    normal_of,
)

if TYPE_CHECKING:
    from pydicom import Dataset

NO_PIXELS = LeftOut(1, "files", "DICOM without pixels (reports, DICOMDIR)")
_OF_ONE: tuple[tuple[str, Callable[[Dataset], Any]], ...] = (
    ("patients", lambda d: str(d.get("PatientID") or "").strip()),
    ("studies", lambda d: str(d.get("StudyInstanceUID") or "")),
    ("series", lambda d: str(d.get("SeriesInstanceUID") or "")),
    ("sizes", lambda d: (d.get("Rows"), d.get("Columns"), d.get("SamplesPerPixel"))),
    ("pixel spacings", lambda d: _numbers(d.get("PixelSpacing"), 2)),
    ("photometric interpretations", lambda d: str(d.get("PhotometricInterpretation"))),
    ("sample formats", lambda d: (d.get("BitsAllocated"), d.get("PixelRepresentation"))),
)
"""What all slices of a volume have in common, in the order in which a difference is told."""


def read_dicom_image(path: Path, options: ImagingOptions, place: str) -> Decoded | LeftOut:
    """One file: a picture, or a volume of its frames. Raises DataError, and pydicom's errors."""
    dataset = read_dicom(path, place)
    if not has_pixels(dataset):
        return NO_PIXELS
    if not _may_be_read(dataset, options, place):
        return SHOWS_PATIENT
    return _fitted([dataset], options, place)


def read_series(folder: Path, options: ImagingOptions, place: str) -> Decoded | LeftOut:
    """A folder of slices as one volume. Raises DataError, and pydicom's errors."""
    entries = visible(folder)
    if any(entry.is_dir() for entry in entries):
        raise DataError(
            f"{place}: a folder in a volume's folder; put each volume's slices directly below its "
            "class"
        )
    kinds = [kind_of(entry) for entry in entries]
    if "picture" in kinds or "nifti" in kinds:
        raise DataError(f"{place}: a folder that is a volume holds DICOM slices only")
    files = [entry for entry, kind in zip(entries, kinds, strict=True) if kind == "dicom"]
    found = [read_dicom(path, f"{place}, slice {n}") for n, path in enumerate(files, 1)]
    slices = [dataset for dataset in found if has_pixels(dataset)]
    if not slices:
        raise Unreadable(f"{place}: a folder without an image; remove it")
    left = [LeftOut(len(entries) - len(files), "files", "no image by their names' endings")]
    left.append(LeftOut(len(found) - len(slices), NO_PIXELS.what, NO_PIXELS.reason))
    planned = [dataset for dataset in slices if not _is_localiser(dataset)] or slices
    left.append(LeftOut(len(slices) - len(planned), "slices", "localisers beside a volume"))
    if not all(_may_be_read(dataset, options, place) for dataset in planned):
        return SHOWS_PATIENT
    return _fitted(planned, options, place, added(left))


def _fitted(
    datasets: list[Dataset], options: ImagingOptions, place: str, left: Sequence[LeftOut] = ()
) -> Decoded:
    name = str(datasets[0].get("PatientID") or "").strip()
    colours, inverted = in_colours(datasets[0]), is_inverted(datasets[0])
    volume, planes = _one_volume(datasets, options, place)
    space = _space(volume, planes, datasets[0], volume.values.ndim - colours)
    values, space = turned(volume.values, space)
    image = fit(values, options, place, colours, inverted, space.spacing)
    # padding is no number either, and nothing to be told
    noted = tuple(line for line in image.noted if line != NO_NUMBER) + volume.noted
    return Decoded(
        image.pixels,
        identifier_digest(name) if name else None,
        added([*left, *volume.left_out]),
        noted,
        image.voxel,
    )


def _space(volume: Volume, planes: Sequence[Plane], first: Dataset, axes: int) -> Space:
    """How the image's axes lie: of a slice, or of slices that their positions order.

    planes : of the slices; none where the file doesn't say how its frames lie
    first : of the slices, or of the frames all
    """
    if not planes or (axes == 3 and len(volume.values) > 1 and volume.step is None):
        return NOWHERE
    within = _pixel_spacing(first)
    if axes == 2:
        lies = planes[0].axes
        return Space(None if lies is None else np.array([lies[3:], lies[:3]]), within)
    lies = planes[0].axes or AXIAL
    thickness = first.get("SliceThickness")
    step = volume.step or (float(thickness) if thickness else None)
    return Space(
        np.array([normal_of(lies), lies[3:], lies[:3]]),
        None if within is None or step is None else (step, *within),
    )


def _one_volume(
    datasets: list[Dataset], options: ImagingOptions, place: str
) -> tuple[Volume, Sequence[Plane]]:
    """The pixels, and how their slices lie; no planes where nothing says how frames do."""
    windowed, gap = options.window is not None, options.max_gap
    if len(datasets) == 1:
        planes = _frame_planes(datasets[0], place)
        frames = dicom_pixels(datasets[0], windowed, place)
        if len(planes) < 2:
            flat = int(datasets[0].get("NumberOfFrames") or 1) == 1
            return Volume(frames), (planes or [_plane(datasets[0])]) if flat else []
        if len(planes) != len(frames):
            raise DataError(f"{place}: it says where {len(planes)} of {len(frames)} frames lie")
        check_orientation(planes, place)
        return assembled(list(frames), planes, gap, place), planes
    if any(int(dataset.get("NumberOfFrames") or 1) > 1 for dataset in datasets):
        raise DataError(
            f"{place}: several files, of which one has many frames and is a volume of its own; put "
            "it directly below its class"
        )
    for what, of in _OF_ONE:
        odd = _first_unlike([of(dataset) for dataset in datasets])
        if odd is not None:
            raise DataError(
                f"{place}: its slices are of several {what} (slice {odd + 1}, by name, differs "
                "from the first); a folder is one volume: give each a folder of its own"
            )
    planes = [_plane(dataset) for dataset in datasets]
    check_orientation(planes, place)
    values = [dicom_pixels(dataset, windowed, place) for dataset in datasets]
    return assembled(values, planes, gap, place), planes


def _may_be_read(dataset: Dataset, options: ImagingOptions, place: str) -> bool:
    if not burned_in(dataset) or options.burned_in == "keep":
        return True
    if options.burned_in == "drop":
        return False
    raise DataError(
        f"{place}: its pixels show who the patient is (BurnedInAnnotation); remove it, or set "
        "task.burned_in = 'drop'"
    )


def _is_localiser(dataset: Dataset) -> bool:
    """Whether it is a survey image for planning (PS3.3 C.8.2.1.1.1: the third of ImageType)."""
    kind = dataset.get("ImageType") or []
    return "LOCALIZER" in ([kind] if isinstance(kind, str) else list(kind))


def _plane(dataset: Dataset) -> Plane:
    number, acquisition = dataset.get("InstanceNumber"), dataset.get("AcquisitionNumber")
    return Plane(
        _numbers(dataset.get("ImagePositionPatient"), 3),
        _numbers(dataset.get("ImageOrientationPatient"), 6),
        None if number is None else float(number),
        None if acquisition is None else int(acquisition),
    )


def _frame_planes(dataset: Dataset, place: str) -> list[Plane]:
    """Where an enhanced file's frames lie (PS3.3 C.7.6.16); none where it doesn't say.

    Raises DataError for frames of different pixel spacings.
    """
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    planes: list[Plane] = []
    spacings: list[tuple[float, ...] | None] = []
    for number, frame in enumerate(dataset.get("PerFrameFunctionalGroupsSequence") or []):
        groups = [group for group in (frame, shared) if group is not None]
        position = _numbers(_found(groups, "PlanePositionSequence", "ImagePositionPatient"), 3)
        axes = _numbers(_found(groups, "PlaneOrientationSequence", "ImageOrientationPatient"), 6)
        spacings.append(_numbers(_found(groups, "PixelMeasuresSequence", "PixelSpacing"), 2))
        planes.append(Plane(position, axes, float(number)))
    if spacings and _first_unlike(spacings) is not None:
        raise DataError(f"{place}: its frames have several pixel spacings; convert each by itself")
    return planes if any(plane.position is not None for plane in planes) else []


def _pixel_spacing(dataset: Dataset) -> tuple[float, ...] | None:
    """mm between rows, and between columns; of frames, those of the first (all are alike)."""
    own = _numbers(dataset.get("PixelSpacing"), 2)
    groups = [
        items[0]
        for name in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
        if (items := dataset.get(name))
    ]
    found = own or _numbers(_found(groups, "PixelMeasuresSequence", "PixelSpacing"), 2)
    return found if found and min(found) > 0 else None


def _found(groups: Sequence[Dataset], sequence: str, name: str) -> Any:
    """An element of the first group that has it."""
    for group in groups:
        items = group.get(sequence) or []
        if items and items[0].get(name) is not None:
            return items[0].get(name)
    return None


def _numbers(values: Any, count: int) -> tuple[float, ...] | None:
    if values is None or isinstance(values, str | float) or len(values) != count:
        return None
    return tuple(float(value) for value in values)


def _first_unlike(values: Sequence[Any]) -> int | None:
    """The position of the first that isn't like the first one; None if all are. Spacings are
    rounded by exports, so those within 1 % are alike."""
    first = values[0]
    for number, value in enumerate(values):
        if isinstance(value, tuple) and isinstance(first, tuple) and isinstance(value[0], float):
            same = np.allclose(value, first, rtol=0.01, atol=0)
        else:
            same = value == first
        if not same:
            return number
    return None
