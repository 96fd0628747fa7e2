"""The stores of a folder, found again by what they were made of.

A store's name has the digest of its sources: every file's name and content, how they are read, and
the versions of what reads them. So it is made once, and anew when any of these is another.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wardround.common.errors import DataError
from wardround.common.tasks.data.stored.store import Store
from wardround.common.tasks.data.stored.writer import StoreWriter

log = logging.getLogger("wardround.data")
_CHUNK_BYTES = 1 << 20
_ENDING, _DIGITS = ".images", 16
_READERS = (
    "wardround",
    "numpy",
    "torch",
    "pillow",
    "pydicom",
    "python-gdcm",
    "nibabel",
    "pylibjpeg-libjpeg",
)


class StoreCache:
    """The stores of one shard, in a folder that others' may be in too.

    Parameters
    ----------
    folder : is made when the first one is written
    shard : the file or folder that they are made of
    """

    def __init__(self, folder: Path, shard: Path) -> None:
        self._folder = folder
        self._prefix = hashlib.sha256(bytes(shard.absolute())).hexdigest()[:_DIGITS]

    def any(self) -> bool:
        """Whether there is one at all: only then is it worth digesting what it is made of."""
        return any(self._stores())

    def find(self, source: str) -> Store | None:
        """The store of these sources; None where there is none, or none that is whole."""
        path = self._path(source)
        if not path.is_file():
            return None
        try:
            store = Store(path)
            if store.header.source == source:
                return store
            reason = "it is of other sources"
        except DataError as error:
            reason = str(error)
        log.warning("stored images are made again: %s", reason)
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return None

    def writer(self, source: str) -> StoreWriter:
        """A new store of these sources. Raises DataError where it can't be written."""
        return StoreWriter(self._path(source), source)

    def keep_only(self, path: Path) -> None:
        """Remove the shard's other stores: of files that have changed, or read otherwise."""
        for other in self._stores():
            if other != path:
                with suppress(OSError):
                    other.unlink(missing_ok=True)

    def _stores(self) -> Iterator[Path]:
        return self._folder.glob(f"{self._prefix}-*{_ENDING}")

    def _path(self, source: str) -> Path:
        return self._folder / f"{self._prefix}-{source[:_DIGITS]}{_ENDING}"


def source_digest(root: Path, files: Iterable[Path], settings: Mapping[str, Any]) -> str:
    """SHA-256 of the files' places below ``root``, their contents, the settings that they are read
    by, and the versions of what reads them. Raises DataError for a file that can't be read."""
    total = hashlib.sha256()
    for file in sorted(files):
        try:
            about = file.stat()
            content = _content(file, about.st_size, about.st_mtime_ns)
        except OSError as error:
            raise DataError(f"{root}: a file can't be read ({error.strerror})") from None
        total.update(json.dumps([str(file.relative_to(root)), content]).encode())
    total.update(json.dumps([settings, _versions()], sort_keys=True).encode())
    return total.hexdigest()


@cache
def _versions() -> dict[str, str]:
    found = {}
    for name in _READERS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@cache
def _content(file: Path, size: int, mtime_ns: int) -> str:
    """Of a file as it was then: several shards may lie beside the same pictures."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
