"""A BIDS data set: ``sub-*/[ses-*/]anat/sub-*_T1w.nii.gz``, with labels in ``participants.tsv``.

Brain Imaging Data Structure 1.10 (Gorgolewski et al. 2016, doi:10.1038/sdata.2016.44). An image is
told by its suffix, the last word of its name; all of one participant's are one patient's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from wardround.common.errors import DataError, Unreadable
from wardround.common.tasks.data.roles import split_cells
from wardround.common.tasks.data.row_keys import file_key, identifier_digest
from wardround.common.tasks.data.shards import visible
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.data.tables import read_table
from wardround.common.tasks.imaging.decode import decode
from wardround.common.tasks.imaging.gather import Gathered
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.imaging.kinds import kind_of
from wardround.common.tasks.imaging.listed import class_of
from wardround.common.tasks.imaging.options import ImagingOptions

PARTICIPANTS = "participants.tsv"
_ID, _SUBJECT, _SESSION = "participant_id", "sub-", "ses-"
_MISSING = ("", "n/a")
"""BIDS writes n/a for what isn't known."""


def is_bids(path: Path) -> bool:
    """Whether a folder is a BIDS data set: participants in a table, and a folder for each."""
    return (path / PARTICIPANTS).is_file() and any(_subjects(path))


def read_bids(path: Path, options: ImagingOptions, gathered: Gathered) -> Images:
    """The images of ``task.files.suffix``. Raises DataError by the table's line, or by an image's
    place."""
    names = options.files
    used = [name for name in (_ID, names.label, names.split) if name is not None]
    table = read_table(path / PARTICIPANTS, missing_values=_MISSING, texts=used, hide_names=True)
    labels, ids = table.cells(names.label), _ids(table)
    splits = split_cells(table, names.split) if names.split else [""] * len(table)
    folders = {folder.name: folder for folder in _subjects(path)}
    unknown = 0
    for row, id in enumerate(ids):
        if (folder := folders.pop(id, None)) is None:
            gathered.leave_out(1, "participants", "the table names them, and they have no folder")
            continue
        found, others = _images(folder, names.suffix)
        gathered.leave_out(others, "images", f"of another suffix than '{names.suffix}'")
        if labels[row] is None:
            unknown += len(found)
            continue
        gathered.expect(len(found))
        label = class_of(str(labels[row]), options, table.place(row, names.label))
        for number, file in enumerate(found, 1):
            place = f"{table.place(row, _ID)}: image {number} by name"
            try:
                image = decode(file, options, place)
            except Unreadable as error:
                gathered.add_unreadable(error)
                continue
            gathered.add(
                image, label, str(splits[row]), partial(file_key, file), identifier_digest(id)
            )
    gathered.leave_out(unknown, "images", "their participant's label is n/a")
    gathered.leave_out(len(folders), "folders", f"of participants that {PARTICIPANTS} lacks")
    gathered.check(
        f"{path}: no image of a participant with a label whose name ends in "
        f"_{names.suffix}.nii or _{names.suffix}.nii.gz; check task.files.suffix"
    )
    return gathered.images()


def all_images(path: Path, suffix: str) -> Iterator[Path]:
    """The NIfTI files of a suffix of every participant's folder, in the order of names."""
    for folder in _subjects(path):
        yield from _images(folder, suffix)[0]


def _ids(table: Table) -> list[str]:
    """Each row's participant, as its folder is called. Raises DataError at one without, or one
    that stands there twice."""
    found: dict[str, None] = {}
    for row, cell in enumerate(table.cells(_ID)):
        place = table.place(row, _ID)
        if cell is None:
            raise DataError(f"{place}: empty; fill it in or drop the row")
        id = str(cell) if str(cell).startswith(_SUBJECT) else f"{_SUBJECT}{cell}"
        if id in found:
            raise DataError(f"{place}: an earlier row is of the same participant; keep one")
        found[id] = None
    return list(found)


def _subjects(path: Path) -> Iterator[Path]:
    return (one for one in visible(path) if one.name.startswith(_SUBJECT) and one.is_dir())


def _images(subject: Path, suffix: str) -> tuple[list[Path], int]:
    """The NIfTI files of a suffix, by session and name, and how many images are others."""
    sessions = [one for one in visible(subject) if one.name.startswith(_SESSION) and one.is_dir()]
    found, others = [], 0
    for place in sessions or [subject]:
        for kind in (one for one in visible(place) if one.is_dir()):
            for file in visible(kind):
                if kind_of(file) is None:
                    continue
                named = file.name.endswith((f"_{suffix}.nii", f"_{suffix}.nii.gz"))
                found += [file] if named else []
                others += not named
    return found, others
