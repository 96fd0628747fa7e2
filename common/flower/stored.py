"""What of a record stays in a file, or in memory that isn't to be copied: its bytes are never made
as a whole.

Flower's records take its ``Array`` and plain ``bytes`` only. So both have a kind here that is one
of them by its type and has its bytes elsewhere, in a *blob*; who may meet one asks the functions
below, which take the ordinary kind too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from flwr.app import Array
from numpy.typing import NDArray

from wardround.common.mapped import is_mapped, let_go, windows

STORED_BYTES = 1 << 16
"""What is smaller is read into memory with the rest of its message."""


class StoredBlob:
    """Bytes that are looked at piece by piece: a head, then the rest where it lies.

    body : flat, uint8
    """

    def __init__(self, head: bytes, body: NDArray[np.uint8]) -> None:
        self._head, self._body = head, body

    def __len__(self) -> int:
        return len(self._head) + len(self._body)

    def read(self, offset: int, count: int) -> bytes:
        """At most ``count`` bytes from ``offset``; fewer only at the end."""
        head, start = self._head[offset : offset + count], max(0, offset - len(self._head))
        part = self._body[start : start + count - len(head)]
        data = head + part.tobytes()
        let_go(part)
        return data

    def pieces(self) -> Iterator[bytes | memoryview]:
        """All of it, in order; each is to be used before the next one is asked for."""
        yield self._head
        for window in windows(len(self._body), 1):
            yield self._body[window].data
            let_go(self._body[window])

    def view(self, header: bytes, dtype: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
        """The array behind this header, where it lies; None unless the blob is just the two."""
        size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        if len(self) != len(header) + size_bytes or self.read(0, len(header)) != header:
            return None
        body = self._body[len(header) - len(self._head) :]
        value: NDArray[Any] = body.view(dtype).reshape(shape)
        value.flags.writeable = False
        return value


class StoredArray(Array):
    """An array whose npy bytes are a blob; ``data`` makes them, each time it is asked for."""

    def __init__(self, dtype: str, shape: tuple[int, ...], stype: str, blob: StoredBlob) -> None:
        super().__init__(dtype, shape, stype, b"")
        self.blob = blob

    @property
    def data(self) -> bytes:
        return self.blob.read(0, len(self.blob))

    @data.setter
    def data(self, value: bytes) -> None:
        """The base class sets it; what counts is the blob."""


class StoredBytes(bytes):
    """A byte string that is a blob. By its type it is an empty one, with another length."""

    blob: StoredBlob

    @classmethod
    def of(cls, blob: StoredBlob) -> StoredBytes:
        """What this blob holds."""
        made = cls()
        made.blob = blob
        return made

    def __len__(self) -> int:
        return len(self.blob)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, bytes) and in_memory(self) == in_memory(other)

    def __ne__(self, other: object) -> bool:  # that of bytes doesn't ask the above
        return not self == other

    __hash__ = None  # type: ignore[assignment]


Data = bytes | memoryview | StoredBytes


def kept_bytes(data: memoryview) -> bytes:
    """What a record holds of these bytes: in a file they stay there, else they are copied."""
    flat = np.frombuffer(data, np.uint8)
    return StoredBytes.of(StoredBlob(b"", flat)) if is_mapped(flat) else bytes(data)


def in_memory(data: bytes) -> bytes:
    """A byte string in memory."""
    return data.blob.read(0, len(data)) if isinstance(data, StoredBytes) else data


def part_of(data: Data, offset: int, count: int) -> bytes | memoryview:
    """At most ``count`` bytes from ``offset``."""
    if isinstance(data, StoredBytes):
        return data.blob.read(offset, count)
    return memoryview(data)[offset : offset + count]


def array_bytes(array: Array) -> int:
    """Size of an array's npy bytes; a stored one isn't read for it."""
    return len(array.blob) if isinstance(array, StoredArray) else len(array.data)


def begins_with(array: Array, header: bytes) -> bool:
    """Whether an array's npy bytes do."""
    if isinstance(array, StoredArray):
        return array.blob.read(0, len(header)) == header
    return array.data.startswith(header)


def data_pieces(array: Array) -> Iterator[bytes | memoryview]:
    """An array's npy bytes, in order; each is to be used before the next one is asked for."""
    return array.blob.pieces() if isinstance(array, StoredArray) else iter([array.data])
