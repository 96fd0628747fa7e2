"""A CSV that names images, with a label for each."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from wardround.common.errors import DataError, Unreadable
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.data.roles import split_cells
from wardround.common.tasks.data.row_keys import file_key, identifier_digest
from wardround.common.tasks.data.shards import visible
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.data.tables import read_table
from wardround.common.tasks.imaging.decode import decode
from wardround.common.tasks.imaging.gather import Gathered
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.imaging.kinds import kind_of
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.text import code


def read_listed(path: Path, options: ImagingOptions, gathered: Gathered) -> Images:
    """The images that a CSV names, or the one CSV of a folder. Raises DataError by its line."""
    if path.is_dir():
        (path,) = (entry for entry in visible(path) if entry.suffix.lower() == ".csv")
    names = options.files
    used = names.image, names.label, names.patient_id, names.split
    texts = [name for name in used if name is not None]
    table = read_table(path, texts=texts, hide_names=True)
    cells, labels = filled(table, names.image), filled(table, names.label)
    patients = filled(table, names.patient_id) if names.patient_id else None
    splits = split_cells(table, names.split) if names.split else [""] * len(table)
    named = dict[Path, tuple[int, str, str]]()
    gathered.expect(len(table))
    for row, cell in enumerate(cells):
        place = table.place(row, names.image)
        try:
            file = inside(path.parent, cell, place)
        except Unreadable as error:
            gathered.add_unreadable(error)
            continue
        label = class_of(labels[row], options, table.place(row, names.label))
        patient = identifier_digest(patients[row]) if patients is not None else ""
        said = (label, str(splits[row]), patient)
        known = named.setdefault(file.resolve(), said)
        if known != said:
            raise DataError(
                f"{place}: a file that another row names with another label, split or patient; "
                "keep the row that is right"
            )
        if known is not said:
            gathered.leave_out(1, "rows", "they name a file again")
            continue
        try:
            image = decode(file, options, place)
        except Unreadable as error:
            gathered.add_unreadable(error)
            continue
        if patient and not isinstance(image, LeftOut):
            image = replace(image, patient=patient)
        gathered.add(image, label, said[1], partial(file_key, file))
    gathered.check(f"{path}: no image is left")
    unnamed = _unnamed(path, named)
    gathered.leave_out(unnamed, "images", "they lie below the CSV's folder, and it names none")
    return gathered.images()


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


def _unnamed(csv: Path, named: Collection[Path]) -> int:
    """Images below the folder of a CSV that it doesn't name; 0 where other CSVs may name them."""
    beside = [entry for entry in visible(csv.parent) if entry.suffix.lower() == ".csv"]
    if len(beside) > 1:
        return 0
    found = [file.resolve() for file in _files_below(csv.parent) if kind_of(file)]
    return sum(file not in named and file.parent not in named for file in found)


def _files_below(folder: Path) -> Iterator[Path]:
    for entry in visible(folder):
        if entry.is_dir() and not entry.is_symlink():
            yield from _files_below(entry)
        elif entry.is_file():
            yield entry


def inside(folder: Path, cell: str, place: str) -> Path:
    """The file that a cell names. Raises DataError unless it is there, below the folder."""
    try:
        file = folder / cell
        below, there = file.resolve().is_relative_to(folder.resolve()), file.exists()
    except (OSError, ValueError):  # too long, or with a character that no name has
        below, there = True, False
    if not below:
        raise DataError(f"{place}: a file outside the CSV's folder; move it below {folder}")
    if not there:
        raise Unreadable(f"{place}: no such file; paths are meant from the CSV's folder")
    return file


def filled(table: Table, column: str) -> list[str]:
    """A column's texts. Raises DataError by the first that is missing."""
    cells = table.cells(column)
    for row, cell in enumerate(cells):
        if cell is None:
            raise DataError(f"{table.place(row, column)}: empty; fill it in or drop the row")
    return [str(cell) for cell in cells]
