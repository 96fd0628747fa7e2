"""Images as they lie in a folder: which layout, whose, and how many of each class.

The layouts are those that the imaging task reads (``common/tasks/imaging/layouts.py``). That table
is asked with the classes in hand; here they are still to be found, so a folder is a class by what
lies in it. Nothing is decoded, and no file's name is told.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from wardround.common.errors import DataError
from wardround.common.tasks.data.layouts import Layout
from wardround.common.tasks.data.profile.words import says_patient
from wardround.common.tasks.data.shards import SPLIT_NAMES, shard_sites, splits_of, visible
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.data.tables import READABLE, read_table
from wardround.common.tasks.imaging.bids import PARTICIPANTS, is_bids
from wardround.common.tasks.imaging.kinds import kind_of
from wardround.common.tasks.imaging.layouts import BIDS, CLASSES, CSV, FILES, NPZ, SPLIT
from wardround.common.text import code
from wardround.simulations.beginning.words import says_split

_FEW = 20
"""Cells, files or folders that are looked at to say what a column or folder holds."""
_MOST_LABELS = 100
_MISSING = ("", "n/a")


@dataclass(frozen=True)
class ImageSet:
    """One hospital's images, or a data set's.

    title : its file or folder, without an ending
    counts : images by class as it is written there; of BIDS participants, of a table rows
    files : some images: files, or folders of slices; none of an npz, whose shape is ``shape``
    columns : of the table that names them, by the key of ``[task.files]``
    patients : that the table names; 0 where it names none
    suffixes : last words of the names of a BIDS data set's images, with how many have it
    """

    title: str
    path: Path
    layout: Layout
    counts: Counter[str]
    files: tuple[Path, ...] = ()
    shape: tuple[int, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    suffixes: Counter[str] = field(default_factory=Counter)
    patients: int = 0


@dataclass(frozen=True)
class ImageSets:
    """one_set : it is one data set, not a folder of hospitals"""

    sets: tuple[ImageSet, ...]
    one_set: bool
    problems: tuple[str, ...] = ()


def find_images(path: Path, label: str | None) -> ImageSets | None:
    """The images of a folder or file; None where there is none, or a table that names none.

    label : the column of classes of a table, where its name doesn't say it

    Raises DataError for a table of images that can't be read.
    """
    if (one := _one_set(path, label)) is not None and not _hospitals_inside(path, one, label):
        return ImageSets((one,), True)
    if not path.is_dir() or _has_other_tables(path, label):
        return None
    sets, problems = [], []
    for place in shard_sites(path, FILES).values():
        try:
            found = _one_set(place, label)
        except DataError as error:
            problems.extend(str(error).splitlines())
            continue
        if found is not None:
            sets.append(found)
    if any(one.layout is CSV and one.path.parent == path for one in sets):
        # folders of classes beside tables hold the tables' pictures
        sets = [one for one in sets if one.path.is_file() or one.layout is not CLASSES]
    if len(sets) == 1 and not problems:
        return ImageSets(tuple(sets), True)
    return ImageSets(tuple(sets), False, tuple(problems)) if sets or problems else None


def _hospitals_inside(path: Path, one: ImageSet, label: str | None) -> bool:
    """Whether what looks like one data set is a hospital beside others: of classes, where folders
    have a table, an npz or classes that two of them share; of a table or npz, where a folder beside
    it is a data set by itself (folders of classes beside a table have its pictures)."""
    if not path.is_dir() or one.layout in (SPLIT, BIDS):
        return False
    inside = [_one_set(folder, label) for folder in visible(path) if folder.is_dir()]
    found = [each for each in inside if each is not None]
    if any(each.layout is not CLASSES for each in found):
        return True
    if one.layout is NPZ:
        return bool(found)
    classes = Counter(name for each in found for name in each.counts)
    return one.layout is CLASSES and any(count > 1 for count in classes.values())


def _has_other_tables(path: Path, label: str | None) -> bool:
    """Whether a table lies there that names no images: then it is what there is to learn from."""
    for entry in visible(path):
        if entry.is_file() and entry.suffix.lower() in READABLE:
            if entry.suffix.lower() != ".csv" or _listed(entry, label) is None:
                return True
    return False


def _one_set(path: Path, label: str | None) -> ImageSet | None:
    """The one data set that a path is, in the order of ``layouts.layout_of``."""
    if path.is_file():
        if path.suffix.lower() == ".npz":
            return _npz(path, path.stem)
        return _listed(path, label) if path.suffix.lower() == ".csv" else None
    if not path.is_dir():
        return None
    if is_bids(path):
        return _bids(path, label)
    entries = visible(path)
    for suffix, make in ((".csv", partial(_listed, label=label)), (".npz", _npz)):
        files = [one for one in entries if one.is_file() and one.suffix.lower() == suffix]
        if len(files) == 1 and (found := make(files[0], title=path.name)) is not None:
            return found
    folders = [entry for entry in entries if entry.is_dir()]
    splits = splits_of(folder.name for folder in folders)
    if any(splits.values()):
        parts = [_classes(folder) for folder in folders if splits[folder.name]]
        counts = sum((counts for counts, _ in parts), Counter[str]())
        some = tuple(file for _, part in parts for file in part)
        return ImageSet(path.name, path, SPLIT, counts, some) if counts else None
    counts, some = _classes(path)
    return ImageSet(path.name, path, CLASSES, counts, some) if counts else None


# --- folders --------------------------------------------------------------------------------------
def _classes(path: Path) -> tuple[Counter[str], tuple[Path, ...]]:
    """Images by the folders that hold them, and some of them."""
    counts: Counter[str] = Counter()
    some: list[Path] = []
    for folder in (entry for entry in visible(path) if entry.is_dir()):
        images = [one for one in visible(folder) if _is_image(one)]
        if images and not _is_series(folder):
            counts[folder.name] = len(images)
            some += images[:_FEW]
    return counts, tuple(some)


def _is_image(path: Path) -> bool:
    return _is_series(path) if path.is_dir() else kind_of(path) is not None


def _is_series(folder: Path) -> bool:
    """Whether a folder's DICOM files are slices of one volume, by the first two."""
    files = [one for one in islice(visible(folder), _FEW) if one.is_file()]
    slices = [one for one in files if kind_of(one) == "dicom"][:2]
    if len(slices) < 2:
        return False
    try:
        from pydicom import dcmread
        from pydicom.errors import InvalidDicomError
    except ImportError:
        return False
    try:
        read = [dcmread(one, specific_tags=["SeriesInstanceUID"]) for one in slices]
    except (OSError, InvalidDicomError, ValueError):
        return False
    first, second = (str(one.get("SeriesInstanceUID") or "") for one in read)
    return first == second != ""


# --- an npz ---------------------------------------------------------------------------------------
def _npz(path: Path, title: str) -> ImageSet | None:
    """None where it has no arrays of images: then it is none of ours to explain."""
    counts: Counter[str] = Counter()
    shape: tuple[int, ...] = ()
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                if name.endswith("labels"):
                    counts.update(str(int(one)) for one in arrays[name].reshape(-1))
            images = next((name for name in arrays.files if name.endswith("images")), None)
            if images is not None:
                shape = arrays[images].shape[1:]
    except (OSError, ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile):
        raise DataError(f"{path}: not readable as npz of images and labels") from None
    return ImageSet(title, path, NPZ, counts, shape=shape) if counts and shape else None


# --- tables that name images ----------------------------------------------------------------------
def _listed(path: Path, label: str | None, title: str | None = None) -> ImageSet | None:
    """A CSV of whose columns one names images beside it."""
    if not any(one.is_dir() or kind_of(one) for one in visible(path.parent)):
        return None  # a table is read once more only where there may be images
    try:
        table = read_table(path, missing_values=_MISSING, texts=None, hide_names=True)
    except DataError:
        return None  # whoever reads it as a table says why
    column = next((name for name in table.columns if _names_images(table, name, path)), None)
    if column is None:
        return None
    files = tuple(_files(table, column, path.parent))
    columns = {"image": column} | _columns(table, path, {column}, label)
    counts = _counts(table, columns["label"])
    known = len(_counts(table, columns["patient_id"])) if "patient_id" in columns else 0
    return ImageSet(title or path.stem, path, CSV, counts, files, columns=columns, patients=known)


def _names_images(table: Table, column: str, path: Path) -> bool:
    return any(True for _ in _files(table, column, path.parent))


def _files(table: Table, column: str, folder: Path) -> Iterator[Path]:
    """Images that some of a column's cells name."""
    cells = (str(one) for one in table.cells(column)[:_FEW] if one is not None)
    for cell in cells:
        file = folder / cell
        try:
            if cell.strip(". ") and file.exists() and (file.is_dir() or kind_of(file)):
                yield file
        except (OSError, ValueError):  # too long for a name, or no name
            continue


def _columns(table: Table, path: Path, taken: set[str], label: str | None) -> dict[str, str]:
    """Label, patient and split. Raises DataError where no name says the label."""
    rest = [name for name in table.columns if name not in taken]
    found = {}
    if (patient := next((name for name in rest if says_patient(name)), None)) is not None:
        found["patient_id"] = patient
    for name in rest:
        texts = {str(one).strip().casefold() for one in table.cells(name) if one is not None}
        if says_split(name) and texts and texts <= set(SPLIT_NAMES):
            found["split"] = name
            break
    possible = [name for name in rest if name not in found.values() and _few(table, name)]
    if label is not None:
        if label not in table.columns:
            raise DataError(f"{path}: there is no column '{label}', the target; name it there")
        return found | {"label": label}
    named = [name for name in possible if name.casefold() in _LABELS]
    chosen = named if len(named) == 1 else possible
    if len(chosen) != 1:
        listed = ", ".join(f"'{name}'" for name in possible) or "no column has a few values"
        raise DataError(f"{path}: which column is the image's class? --target COLUMN: {listed}")
    return found | {"label": chosen[0]}


_LABELS = frozenset("label labels class target diagnosis klasse diagnose".split())


def _few(table: Table, name: str) -> bool:
    """Whether a column has few enough values, each in several rows, to be classes."""
    counts = _counts(table, name)
    return 1 < len(counts) <= min(_MOST_LABELS, max(2, len(table) // 2))


def _counts(table: Table, column: str) -> Counter[str]:
    return Counter(code(str(one)) for one in table.cells(column) if one is not None)


# --- BIDS -----------------------------------------------------------------------------------------
def _bids(path: Path, label: str | None) -> ImageSet:
    table = read_table(path / PARTICIPANTS, missing_values=_MISSING, texts=None, hide_names=True)
    columns = _columns(table, path / PARTICIPANTS, {"participant_id"}, label)
    columns.pop("patient_id", None)  # a participant is a patient
    by_suffix: dict[str, list[Path]] = {}
    for file in _nifti_files(path):
        stem = file.name.partition(".")[0]
        by_suffix.setdefault(stem.rpartition("_")[2], []).append(file)
    suffixes = Counter({name: len(files) for name, files in by_suffix.items()})
    files = by_suffix[bids_suffix(suffixes)][:_FEW] if by_suffix else []
    counts = _counts(table, columns["label"])
    known = sum(counts.values())
    return ImageSet(path.name, path, BIDS, counts, tuple(files), (), columns, suffixes, known)


def bids_suffix(suffixes: Counter[str]) -> str:
    """The images that are meant: T1w where there are any, else the most."""
    return "T1w" if "T1w" in suffixes else max(suffixes, key=lambda name: (suffixes[name], name))


def _nifti_files(path: Path) -> Sequence[Path]:
    subjects = [one for one in visible(path) if one.name.startswith("sub-") and one.is_dir()]
    return [file for one in subjects for file in sorted(one.rglob("*.nii*")) if file.is_file()]
