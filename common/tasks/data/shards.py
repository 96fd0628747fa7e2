"""What folders and files of shards may be called, and which of them say a split."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wardround.common.errors import DataError
from wardround.common.tasks.data.layouts import Layout
from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.text import composed

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "devel": "validation",
    "dev": "validation",
    "valid": "validation",
    "val": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Names that data give to the parts of a split."""
ONE_FILE = Layout("one file", "a file", "its rows")
SPLIT_FILES = Layout(
    "a split in files",
    "files `train`, `devel` (`dev`, `val`, `valid`, `validation`) and `test`, or whose names "
    "differ in such a word alone (`ncbi_train`, `ncbi_test`), in one folder",
    "their rows together; the names are the split",
)
FILES = Layout("files of rows", "other files in one folder", "their rows together")
HOSPITALS = Layout(
    "hospitals",
    "a folder of such files and folders (simulations only)",
    "each is a hospital, and its name the hospital's",
)
_NO_WORD = re.compile(r"[\W_]+")


def splits_of(names: Iterable[str]) -> dict[str, str | None]:
    """The split that each name says, None where it says none.

    A name says it by being a split's (train), or by a word in it, where names differ in that word
    alone (ncbi_train, ncbi_test).
    """
    said: dict[str, tuple[str, tuple[str, ...]]] = {}
    names = list(names)
    for name in names:
        words = [word for word in _NO_WORD.split(name.casefold()) if word]
        at = [number for number, word in enumerate(words) if word in SPLIT_NAMES]
        if len(at) == 1:
            said[name] = (SPLIT_NAMES[words[at[0]]], tuple(words[: at[0]] + words[at[0] + 1 :]))
    families: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for split, rest in said.values():
        families[rest].add(split)
    return {
        name: said[name][0]
        if name in said and (not said[name][1] or len(families[said[name][1]]) > 1)
        else None
        for name in names
    }


def visible(path: Path) -> list[Path]:
    """What lies in a folder, by name, without what the system hides there, or Excel while a file is
    open (~$name.xlsx)."""
    return [entry for entry in sorted(path.iterdir()) if not entry.name.startswith((".", "~$"))]


def shard_sites(path: Path, suffixes: tuple[str, ...] | None = None) -> dict[str, Path]:
    """Folders and readable files (of these endings, or any) below ``path``, by name.

    Raises DataError for a name that is used twice.
    """
    sites: dict[str, Path] = {}
    for entry in visible(path):
        if suffixes and not entry.is_dir() and entry.suffix.lower() not in suffixes:
            continue
        name = composed(entry.name if entry.is_dir() else entry.stem)
        if name in sites:
            raise DataError(f"{entry}: is hospital '{name}' like {sites[name].name}; rename one")
        sites[name] = entry
    return sites


@dataclass(frozen=True)
class ShardFiles:
    """The files of a shard, each with the split that its name says; what lies beside them."""

    files: list[tuple[Path, str | None]]
    layout: Layout
    left_out: tuple[LeftOut, ...] = ()


def shard_files(path: Path, suffixes: tuple[str, ...]) -> ShardFiles:
    """A file itself, or those of a folder that can be read.

    A folder's files either all say a split by their names (``splits_of``), or none does. Raises
    DataError otherwise, and where there is nothing to read.
    """
    if path.is_file():
        return ShardFiles([(path, None)], ONE_FILE)
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; check data.path")
    entries = visible(path)
    files = [entry for entry in entries if entry.is_file() and entry.suffix.lower() in suffixes]
    folders = sum(entry.is_dir() for entry in entries)
    if not files:
        inside = f" (of its {folders} folders none is looked into)" if folders else ""
        raise DataError(f"{path}: no file to read here{inside}; expected {', '.join(suffixes)}")
    splits = splits_of(file.stem for file in files)
    found = [(file, splits[file.stem]) for file in files]
    named = [file for file, split in found if split is not None]
    if named and len(named) < len(found):
        odd = next(file for file, split in found if split is None)
        raise DataError(
            f"{odd}: stands beside {named[0].name}, but is neither train, devel nor test; move it "
            "elsewhere or rename it"
        )
    others = len(entries) - len(files) - folders
    left = [
        LeftOut(folders, "folders", "a shard's files lie in one folder"),
        LeftOut(others, "files", f"their names don't end in {', '.join(suffixes)}"),
    ]
    return ShardFiles(found, SPLIT_FILES if named else FILES, added(left))
