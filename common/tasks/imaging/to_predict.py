"""Images that a finished model predicts: of any layout that is read for training, without labels.

A folder's files are images in the order of their names, whatever folders they lie in; a folder of
DICOM slices is one where ``task.size`` has three axes. Messages say which image by its number, the
answer says it by its file's name: that is for the hospital's own eyes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wardround.common.errors import DataError, Unreadable
from wardround.common.tasks.classes import UNLABELLED
from wardround.common.tasks.data.allowance import OF_IMAGE_FILES, Unread, allowed
from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.tasks.data.problems import MOST_SHOWN, Problems
from wardround.common.tasks.data.row_keys import identifier_digest
from wardround.common.tasks.data.row_names import FILE, ROW
from wardround.common.tasks.data.shards import visible
from wardround.common.tasks.data.tables import read_table
from wardround.common.tasks.imaging.arrays import image_arrays, of_numbers
from wardround.common.tasks.imaging.bids import all_images
from wardround.common.tasks.imaging.decode import decode
from wardround.common.tasks.imaging.deidentify import read_dicom
from wardround.common.tasks.imaging.gather import NO_IMAGE, stacked
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.imaging.kinds import kind_of
from wardround.common.tasks.imaging.layouts import BIDS, CSV, NPZ, layout_of
from wardround.common.tasks.imaging.listed import filled, inside
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.imaging.pixels import Decoded
from wardround.common.text import code

PIECE_BYTES = 64 << 20
"""Of decoded pixels, that are in memory at once."""
GIVEN = "the images given"


@dataclass(frozen=True)
class Entry:
    """An image that isn't read yet.

    named : what its prediction says of it, by column
    patient : a digest, where it isn't the image that says whose it is
    """

    read: Callable[[], Decoded | LeftOut]
    named: dict[str, Any]
    patient: str = ""


class Found:
    """The images below a path, in order, and what is there beside them."""

    def __init__(self, path: Path, options: ImagingOptions, as_text: Collection[str]) -> None:
        self._path, self._options, self._as_text = path, options, as_text
        self.left_out: list[LeftOut] = []

    def entries(self) -> Iterator[Entry]:
        """Raises DataError for a path where there is no image."""
        path, options = self._path, self._options
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        layout = layout_of(path, options)
        if layout is CSV:
            yield from self._listed()
        elif layout is NPZ:
            yield from self._arrays()
        elif layout is BIDS:
            for entry in self._files(all_images(path, options.files.suffix)):
                whose = Path(entry.named[FILE]).parts[0]  # a participant's folder
                yield replace(entry, patient=identifier_digest(whose))
        elif path.is_dir() and not is_volume(path, options):
            yield from self._files(self._below(path))
        elif path.is_dir() or kind_of(path) is not None:
            yield Entry(partial(decode, path, options, f"{path}"), {FILE: path.name})
        else:
            raise DataError(f"{path}: no image by its name's ending, or content; nor a CSV or npz")

    def _files(self, files: Iterator[Path]) -> Iterator[Entry]:
        for number, file in enumerate(files, 1):
            place = f"{self._path}: image {number} by name"
            name = str(file.relative_to(self._path))
            yield Entry(partial(decode, file, self._options, place), {FILE: name})

    def _below(self, folder: Path) -> Iterator[Path]:
        others = 0
        for entry in visible(folder):
            if entry.is_dir():
                whole = is_volume(entry, self._options)
                yield from [entry] if whole else self._below(entry)
            elif kind_of(entry) is not None:
                yield entry
            else:
                others += 1
        self.left_out.append(LeftOut(others, "files", NO_IMAGE))

    def _listed(self) -> Iterator[Entry]:
        path, names = self._path, self._options.files
        if path.is_dir():
            (path,) = (one for one in visible(path) if one.suffix.lower() == ".csv")
        own = [x for x in (names.image, names.label, names.patient_id, names.split) if x]
        texts = [*own, *self._as_text]
        table = read_table(path, texts=texts, hide_names=True)
        cells = filled(table, names.image)
        others = [name for name in table.columns if name not in (names.image, names.label)]
        values = {name: table.column(name).combine_chunks() for name in others}
        for row, cell in enumerate(cells):
            place = table.place(row, names.image)

            def read(cell: str = cell, place: str = place) -> Decoded | LeftOut:
                return decode(inside(path.parent, cell, place), self._options, place)

            said = {name: found[row].as_py() for name, found in values.items()}
            whose = said.get(str(names.patient_id))
            known = whose is not None and code(str(whose)) != ""
            digest = identifier_digest(str(whose)) if known else ""
            yield Entry(read, {FILE: cell} | said, digest)

    def _arrays(self) -> Iterator[Entry]:
        path = self._path
        if path.is_dir():
            (path,) = (one for one in visible(path) if one.suffix.lower() == ".npz")
        for name, number, image in image_arrays(path):
            place = f"{path}: {name}[{number}]"
            yield Entry(partial(of_numbers, image, self._options, place), {"array": name})


def is_volume(folder: Path, options: ImagingOptions) -> bool:
    """Whether a folder is one image: it holds nothing but DICOM slices, of files with one frame
    each, where images have three axes."""
    if len(options.size) < 3:
        return False
    inside_it = visible(folder)
    kinds = [None if entry.is_dir() else kind_of(entry) for entry in inside_it]
    slices = [e for e, kind in zip(inside_it, kinds, strict=True) if kind == "dicom"]
    if not slices or any(entry.is_dir() for entry in inside_it) or {"picture", "nifti"} & {*kinds}:
        return False
    try:
        return int(read_dicom(slices[0], "a slice").get("NumberOfFrames") or 1) == 1
    except Exception:  # a damaged one: the series' reader says so, by its place
        return True


def image_pieces(
    path: Path,
    options: ImagingOptions,
    most_bytes: int | None = PIECE_BYTES,
    as_text: Collection[str] = (),
) -> Iterator[Images]:
    """The images below a path, some at a time. What is left out is told with the last of them.

    Raises DataError with all that is wrong where more can't be read than the hospital lets be left
    out, and where no image is left.
    """
    found = Found(path, options, as_text)
    yield from _decoded(found.entries(), found.left_out, str(path), most_bytes)


def images_of(values: Sequence[Any], options: ImagingOptions) -> Images:
    """Arrays of numbers, rows x columns, with channels behind, as they are in an npz; or paths.

    Raises DataError by an array's position.
    """
    entries = []
    for number, value in enumerate(values):
        place = f"{GIVEN}, number {number + 1}"
        if isinstance(value, str | Path):
            file = Path(value)
            if not file.exists():
                raise DataError(f"{place}: no such file")
            entries.append(Entry(partial(decode, file, options, place), {FILE: file.name}))
        else:
            image = np.asarray(value)
            entries.append(Entry(partial(of_numbers, image, options, place), {}))
    (images,) = _decoded(iter(entries), [], GIVEN, None)
    return images


def _decoded(
    entries: Iterator[Entry], beside: list[LeftOut], place: str, most_bytes: int | None
) -> Iterator[Images]:
    unread, problems, left = Unread("images", allowed(OF_IMAGE_FILES)), Problems(place), []
    held: list[tuple[Decoded, dict[str, Any]]] = []
    total = wrong = size = 0
    for total, entry in enumerate(entries, 1):
        try:
            image = entry.read()
        except Unreadable as error:
            unread.add(str(error))
            continue
        except DataError as error:
            problems.add(str(error))
            wrong += 1
            if wrong >= MOST_SHOWN:
                break
            continue
        if isinstance(image, LeftOut):
            left.append(image)
            continue
        if most_bytes is not None and size + image.pixels.nbytes > most_bytes and held:
            yield _images(held)
            held, size = [], 0
        left += image.left_out
        image = replace(image, patient=entry.patient) if entry.patient else image
        held.append((image, entry.named | {ROW: total}))
        size += image.pixels.nbytes
    problems.check()
    left += [*beside, unread.left_out(total)]
    if not held:
        raise DataError(f"{place}: there is no image to predict")
    yield replace(_images(held), left_out=added(left))


def _images(found: list[tuple[Decoded, dict[str, Any]]]) -> Images:
    noted: dict[str, int] = {}
    for line in (line for image, _ in found for line in image.noted):
        noted[line] = noted.get(line, 0) + 1
    columns = list(dict.fromkeys(name for _, named in found for name in named))
    known = [image.patient for image, _ in found]
    patients = [one or f"unnamed image {n[ROW]}" for one, (_, n) in zip(known, found, strict=True)]
    unnamed = known.count(None)
    return Images(
        stacked([image.pixels for image, _ in found]),
        np.full(len(found), UNLABELLED, dtype=np.int64),
        np.array(patients) if unnamed < len(found) else None,
        unnamed=unnamed if unnamed < len(found) else 0,
        noted=noted,
        named=pa.table({name: pa.array([n.get(name) for _, n in found]) for name in columns}),
    )


def kept_names(named: pa.Table, patient: str | None, keep: Sequence[str]) -> dict[str, pa.Array]:
    """The columns that say which image it is, the patient's where a list names one, and those of
    ``keep``, which only a CSV of images has. Raises DataError for one that isn't there."""
    asked = [ROW, FILE, "array", *([patient] if patient else [])]
    names = [name for name in asked if name in named.column_names]
    if missing := sorted(set(keep) - set(named.column_names)):
        raise DataError(f"column '{missing[0]}' can't be kept: no list of the images has it")
    return {name: named.column(name).combine_chunks() for name in dict.fromkeys([*names, *keep])}
