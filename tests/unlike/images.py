"""Image hospitals: other formats, depths, sizes and classes at each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.common.tasks.imaging.shards import dicom
from tests.unlike.base import Consortium, consortium

FLAT = """
[task]
name = "imaging"
classes = ["clear", "spot", "line"]
size = [8, 8]
[task.model]
width = 4
groups = 2
"""
SOLID = """
[task]
name = "imaging"
classes = ["low", "high"]
size = [8, 8, 8]
window = [0, 1000]
[task.model]
width = 4
groups = 2
"""


def _picture(
    label: int, generator: np.random.Generator, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    values = generator.integers(40, 90, shape)
    if label == 1:
        values[2:5, 2:5] += 120
    if label == 2:
        values[:, shape[1] // 2] += 120
    return values.astype(np.uint8)


def _save(path: Path, values: NDArray[np.generic]) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def flat_images(folder: Path) -> Consortium:
    """Three classes in folders, npz and CSV: a class that two hospitals lack, one class only, one
    and two images, 16 bit, colour, other sizes, odd names, several images of a patient."""
    generator, place = np.random.default_rng(5), folder / "hospitals"
    names = ("clear", "spot", "line")
    for number in range(24):
        label = number % 3
        _save(place / "north" / names[label] / f"{number}.png", _picture(label, generator, (8, 8)))
    for number in range(20):
        label = number % 2
        wide = _picture(label, generator, (10, 14)).astype(np.uint16) * 257
        _save(place / "südwest" / names[label] / f"scan {number} (1).png", wide)
    for number in range(12):
        picture = _picture(0, generator, (12, 12))
        _save(place / "St. Mary's" / "clear" / f"{number}.png", np.stack([picture] * 3, axis=-1))
    _save(place / "1002" / "spot" / "only.png", _picture(1, generator, (8, 8)))
    for number in range(2):
        _save(place / "two" / names[number] / "x.png", _picture(number, generator, (8, 8)))
    labels = np.arange(18) % 2
    pictures = np.stack([_picture(int(label), generator, (8, 8)) for label in labels])
    np.savez(place / "archive.npz", images=pictures, labels=labels)
    lines = ["file,label,patient"]
    for number in range(16):
        label = number % 3
        _save(place / "listed" / "files" / f"{number}.png", _picture(label, generator, (9, 9)))
        lines.append(f"files/{number}.png,{names[label]},p{number // 2}")
    (place / "listed" / "index.csv").write_text("\n".join(lines) + "\n")
    rows = {"north": 24, "südwest": 20, "St. Mary's": 12, "1002": 1, "two": 2, "archive": 18}
    return consortium(folder, FLAT, rows | {"listed": 16})


def _volume(label: int, generator: np.random.Generator, depth: int) -> NDArray[np.int16]:
    ramp = np.linspace(0, 700, depth) if label else np.linspace(700, 0, depth)
    return (generator.integers(0, 200, (depth, 8, 8)) + ramp[:, None, None]).astype(np.int16)


def volumes(folder: Path) -> Consortium:
    """Two classes of volumes as DICOM series, NIfTI and npz; one hospital has one class, one has a
    single volume, one thinner slices."""
    import nibabel

    generator, place = np.random.default_rng(6), folder / "hospitals"
    names = ("low", "high")
    for number in range(8):
        label, study = number % 2, f"1.2.826.0.1.3680043.8.498.{number + 1}"
        for z, values in enumerate(_volume(label, generator, 8)):
            dicom(
                place / "dicom" / names[label] / f"scan{number}" / f"{z}.dcm",
                values,
                patient=f"P{number}",
                SeriesInstanceUID=f"{study}.1",
                StudyInstanceUID=study,
                InstanceNumber=z + 1,
                ImagePositionPatient=[0.0, 0.0, float(z)],
                ImageOrientationPatient=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
                PixelSpacing=[1.0, 1.0],
                SliceThickness=1.0,
                RescaleSlope=1,
                RescaleIntercept=0,
            )
    for hospital, count, depth in (("nifti", 10, 8), ("thin slices", 6, 16), ("1 volume", 1, 8)):
        for number in range(count):
            label = number % 2
            values = _volume(label, generator, depth).transpose(2, 1, 0)
            path = place / hospital / names[label] / f"{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 8 / depth, 1.0])), path)
    stack = np.stack([_volume(0, generator, 8) for _ in range(6)])
    np.savez(place / "one-class.npz", images=stack, labels=np.zeros(6, dtype=np.int64))
    rows = {"dicom": 8, "nifti": 10, "thin slices": 6, "1 volume": 1, "one-class": 6}
    return consortium(folder, SOLID, rows)
