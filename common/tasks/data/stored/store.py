"""Reads a store: any rows, as a tensor, by positional reads of several threads.

Measured where memory holds half of the file (600 MB of 224 x 224 bytes in a limit of 300 MB, random
batches of 64): a memory map reads 350 images/s, as the system reads ahead and throws away what it
has; the same map told that reads are random 1,400; ``preadv`` of whole rows 7,000 to 9,000, by four
threads 11,000 to 15,000. What was read stays in the page cache while there is room, and no longer.
"""

from __future__ import annotations

import hashlib
import json
import os
import weakref
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wardround.common.errors import DataError
from wardround.common.tasks.data.stored.form import FORM, PAGE, Header, decoded
from wardround.common.tasks.inputs import Rows

_READERS = 4
"""Threads that read one batch: a disk answers several requests sooner than one after the other."""
_ALONE_BYTES = 1 << 18
"""A batch of less is read by the thread that asks."""
_AT_ONCE = 256
"""Rows that are looked at together where a whole file is."""
_pools: list[ThreadPoolExecutor] = []
os.register_at_fork(after_in_child=_pools.clear)  # threads aren't forked


class Store:
    """An open store.

    Attributes
    ----------
    path : of its file
    header : what it holds
    about : what was kept with it

    Raises DataError for a file that is cut, damaged, of a newer form, or isn't there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DataError(f"{path}: can't be read ({error.strerror})", mend=FORM.mend) from None
        self._close = weakref.finalize(self, os.close, self._file)
        self.header = Header.of(os.pread(self._file, PAGE, 0), str(path))
        facts = os.pread(self._file, self.header.facts_bytes, self.header.facts_at)
        whole = os.fstat(self._file).st_size == self.header.size
        if not whole or hashlib.sha256(facts).hexdigest() != self.header.facts:
            raise self._damaged()
        values = json.loads(facts)
        self._checks: list[int] = values["checks"]
        self._spans = np.array(values["spans"], dtype=np.int64)
        self.about: Mapping[str, Any] = values["about"]
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)
        if self._has_holes():
            for start in range(0, self.header.rows, _AT_ONCE):
                self.take(np.arange(start, min(start + _AT_ONCE, self.header.rows)))

    def __reduce__(self) -> tuple[type[Store], tuple[Path]]:
        """Another process opens it for itself."""
        return Store, (self.path,)

    def rows(self) -> StoredRows:
        """All of it, in the order in which it was written."""
        return StoredRows(self, np.arange(self.header.rows, dtype=np.int64))

    def take(self, rows: Rows) -> Tensor:
        """Rows of the file at these positions, in that order.

        Raises DataError for a row that isn't what was written; the file is removed then.
        """
        header = self.header
        found = np.empty((len(rows), *header.shape), header.kind)
        if not found.size:
            return self._tensor(found, rows)
        order = np.argsort(rows, kind="stable")  # a disk likes them in its own
        if found.nbytes < _ALONE_BYTES:
            self._read(found, rows, order)
        else:
            pool = _pools[0] if _pools else _new_pool()
            parts = np.array_split(order, _READERS)
            for _ in pool.map(lambda part: self._read(found, rows, part), parts):
                pass
        return self._tensor(found, rows)

    def _tensor(self, found: NDArray[Any], rows: Rows) -> Tensor:
        return torch.from_numpy(
            decoded(found, self._spans[rows]) if self.header.kind == "uint16" else found
        )

    def _read(self, found: NDArray[Any], rows: Rows, positions: Rows) -> None:
        """Read what belongs at these positions of ``found``."""
        size = self.header.row_bytes
        for position in positions.tolist():
            row = int(rows[position])
            into = memoryview(found[position]).cast("B")
            try:
                read = os.preadv(self._file, [into], PAGE + row * size)
            except OSError as error:
                raise DataError(f"{self.path}: can't be read ({error.strerror})") from None
            if read != size or zlib.crc32(into) != self._checks[row]:
                self.path.unlink(missing_ok=True)
                raise self._damaged()

    def _has_holes(self) -> bool:
        """Whether parts of the file were never written, as far as its file system knows; some take
        written zeros for such."""
        try:
            return os.lseek(self._file, 0, os.SEEK_HOLE) < self.header.size
        except (OSError, AttributeError):
            return False

    def _damaged(self) -> DataError:
        return DataError(
            f"{self.path}: the stored images are damaged",
            mend="look after the disk, and start again: they are made anew",
        )


class StoredRows:
    """Some rows of a store, in an order: ``StoredInputs``."""

    def __init__(self, store: Store, rows: Rows) -> None:
        self.store, self._rows = store, rows

    @property
    def dtype(self) -> torch.dtype:
        return self.store.header.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._rows), *self.store.header.shape)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: Rows) -> Tensor:
        return self.store.take(self._rows[rows])

    def select(self, rows: Rows) -> StoredRows:
        return StoredRows(self.store, self._rows[rows])


def _new_pool() -> ThreadPoolExecutor:
    _pools.append(ThreadPoolExecutor(_READERS, thread_name_prefix="store"))
    return _pools[0]
