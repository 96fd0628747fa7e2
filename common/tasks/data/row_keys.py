"""What tells a row from the others by the data alone, whichever study reads it.

A hospital's held-out rows are chosen by such keys (``client/data/held_out.py``). So nothing that a
study decides is in one: no label, no chosen column, no size of an image, no text that it calls
missing. Keys stay in the process; whoever guesses a row can confirm it by its key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wardround.common.tasks.data.shards import visible
from wardround.common.text import code

_DIGITS = 16
_IDENTIFIER_DIGITS = 12
_CHUNK_BYTES = 1 << 20


def identifier_digest(text: str) -> str:
    """Of a patient's or group's identifier as a code: the same in a table and for its images."""
    return hashlib.sha256(code(text).encode()).hexdigest()[:_IDENTIFIER_DIGITS]


def identifier_keys(identifiers: NDArray[Any]) -> NDArray[np.str_]:
    """The digest of each row's identifier."""
    names, number = np.unique(np.asarray(identifiers).astype(str), return_inverse=True)
    return np.array([identifier_digest(str(name)) for name in names], dtype=np.str_)[number]


def content_key(*pieces: bytes | memoryview) -> str:
    """Of one row's content."""
    total = hashlib.sha256()
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()[:_DIGITS]


def record_keys(columns: Sequence[Iterable[Any]]) -> NDArray[np.str_]:
    """Of records: all cells of each, as codes; None, NaN and an empty text are alike."""
    texts = [["" if c is None or c != c else code(str(c)) for c in column] for column in columns]
    keys = [content_key("\x1f".join(row).encode()) for row in zip(*texts, strict=True)]
    return np.array(keys, dtype=np.str_)


def array_key(values: NDArray[Any]) -> str:
    """Of one array's numbers."""
    return content_key(np.ascontiguousarray(values).tobytes())


def tensor_keys(inputs: Tensor) -> NDArray[np.str_]:
    """Of each example of N, by the bytes of its input."""
    if not len(inputs):
        return np.zeros(0, dtype=np.str_)
    whole = inputs.detach().cpu().reshape(len(inputs), -1).contiguous().view(torch.uint8).numpy()
    return np.array([content_key(row.data) for row in whole], dtype=np.str_)


def file_key(path: Path) -> str:
    """Of a file's content; of a folder's, of all files in the order of their digests: whatever
    they are called."""
    if path.is_dir():
        inside = sorted(file_key(entry) for entry in visible(path))
        return content_key(*(one.encode() for one in inside))
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            total.update(piece)
    return total.hexdigest()[:_DIGITS]


def place_keys(rows: int) -> NDArray[np.str_]:
    """Of rows that nothing is known of: their numbers, which hold while rows are added at the end
    only."""
    return np.array([f"row {number}" for number in range(rows)], dtype=np.str_)
