"""Studies of made-up patients for an archive, as files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, KeyObjectSelectionDocumentStorage

from tests.common.tasks.imaging.shards import dicom

AXIAL, SAGITTAL = [1.0, 0, 0, 0, 1, 0], [0.0, 1, 0, 0, 0, -1]
ROOT = "2.25.4711."
NAME, BIRTH = "Doe^Jane", "19700101"
"""Of every patient here: what must be in no file, line or message."""


def uid(*parts: int) -> str:
    """A UID that is the same in each run of the tests."""
    return ROOT + ".".join(str(part) for part in parts)


def patient(number: int) -> str:
    return f"MRN-{number:05}"


def scan(number: int, slices: int = 3) -> NDArray[np.int16]:
    """A volume in which every slice, row and patient is another."""
    draw = np.random.default_rng(number)
    return draw.integers(-1000, 1000, (slices, 8, 8)).astype(np.int16)


def series(
    folder: Path,
    number: int,
    position: int = 1,
    direction: list[float] = AXIAL,
    values: NDArray[np.int16] | None = None,
    **elements: object,
) -> list[Path]:
    """A series of study ``number``, its slices in the reverse order of their places."""
    values = scan(number) if values is None else values
    normal = np.cross(direction[:3], direction[3:])
    files = []
    for index, one in enumerate(values):
        path = folder / f"{number}-{position}-{index}.dcm"
        said: dict[str, object] = {
            "StudyInstanceUID": uid(number),
            "SeriesInstanceUID": uid(number, position),
            "StudyDescription": "CT THORAX",
            "SeriesDescription": "AX LUNG",
            "AccessionNumber": f"ACC{number}",
            "InstanceNumber": len(values) - index,
            "ImageOrientationPatient": direction,
            "ImagePositionPatient": [float(x) for x in normal * index],
            "PixelSpacing": [1.0, 1.0],
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        } | elements
        dicom(path, one, patient(number), **said)
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid(
            number, position, index + 1
        )
        dataset.save_as(path)
        files.append(path)
    return files


def localiser(folder: Path, number: int, position: int = 9) -> list[Path]:
    """The survey that lies beside a scan, in a series of its own."""
    return series(
        folder,
        number,
        position,
        SAGITTAL,
        scan(900 + number, 1),
        SeriesDescription="SCOUT",
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )


def enhanced(folder: Path, number: int) -> list[Path]:
    """A scan in one object of many frames, which lie in the reverse order of their places."""
    values = scan(number)[::-1]
    path = series(folder, number, values=values[:1])[0]
    dataset = pydicom.dcmread(path)
    frames = []
    for index in range(len(values)):
        place, frame = Dataset(), Dataset()
        place.ImagePositionPatient = [0.0, 0.0, float(len(values) - 1 - index)]
        frame.PlanePositionSequence = Sequence([place])
        frames.append(frame)
    axes, measures, shared = Dataset(), Dataset(), Dataset()
    axes.ImageOrientationPatient, measures.PixelSpacing = AXIAL, [1.0, 1.0]
    shared.PlaneOrientationSequence = Sequence([axes])
    shared.PixelMeasuresSequence = Sequence([measures])
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    dataset.NumberOfFrames = len(values)
    dataset.PixelData = values.astype("<i2").tobytes()
    dataset.save_as(path)
    return [path]


def shell(folder: Path, number: int) -> list[Path]:
    """A study that has no image, as 1 in 40 had in a federation that its first one ended."""
    path = series(folder, number, values=scan(number, 1), Modality="KO")[0]
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = KeyObjectSelectionDocumentStorage
    dataset.file_meta.MediaStorageSOPClassUID = KeyObjectSelectionDocumentStorage
    for name in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"):
        delattr(dataset, name)
    dataset.save_as(path)
    return [path]


Make = Callable[[Path, int], list[Path]]


def read(path: Path) -> Dataset:
    return pydicom.dcmread(io.BytesIO(path.read_bytes()))
