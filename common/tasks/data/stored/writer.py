"""Writes a store row by row, in memory that doesn't grow with the rows.

Under a temporary name that a lock holds; renamed when it is whole and on the disk. What a kill
leaves is removed by the next writer in that folder, and made from the start.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from wardround.common.durable.files import UNWRITABLE, hand_over, sync
from wardround.common.durable.private import private_folder, why
from wardround.common.errors import DataError
from wardround.common.tasks.data.stored.form import (
    KINDS,
    PAGE,
    Encoded,
    Header,
    Kind,
    encoded,
    widened,
)

_ENDING = ".building"
_TO_DISK_BYTES = 32 << 20
"""Written so much, it is brought to the disk: until then the system can't take the memory back."""
_SPARE_BYTES = 256 << 20
"""That stays free on the disk for everybody else."""


class StoreWriter:
    """A store that is being made.

    Parameters
    ----------
    path : of the finished store; its folder is made (0700) if it isn't there
    source : digest of what the rows are made of

    Raises DataError where it can't be written.
    """

    def __init__(self, path: Path, source: str) -> None:
        self._path, self._source = path, source
        self._kind: Kind = KINDS[0]
        self._shape: tuple[int, ...] | None = None
        self._checks: list[int] = []
        self._spans: list[int] = []
        self._unsynced = 0
        private_folder(path.parent)
        _remove_left(path.parent)
        self._file, self._temporary = self._begun()

    def __len__(self) -> int:
        return len(self._checks)

    def add(self, row: Tensor, more: int = 0) -> None:
        """Write a row, which has the shape of the others.

        more : rows that are still to come, as far as is known

        Raises DataError where the disk is full, or has no room for them.
        """
        new = encoded(row)
        first = self._shape is None
        self._shape = new.values.shape
        if self._wider(new.kind) != self._kind:
            self._widen(self._wider(new.kind), more)
        elif first or self._unsynced > _TO_DISK_BYTES:
            self._check_disk(1 + more)
        self._write(widened(new, self._kind))

    def finish(self, about: Mapping[str, Any]) -> Path:
        """The store, whole and on the disk, with what is to be kept of it as JSON."""
        facts = json.dumps({"checks": self._checks, "spans": self._spans, "about": about}).encode()
        header = Header(
            self._source,
            self._kind,
            list(self._shape or ()),
            len(self),
            len(facts),
            hashlib.sha256(facts).hexdigest(),
        )
        try:
            self._file.write(facts)
            self._file.seek(0)
            self._file.write(header.page())
            self._file.flush()
            os.fsync(self._file.fileno())
            hand_over(self._temporary)
            os.replace(self._temporary, self._path)
            sync(self._path.parent)
        except OSError as error:
            raise self._refused(error) from None
        self._file.close()
        return self._path

    def discard(self) -> None:
        """Leave nothing, unless it is finished."""
        self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _wider(self, kind: Kind) -> Kind:
        return max(self._kind, kind, key=KINDS.index) if len(self) else kind

    def _begun(self) -> tuple[BinaryIO, Path]:
        """A new file, this user's only, which a lock says is in use."""
        try:
            descriptor, name = tempfile.mkstemp(_ENDING, f".{self._path.name}.", self._path.parent)
            file = os.fdopen(descriptor, "w+b")
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(bytes(PAGE))
        except OSError as error:
            raise self._refused(error) from None
        return file, Path(name)

    def _write(self, row: Encoded) -> None:
        data = np.ascontiguousarray(row.values).reshape(-1).view(np.uint8).data
        try:
            self._file.write(data)
            self._unsynced += len(data)
            if self._unsynced > _TO_DISK_BYTES:
                self._file.flush()
                os.fdatasync(self._file.fileno())
                self._unsynced = 0
        except OSError as error:
            raise self._refused(error) from None
        self._checks.append(zlib.crc32(data))
        self._spans.append(row.span)

    def _widen(self, kind: Kind, more: int) -> None:
        """Go on with rows of a wider kind: those that are written are written again."""
        if not len(self):
            self._kind = kind
            self._check_disk(1 + more)
            return
        old, old_path, before, spans = self._file, self._temporary, self._kind, self._spans
        rows = len(self)
        self._kind, self._checks, self._spans = kind, [], []
        self._check_disk(rows + 1 + more)
        self._file, self._temporary = self._begun()
        try:
            old.seek(PAGE)
            assert self._shape is not None
            count = math.prod(self._shape)
            for row in range(rows):
                values = np.frombuffer(old.read(count * np.dtype(before).itemsize), before)
                was = Encoded(before, values.reshape(self._shape), spans[row])
                self._write(widened(was, kind))
        finally:
            old.close()
            old_path.unlink(missing_ok=True)

    def _check_disk(self, rows: int) -> None:
        """Raise DataError where so many more rows don't fit on the disk."""
        assert self._shape is not None
        needed = rows * math.prod(self._shape) * np.dtype(self._kind).itemsize
        free = shutil.disk_usage(self._path.parent).free - _SPARE_BYTES
        if needed > free:
            raise DataError(
                f"{self._path.parent}: images of task.size take {needed / 2**30:.2g} GiB of the "
                f"disk, and there are {max(0, free) / 2**30:.2g} GiB; make room, lower task.size, "
                "or use fewer images"
            )

    def _refused(self, error: OSError) -> DataError:
        full = error.errno in UNWRITABLE - {errno.EACCES, errno.EPERM}
        mend = "make room on that disk" if full else "mend its rights"
        reason = why(error, self._path.parent)
        return DataError(f"{self._path.parent}: images can't be kept there ({reason}); {mend}")


def _remove_left(folder: Path) -> None:
    """Remove what writers that are gone have left."""
    for path in folder.glob(f".*{_ENDING}"):
        try:
            with open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody is at it
                path.unlink(missing_ok=True)
        except OSError:
            continue
