"""Where a shard's decoded images lie: in memory, or in a file (``common/tasks/data/stored``).

Whichever it is, the images are the same bits. A file has with them all that reading the shard has
found, so that one that is of the same files is opened and nothing is decoded.
"""

from __future__ import annotations

import logging
import os
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wardround.common.memory import available_bytes
from wardround.common.tasks.data.allowance import OF_IMAGE_FILES, allowed
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.data.stored.cache import StoreCache, source_digest
from wardround.common.tasks.data.stored.store import Store
from wardround.common.tasks.data.stored.writer import StoreWriter
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.imaging.options import ImagingOptions

log = logging.getLogger("wardround.data")
_SHARE = 4
"""Images of more than a part in so many of the available memory go to the disk: reading keeps them
twice for a moment, splitting once more, and training needs memory of its own."""
_UNREAD = {"store", "model", "augment", "bins", "normalise"}
"""Options that don't decide how an image is decoded."""


class Room:
    """Decides for one shard, and has its file.

    Parameters
    ----------
    path : of the shard
    folder : where its file may lie
    """

    def __init__(self, path: Path, options: ImagingOptions, folder: Path) -> None:
        self._path, self._options = path, options
        self._cache = StoreCache(folder, path)

    def found(self) -> Images | None:
        """The images, where they were decoded before and nothing has changed."""
        if not self._cache.any():
            return None
        store = self._cache.find(self._source)
        return None if store is None else _images(store)

    def is_short(self, size_bytes: int) -> bool:
        """Whether images of so many bytes are to go to the disk."""
        if self._options.store == "disk":
            return True
        available = available_bytes()
        if self._options.store == "memory" or _SHARE * size_bytes <= available:
            return False
        log.info(
            "images of task.size take %.2g of the %.2g GiB of memory that are free: they are kept "
            "in a file, and read batch by batch (task.store)",
            size_bytes / 2**30,
            available / 2**30,
        )
        return True

    def writer(self) -> StoreWriter:
        """The file of this shard. Raises DataError where it can't be written."""
        return self._cache.writer(self._source)

    def opened(self, path: Path) -> Images:
        """The images of a finished file; the shard's earlier ones go."""
        self._cache.keep_only(path)
        return _images(Store(path))

    @cached_property
    def _source(self) -> str:
        settings = self._options.model_dump(mode="json", exclude=_UNREAD)
        folder, files = _sources(self._path)
        said = {"path": self._path.name, "left out": allowed(OF_IMAGE_FILES)}
        return source_digest(folder, files, settings | said)


def facts(images: Images) -> dict[str, Any]:
    """All but the pixels, as JSON has it."""
    return {
        "labels": images.labels.tolist(),
        "patients": None if images.patients is None else images.patients.tolist(),
        "splits": None if images.splits is None else images.splits.tolist(),
        "left_out": [asdict(one) for one in images.left_out],
        "unnamed": images.unnamed,
        "noted": dict(images.noted),
        "keys": None if images.keys is None else images.keys.tolist(),
        "voxels": images.voxels,
    }


def _images(store: Store) -> Images:
    about = store.about
    patients, splits, keys = (
        None if about[name] is None else np.array(about[name], dtype=np.str_)
        for name in ("patients", "splits", "keys")
    )
    return Images(
        store.rows(),
        np.array(about["labels"], dtype=np.int64),
        patients,
        splits,
        tuple(LeftOut(**one) for one in about["left_out"]),
        about["unnamed"],
        about["noted"],
        keys,
        voxels=tuple((low, high) for low, high in about["voxels"]),
    )


def _sources(path: Path) -> tuple[Path, list[Path]]:
    """The files that a shard's images may be made of, and the folder that they lie in: of a CSV
    those beside it, but for other shards'."""
    if path.is_dir():
        return path, _files(path)
    if path.suffix.lower() != ".csv":
        return path.parent, [path]
    others = {entry for entry in path.parent.iterdir() if entry.suffix.lower() in (".csv", ".npz")}
    return path.parent, [file for file in _files(path.parent) if file not in others - {path}]


def _files(folder: Path) -> list[Path]:
    """All files below a folder, but those that begin with a dot, or lie in such a folder."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return [file for file in found if file.is_file()]


NOWHERE = torch.empty(0, dtype=torch.uint8)
"""Pixels of an image that were written down."""
