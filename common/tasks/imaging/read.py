"""A hospital's images: a folder for each class, a CSV that names files, or an npz as MedMNIST's.

Everything is decoded once, to ``task.size``; uint8 stays uint8 until it reaches the model.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wardround.common.data.shards import SPLIT_NAMES
from wardround.common.data.table import Table, read_table
from wardround.common.errors import DataError
from wardround.common.left_out import LeftOut, added
from wardround.common.messages import SPLITS
from wardround.common.tasks.imaging.decode import Decoded, decode, fit, is_image
from wardround.common.tasks.imaging.images import Images, digest
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.text import code

_NPZ_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def read_images(path: Path, options: ImagingOptions) -> Images:
    """The images at ``path``. Raises DataError naming the place, and no image's file."""
    if path.suffix.lower() == ".npz":
        return _read_npz(path, options)
    if path.suffix.lower() == ".csv":
        return _read_listed(path, options)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder, CSV or npz file; check data.path")
    tables = sorted(path.glob("*.csv"))
    arrays = sorted(path.glob("*.npz"))
    if len(tables) == 1:
        return _read_listed(tables[0], options)
    if len(arrays) == 1:
        return _read_npz(arrays[0], options)
    return _read_folders(path, options)


def digits(options: ImagingOptions) -> Images:
    """scikit-learn's 1797 handwritten digits, 8 x 8, as the example that needs no file."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pictures = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    if len(options.classes) != 10 or len(options.size) != 2:
        raise DataError(
            "the example data are digits: ten classes, two axes; set data.path to your images"
        )
    pixels = torch.stack([fit(picture, options, "the example data") for picture in pictures])
    return Images(pixels, labels.astype(np.int64))


def class_of(text: str, options: ImagingOptions, place: str) -> int:
    """The position of a label in ``classes``. Raises DataError."""
    names = [code(name) for name in options.classes]
    text = code(text)
    if text in names:
        return names.index(text)
    numbered = any(name.isdecimal() for name in names)  # then a number is a name, not a position
    if not numbered and text.isascii() and text.isdecimal() and int(text) < len(names):
        return int(text)
    raise DataError(f"{place}: a label that is none of task.classes ({', '.join(names[:10])})")


# --- a folder for each class ----------------------------------------------------------------------
def _read_folders(path: Path, options: ImagingOptions) -> Images:
    """``class/file``, or ``train/class/file`` where the data has its split."""
    inside = _folders(path)
    if inside and all(name.lower() in SPLIT_NAMES for name in inside):
        places = [(path / name, SPLIT_NAMES[name.lower()]) for name in inside]
    else:
        places = [(path, "")]
    found: list[tuple[Decoded, int, str]] = []
    dropped = ignored = 0
    for folder, split in places:
        _check_folders(folder, options)
        for number, name in enumerate(options.classes):
            images, others = _in_folder(folder / name, options)
            ignored += others
            dropped += images.count(None)
            found += [(image, number, split) for image in images if image is not None]
    if not found:
        expected = ", ".join(options.classes[:10])
        raise DataError(
            f"{path}: no image in folders named like task.classes ({expected}), and not one CSV or "
            "npz file"
        )
    return _images(found, _shows_patient(dropped), _no_image(ignored))


def _folders(path: Path) -> list[str]:
    return sorted(
        entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


def _check_folders(path: Path, options: ImagingOptions) -> None:
    """Raise DataError for a folder that would be passed over."""
    inside = _folders(path)
    unknown = [number for number, name in enumerate(inside, 1) if name not in options.classes]
    if unknown and len(unknown) < len(inside):
        raise DataError(
            f"{path}: folder {unknown[0]} of {len(inside)}, by name, is none of task.classes "
            f"({', '.join(options.classes[:10])}); rename it or move it elsewhere"
        )


def _in_folder(folder: Path, options: ImagingOptions) -> tuple[list[Decoded | None], int]:
    """The images of a class, and how many files aren't any."""
    if not folder.is_dir():
        return [], 0
    entries = [e for e in sorted(folder.iterdir()) if not e.name.startswith(".")]
    images = [e for e in entries if e.is_dir() or is_image(e)]
    decoded = [
        decode(entry, options, f"{folder}: image {n} by name") for n, entry in enumerate(images, 1)
    ]
    return decoded, len(entries) - len(images)


# --- a CSV ----------------------------------------------------------------------------------------
def _read_listed(path: Path, options: ImagingOptions) -> Images:
    table, names = read_table(path, hide_names=True), options.files
    cells, labels = _full(table, names.image), _full(table, names.label)
    patients = _full(table, names.patient_id) if names.patient_id else None
    found: list[tuple[Decoded, int, str]] = []
    dropped = 0
    for row, cell in enumerate(cells):
        place = table.place(row, names.image)
        file = _inside(path.parent, cell, place)
        label = class_of(labels[row], options, table.place(row, names.label))
        split = _split(table, row, options)
        image = decode(file, options, place)
        if image is None:
            dropped += 1
            continue
        if patients is not None:
            image = replace(image, patient=digest(patients[row]))
        found.append((image, label, split))
    if not found:
        raise DataError(f"{path}: no image is left")
    return _images(found, _shows_patient(dropped))


def _shows_patient(count: int) -> LeftOut:
    return LeftOut(count, "images", "they show who the patient is (task.burned_in = 'drop')")


def _no_image(count: int) -> LeftOut:
    return LeftOut(count, "files", "no image by their names' endings")


def _inside(folder: Path, cell: str, place: str) -> Path:
    """The file that a cell names. Raises DataError unless it is there, below the folder."""
    try:
        file = folder / cell
        inside, there = file.resolve().is_relative_to(folder.resolve()), file.exists()
    except (OSError, ValueError):  # too long, or with a character that no name has
        inside, there = True, False
    if not inside:
        raise DataError(f"{place}: a file outside the CSV's folder; move it below {folder}")
    if not there:
        raise DataError(f"{place}: no such file; paths are meant from the CSV's folder")
    return file


def _full(table: Table, column: str) -> list[str]:
    cells = table.cells(column)
    for row, cell in enumerate(cells):
        if cell is None:
            raise DataError(f"{table.place(row, column)}: empty; fill it in or drop the row")
    return [str(cell) for cell in cells]


def _split(table: Table, row: int, options: ImagingOptions) -> str:
    column = options.files.split
    if column is None:
        return ""
    text = table.cells(column)[row]
    if text not in SPLITS:
        raise DataError(f"{table.place(row, column)}: must be train, validation or test")
    return str(text)


def _images(found: Sequence[tuple[Decoded, int, str]], *left_out: LeftOut) -> Images:
    patients = [image.patient for image, _, _ in found]
    unnamed = patients.count(None)
    if unnamed < len(patients):  # nobody knows whether those without a name are one patient
        patients = [name or f"unnamed image {number}" for number, name in enumerate(patients)]
    splits = np.array([split for _, _, split in found])
    return Images(
        stacked([image.pixels for image, _, _ in found]),
        np.array([label for _, label, _ in found], dtype=np.int64),
        np.array(patients) if unnamed < len(found) else None,
        splits if splits[0] else None,
        added(left_out),
        unnamed=unnamed if unnamed < len(found) else 0,
    )


def stacked(
    images: list[torch.Tensor],
    join: Callable[[list[torch.Tensor]], torch.Tensor] = torch.stack,
) -> torch.Tensor:
    """One tensor; uint8 if every image is, else float32 in [0, 1]."""
    if all(image.dtype == torch.uint8 for image in images):
        return join(images)
    return join([image / 255 if image.dtype == torch.uint8 else image.float() for image in images])


# --- npz ------------------------------------------------------------------------------------------
def _read_npz(path: Path, options: ImagingOptions) -> Images:
    """``train_images``, ``train_labels``, ``val_...``, ``test_...``; or ``images``, ``labels``."""
    arrays = _npz_arrays(path)
    kinds = {f"{key}_": split for key, split in _NPZ_SPLITS.items()}
    there = {key: split for key, split in kinds.items() if f"{key}images" in arrays}
    if there and "images" in arrays:
        raise DataError(f"{path}: it has images and {next(iter(there))}images; keep one of the two")
    pixels: list[torch.Tensor] = []
    labels: list[NDArray[np.int64]] = []
    splits: list[str] = []
    for key, split in (there or {"": ""}).items():
        images, targets = arrays.get(f"{key}images"), arrays.get(f"{key}labels")
        if images is None or targets is None:
            raise DataError(
                f"{path}: no arrays named train_images and train_labels, or images and labels"
            )
        found = _npz_labels(images, targets, options, f"{path}: {key}labels")
        place = f"{path}: {key}images"
        pixels += [_npz_image(image, options, f"{place}[{n}]") for n, image in enumerate(images)]
        labels.append(found)
        splits += [split] * len(found)
    if not pixels:
        raise DataError(f"{path}: there are no images in it")
    given = np.array(splits)
    return Images(stacked(pixels), np.concatenate(labels), None, given if given[0] else None)


def _npz_image(image: NDArray[Any], options: ImagingOptions, place: str) -> torch.Tensor:
    if image.dtype.kind not in "iufb":
        raise DataError(f"{place}: not of numbers")
    return fit(image, options, place)


def _npz_labels(
    images: NDArray[Any], targets: NDArray[Any], options: ImagingOptions, place: str
) -> NDArray[np.int64]:
    """One class for each image, N int64. Raises DataError."""
    single = targets.ndim == 1 or (targets.ndim == 2 and targets.shape[1] == 1)
    if not single or images.ndim < 3 or len(images) != len(targets):
        raise DataError(f"{place}: one label for each image is needed")
    most = len(options.classes)
    whole = targets.dtype.kind in "iu"
    if not whole or (len(targets) and not (0 <= int(targets.min()) <= int(targets.max()) < most)):
        raise DataError(
            f"{place}: labels are whole numbers below {most}, one for each of task.classes"
        )
    return targets.reshape(-1).astype(np.int64)


def _npz_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check data.path") from None
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise DataError(f"{path}: not readable as npz ({type(error).__name__})") from None
