"""A folder for each class: ``class/file``, or ``train/class/file`` where the data has its split.

Whatever lies elsewhere has no label: it is counted, or refused where it looks like a mistake.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from wardround.common.errors import DataError, Unreadable
from wardround.common.tasks.data.row_keys import file_key
from wardround.common.tasks.data.shards import splits_of, visible
from wardround.common.tasks.imaging.decode import decode
from wardround.common.tasks.imaging.gather import NO_IMAGE, Gathered
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.imaging.kinds import kind_of
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.text import code


def read_folders(
    path: Path, options: ImagingOptions, gathered: Gathered, with_split: bool
) -> Images:
    """The images below ``path``. Raises DataError naming a folder, and an image by its place."""
    if with_split:
        _leave_files(path, gathered)
        for folder, split in _split_folders(path):
            _read_classes(folder, split, options, gathered)
    else:
        _read_classes(path, "", options, gathered)
    gathered.check(f"{path}: no image in its folders of {_named(options)}")
    return gathered.images()


def _named(options: ImagingOptions) -> str:
    more = ", ..." if len(options.classes) > 10 else ""
    return f"task.classes ({', '.join(options.classes[:10])}{more})"


def _split_folders(path: Path) -> list[tuple[Path, str]]:
    """Raises DataError for a folder beside those of the split, which would be passed over."""
    folders = [entry for entry in visible(path) if entry.is_dir()]
    splits = splits_of(folder.name for folder in folders)
    found = []
    for number, folder in enumerate(folders, 1):
        split = splits[folder.name]
        if split is None:
            raise DataError(
                f"{path}: folder {number} of {len(folders)}, by name, stands beside those of a "
                "split, and is neither train, val nor test; rename it or move it elsewhere"
            )
        found.append((folder, split))
    return found


def _read_classes(folder: Path, split: str, options: ImagingOptions, gathered: Gathered) -> None:
    _leave_files(folder, gathered)
    places = _class_folders(folder, options)
    if not places and visible(folder):
        raise DataError(
            f"{folder}: there are files, but no folder for each class, named as in "
            f"{_named(options)}; move them into such folders"
        )
    found = {}
    for label, place in sorted(places.items()):
        entries = visible(place)
        found[label] = [e for e in entries if e.is_dir() or kind_of(e) is not None]
        gathered.leave_out(len(entries) - len(found[label]), "files", NO_IMAGE)
    gathered.expect(sum(map(len, found.values())))
    for label, images in found.items():
        for number, entry in enumerate(images, 1):
            try:
                image = decode(entry, options, f"{places[label]}: image {number} by name")
            except Unreadable as error:
                gathered.add_unreadable(error)
            else:
                gathered.add(image, label, split, partial(file_key, entry))


def _class_folders(folder: Path, options: ImagingOptions) -> dict[int, Path]:
    """Label to folder. Raises DataError for a folder of no class, or two of one."""
    names = [code(name) for name in options.classes]
    inside = [entry for entry in visible(folder) if entry.is_dir()]
    found: dict[int, Path] = {}
    for number, entry in enumerate(inside, 1):
        if code(entry.name) not in names:
            raise DataError(
                f"{folder}: folder {number} of {len(inside)}, by name, is none of "
                f"{_named(options)}; rename it or move it elsewhere"
            )
        label = names.index(code(entry.name))
        if label in found:
            raise DataError(f"{folder}: two folders are of class '{options.classes[label]}'")
        found[label] = entry
    return found


def _leave_files(folder: Path, gathered: Gathered) -> None:
    """Count the files that lie beside the folders."""
    files = [entry for entry in visible(folder) if not entry.is_dir()]
    images = sum(kind_of(file) is not None for file in files)
    gathered.leave_out(images, "images", "they lie beside the classes' folders, without a class")
    gathered.leave_out(len(files) - images, "files", NO_IMAGE)
