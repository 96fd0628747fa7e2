"""Files that are whole after any crash, and what is said where a disk is full or can't be written.

To a temporary name, fsync, rename, fsync of the folder: a crash at any moment leaves the old file
or the new one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wardround.common.errors import RunDirectoryError

UNWRITABLE = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
)
"""``OSError.errno`` of a disk that is full, or that this process may not or can't write to."""


@contextmanager
def writing(place: Path, go_on: str) -> Iterator[None]:
    """Raise RunDirectoryError, with the mend, where the disk is full or can't be written to.

    place : what is written, where the error doesn't say; ``go_on``: the end of the mend
    """
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise RunDirectoryError(
            f"can't be written ({error.strerror})",
            who=str(error.filename or place),
            mend=f"make room or mend its rights, then {go_on}",
        ) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` so that a crash at any moment leaves the old or the new file."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename or a new name in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
