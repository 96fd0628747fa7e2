"""Files that are whole after any crash, and what is said where a disk is full or can't be written.

To a temporary name, fsync, rename, fsync of the folder: a crash at any moment leaves the old file
or the new one. Lines are added to a file with an fsync; one that a crash tore never takes the next
one with it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wardround.common.errors import RunDirectoryError

UNWRITABLE = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
)
"""``OSError.errno`` of a disk that is full, or that this process may not or can't write to."""

MAKE_ROOM = "make room or mend its rights, then start again"
"""The mend of a process that can't write what it must."""


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
        raise unwritable(error, place, go_on) from error


def unwritable(
    error: OSError, place: Path | None = None, go_on: str = "run it again"
) -> RunDirectoryError:
    """What is said of a disk that is full, or can't be written to, with the mend.

    place : what was written, where the error doesn't say
    """
    return RunDirectoryError(
        f"can't be written ({error.strerror})",
        who=str(error.filename or place or "a file"),
        mend=f"make room or mend its rights, then {go_on}",
    )


def write_atomically(
    path: Path,
    data: bytes | Iterable[bytes | memoryview],
    private: bool = False,
    durable: bool = True,
) -> None:
    """Replace ``path`` by ``data`` so that a crash at any moment leaves the old or the new file.

    For one writer at a time: the temporary name follows from the path.

    data : whole, or piece by piece
    private : readable by its owner only, from the first byte on, and its folder's owner owns it
    durable : it has reached the disk when this returns; else a power cut may leave a torn file,
        which its reader must be able to tell

    Raises OSError, and leaves nothing of what it wrote.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        if private:
            temporary.unlink(missing_ok=True)  # what a crash left may have been another's
        with open(temporary, "wb", opener=_new_private if private else None) as file:
            for part in (data,) if isinstance(data, bytes) else data:
                file.write(part)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if private:
            hand_over(temporary)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if error.errno is not None:
            error.filename = error.filename or str(path)  # a full disk doesn't say which file
        raise
    if durable:
        sync(path.parent)


def append_lines(path: Path, lines: bytes, private: bool = False, durable: bool = True) -> None:
    """Add whole lines to a file, made if there is none.

    A last line that a crash tore is ended first.

    durable : they have reached the disk when this returns; else a power cut may take or tear them

    Raises OSError.
    """
    made = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600 if private else 0o666)
    with os.fdopen(descriptor, "a+b") as file:
        if end := file.seek(0, os.SEEK_END):
            file.seek(end - 1)
            if file.read(1) != b"\n":
                lines = b"\n" + lines
        file.write(lines)
        file.flush()
        if durable:
            os.fsync(descriptor)
    if private:
        hand_over(path)
    if made and durable:
        sync(path.parent)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hand_over(path: Path) -> None:
    """Give what root has just made to the owner of the folder that it lies in. Raises OSError."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        if owner.st_uid != path.stat().st_uid:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _new_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, 0o600)
