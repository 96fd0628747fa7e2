"""Large arrays in files of this process alone: of its memory they take what is being looked at.

A process that may meet a large model says where such files may lie (``keep_in``). Their arrays are
used like any other: the operating system reads what is looked at, ``let_go`` takes it off the
process's memory again, and the values stay in the file. A file has no name: nobody else can open
it, and nothing is left of it when the process ends, however it ends. Without ``keep_in``, and below
``LARGE_BYTES``, all is ordinary memory.
"""

from __future__ import annotations

import logging
import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger("wardround")
LARGE_BYTES = 1 << 27
"""Less is kept in memory: with what goes with it, it is less than the imports of torch."""
WINDOW_BYTES = 1 << 22
"""What is looked at at once of something large."""
_ALIGNED = 64
_folder: Path | None = None


def keep_in(folder: Path | None) -> None:
    """Let this process keep what is large in files of that folder; None: in memory."""
    global _folder
    _folder = folder


def is_large(size_bytes: int) -> bool:
    """Whether this process keeps so much in a file: not where the system can't keep room for one
    (macOS)."""
    kept = _folder is not None and hasattr(os, "posix_fallocate")
    return kept and size_bytes >= LARGE_BYTES


def zeros(size_bytes: int) -> NDArray[np.uint8]:
    """So many bytes, all zero, in a file where they are many. With a full disk: in memory."""
    if not is_large(size_bytes):
        return np.zeros(size_bytes, np.uint8)
    try:
        with tempfile.TemporaryFile(dir=_folder) as file:
            # before it is mapped: a page that finds no room later would end the process
            os.posix_fallocate(file.fileno(), 0, size_bytes)
            return np.frombuffer(mmap.mmap(file.fileno(), size_bytes), np.uint8)
    except OSError as error:
        what = "%s: no file of %d bytes (%s), so these are kept in memory; make room there"
        log.warning(what, _folder, size_bytes, error.strerror)
        return np.zeros(size_bytes, np.uint8)


def zero_arrays(specs: Mapping[str, tuple[tuple[int, ...], Any]]) -> dict[str, NDArray[Any]]:
    """Arrays of these shapes and dtypes, all zero, together in one file where they are large."""
    places, end = {}, 0
    for name, (shape, dtype) in specs.items():
        size = math.prod(shape) * np.dtype(dtype).itemsize
        places[name] = end, end + size
        end += -(-size // _ALIGNED) * _ALIGNED
    whole = zeros(end)
    return {
        name: whole[slice(*places[name])].view(dtype).reshape(shape)
        for name, (shape, dtype) in specs.items()
    }


def view_of(file: IO[bytes], size_bytes: int) -> NDArray[np.uint8]:
    """The first bytes of a file, read-only. It may be closed or removed, but not cut short."""
    mapping = mmap.mmap(file.fileno(), size_bytes, access=mmap.ACCESS_READ)
    return np.frombuffer(mapping, np.uint8)


def is_mapped(array: NDArray[Any]) -> bool:
    """Whether the array's numbers are in a file."""
    return _file_of(array) is not None


def let_go(*arrays: NDArray[Any]) -> None:
    """Take what was looked at of arrays in files off this process's memory; they stay as they are.
    Of other arrays: nothing. They are contiguous."""
    for array in arrays if _folder is not None else ():
        mapping = _file_of(array)
        if mapping is None or not array.nbytes or not hasattr(mmap, "MADV_DONTNEED"):
            continue
        begin = np.frombuffer(mapping, np.uint8, 1).__array_interface__["data"][0]
        start = array.__array_interface__["data"][0] - begin
        first = start // mmap.PAGESIZE * mmap.PAGESIZE
        mapping.madvise(mmap.MADV_DONTNEED, first, start + array.nbytes - first)


def windows(count: int, item_bytes: int) -> Iterator[slice]:
    """The numbers 0 to ``count`` in stretches of about ``WINDOW_BYTES``; a multiple of 2^16 each,
    but the last."""
    step = max(1, WINDOW_BYTES // (item_bytes << 16)) << 16
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _file_of(array: Any) -> mmap.mmap | None:
    """The file that an array's numbers are in, as it is mapped; None where they are in memory."""
    while isinstance(array, np.ndarray | memoryview):
        array = array.base if isinstance(array, np.ndarray) else array.obj
    return array if isinstance(array, mmap.mmap) else None
