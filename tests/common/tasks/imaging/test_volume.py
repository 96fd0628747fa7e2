"""A folder of slices, or a file of frames, is one volume: in order, whole, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.common.tasks.imaging.shards import dicom
from wardround.common.errors import DataError, Unreadable
from wardround.common.tasks.imaging.decode import decode
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.imaging.pixels import Decoded
from wardround.common.tasks.imaging.task import ImagingTask
from wardround.common.tasks.imaging.volume import UNEVEN, Plane, assembled

AXIAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]


def options(**values: object) -> ImagingOptions:
    settings: dict[str, object] = {"size": [8, 8, 8], "window": [0.0, 7.0], **values}
    return ImagingOptions(**settings)  # type: ignore[arg-type]


def level(z: float) -> NDArray[np.int16]:
    return np.full((8, 8), z, dtype=np.int16)


def write(
    folder: Path, name: str, z: float, value: float | None = None, **elements: object
) -> None:
    """A slice at height ``z`` whose pixels are ``value``, or z."""
    given: dict[str, object] = {
        "ImagePositionPatient": [0, 0, z],
        "ImageOrientationPatient": AXIAL,
        "PixelSpacing": [1.0, 1.0],
        "SeriesInstanceUID": "1.2.3",
        "StudyInstanceUID": "1.2",
        "InstanceNumber": int(z) + 1,
    }
    pixels = level(z if value is None else value)
    dicom(folder / f"{name}.dcm", pixels, **{**given, **elements})  # type: ignore[arg-type]


def stack(folder: Path, heights: list[float]) -> None:
    for number, z in enumerate(heights):
        write(folder, f"s{number}", z)


def read(folder: Path, **values: object) -> Decoded:
    found = decode(folder, options(**values), "here")
    assert isinstance(found, Decoded)
    return found


def heights(found: Decoded) -> list[float]:
    return [round(float(z) * 7, 4) for z in found.pixels[0, :, 4, 4]]


def test_a_localiser_is_left_out_and_counted(tmp_path: Path) -> None:
    """Also one of the volume's own direction; what says nothing of itself isn't guessed away."""
    stack(tmp_path / "scan", [*range(8)])
    for name, axes in (("scout", SAGITTAL), ("scout2", AXIAL)):
        kind = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        more = {"ImageType": kind, "ImageOrientationPatient": axes}
        write(tmp_path / "scan", name, 3, 6, **more)
    found = read(tmp_path / "scan")
    assert heights(found) == [*range(8)]
    assert [str(one) for one in found.left_out] == [
        "2 slices were left out: localisers beside a volume"
    ]


@pytest.mark.parametrize(
    ("elements", "what"),
    [
        ({"patient": "P-2"}, "several patients"),
        ({"StudyInstanceUID": "1.3"}, "several studies"),
        ({"SeriesInstanceUID": "1.2.4"}, "several series"),
        ({"PixelSpacing": [0.7, 0.7]}, "several pixel spacings"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "several photometric interpretations"),
        ({"PixelRepresentation": 0}, "several sample formats"),
        ({"ImageOrientationPatient": SAGITTAL}, "lies in another direction"),
        ({"z": 3, "value": 6}, "different slices at one place"),
        ({"z": 30}, r"a gap of 23 times the usual distance after slice 8"),
    ],
)
def test_what_is_of_another_volume_is_refused_by_its_place(
    tmp_path: Path, elements: dict[str, object], what: str
) -> None:
    stack(tmp_path / "Doe_Jane", [*range(8)])
    write(tmp_path / "Doe_Jane", "x", **{"z": 3.5, **elements})  # type: ignore[arg-type]
    with pytest.raises(DataError, match=f"here: .*{what}") as caught:
        read(tmp_path / "Doe_Jane")
    assert "Doe" not in str(caught.value)


def test_slices_of_several_sizes_are_refused(tmp_path: Path) -> None:
    stack(tmp_path / "scan", [0, 1])
    wide = np.zeros((8, 10), dtype=np.int16)
    dicom(tmp_path / "scan" / "x.dcm", wide, SeriesInstanceUID="1.2.3", StudyInstanceUID="1.2")
    with pytest.raises(DataError, match="several sizes"):
        read(tmp_path / "scan")


def test_spacings_may_be_rounded_and_a_scanner_may_count_acquisitions(tmp_path: Path) -> None:
    for z in range(8):
        spacing = [1.0, 1.0] if z % 2 else [1.0004, 1.0004]
        write(tmp_path / "scan", f"s{z}", z, PixelSpacing=spacing, AcquisitionNumber=1 + z // 4)
    assert heights(read(tmp_path / "scan")) == [*range(8)]


def test_acquisitions_that_interleave_are_refused(tmp_path: Path) -> None:
    for z in range(8):
        write(tmp_path / "scan", f"s{z}", z, AcquisitionNumber=1 + z % 2)
    with pytest.raises(DataError, match="2 acquisitions lie between each other"):
        read(tmp_path / "scan")


def test_a_gap_is_bridged_by_position_and_told(tmp_path: Path) -> None:
    stack(tmp_path / "scan", [0, 1, 2, 3, 5, 6, 7])  # 4 is missing
    found = read(tmp_path / "scan")
    assert heights(found) == [*range(8)] and found.noted == (UNEVEN,)
    with pytest.raises(
        DataError, match=r"a gap of 2 times .* after slice 4 .*max_gap = 2.0"
    ) as one:
        read(tmp_path / "scan", max_gap=1.5)
    advice = float(str(one.value).split("max_gap = ")[1].split()[0])
    assert heights(read(tmp_path / "scan", max_gap=advice)) == [*range(8)]


def test_the_hospital_is_told_of_gaps(tmp_path: Path) -> None:
    for label in "ab":
        stack(tmp_path / label / "whole", [*range(8)])
    stack(tmp_path / "a" / "gap", [0, 1, 2, 3, 5, 6, 7])
    task = ImagingTask(classes=["a", "b"], size=[8, 8, 8])
    assert task.warnings(task.load(tmp_path)) == [
        "in 1 image slices are missing or unevenly spaced, and were resampled by position"
    ]


def test_an_exact_copy_is_dropped_and_counted(tmp_path: Path) -> None:
    stack(tmp_path / "scan", [*range(8)])
    write(tmp_path / "scan", "3b", 3)
    found = read(tmp_path / "scan")
    assert heights(found) == [*range(8)] and found.noted == ()
    assert [str(one) for one in found.left_out] == [
        "1 slice was left out: exact copies of others beside them"
    ]


def test_slices_without_an_ending_are_read_and_other_files_counted(tmp_path: Path) -> None:
    stack(tmp_path / "scan", [*range(8)])
    for path in list((tmp_path / "scan").iterdir()):
        path.rename(path.with_suffix(""))
    (tmp_path / "scan" / "notes.txt").write_text("x")
    report = tmp_path / "report.dcm"
    dicom(report, level(0))
    data = pydicom.dcmread(report)
    del data.PixelData
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    data.save_as(tmp_path / "scan" / "report")
    found = read(tmp_path / "scan")
    assert heights(found) == [*range(8)]
    assert sorted((one.count, one.what) for one in found.left_out) == [(1, "files"), (1, "files")]


@pytest.mark.parametrize("bytes_", [300, 700, 1000, -140])
def test_a_slice_that_was_cut_is_no_report_beside_a_volume(tmp_path: Path, bytes_: int) -> None:
    """pydicom reads one that ends in its header with fewer elements; the gap would be bridged."""
    stack(tmp_path / "scan", [*range(8)])
    whole = (tmp_path / "scan" / "s3.dcm").read_bytes()
    (tmp_path / "scan" / "s3.dcm").write_bytes(whole[:bytes_])
    with pytest.raises(Unreadable, match="slice 4: ends before its pixels|ValueError"):
        read(tmp_path / "scan")


def test_where_one_slice_lies_nowhere_numbers_dont_order_the_others(tmp_path: Path) -> None:
    stack(tmp_path / "scan", [*range(8)])
    data = pydicom.dcmread(tmp_path / "scan" / "s3.dcm")
    del data.ImagePositionPatient
    data.save_as(tmp_path / "scan" / "s3.dcm")
    with pytest.raises(Unreadable, match="slice 4 doesn't say where it lies"):
        read(tmp_path / "scan")


def test_a_folder_in_a_volumes_folder_is_refused(tmp_path: Path) -> None:
    stack(tmp_path / "scan", [*range(8)])
    stack(tmp_path / "scan" / "more", [*range(8)])
    with pytest.raises(DataError, match="a folder in a volume's folder"):
        read(tmp_path / "scan")


def enhanced(path: Path, order: list[int], **first: object) -> None:
    """Frames whose pixels are their heights, stored in ``order``; ``first`` is of frame 1 only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = []
    for number, z in enumerate(order):
        frame, position, orientation = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, z]
        orientation.ImageOrientationPatient = first.get("axes", AXIAL) if number == 0 else AXIAL
        frame.PlanePositionSequence = Sequence([position])
        frame.PlaneOrientationSequence = Sequence([orientation])
        frames.append(frame)
    values = np.stack([level(z) for z in order]).reshape(-1, 8)
    more = {"NumberOfFrames": len(order), "Rows": 8, "Columns": 8}
    frames_of = {"PerFrameFunctionalGroupsSequence": Sequence(frames)}
    dicom(path, values, **{**more, **frames_of})  # type: ignore[arg-type]


def test_frames_of_an_enhanced_file_are_ordered_and_checked_like_slices(tmp_path: Path) -> None:
    enhanced(tmp_path / "a.dcm", [3, 0, 7, 1, 6, 2, 5, 4])
    assert heights(read(tmp_path / "a.dcm")) == [*range(8)]
    enhanced(tmp_path / "b.dcm", [0, 1, 2, 3, 3, 5, 6, 7])
    found = read(tmp_path / "b.dcm")
    assert heights(found) == [*range(8)] and found.noted == (UNEVEN,)
    assert sum(one.count for one in found.left_out) == 1
    enhanced(tmp_path / "c.dcm", [*range(8)], axes=SAGITTAL)
    with pytest.raises(DataError, match="lies in another direction"):
        read(tmp_path / "c.dcm")


def test_what_shows_the_patient_is_found_in_any_slice(tmp_path: Path) -> None:
    stack(tmp_path / "scan", [*range(8)])
    write(tmp_path / "scan", "x", 8, BurnedInAnnotation="YES")
    with pytest.raises(DataError, match="who the patient is"):
        read(tmp_path / "scan")


def test_resampling_is_linear_between_neighbours() -> None:
    planes = [Plane((0.0, 0.0, z)) for z in (0.0, 2.0, 6.0, 8.0, 10.0)]
    slices = [np.array([[z]]) for z in (0.0, 4.0, 12.0, 16.0, 20.0)]
    found = assembled(slices, planes, 2.5, "here")
    assert found.values[:, 0, 0].tolist() == [0.0, 4.0, 8.0, 12.0, 16.0, 20.0]
