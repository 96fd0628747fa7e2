"""What tells a row from the others by the data alone, whichever study reads it.

A hospital's held-out rows are chosen by such keys (``client/data/held_out.py``). So nothing that a
study decides is in one: no label, no chosen column, no size of an image, no text that it calls
missing. Keys stay in the process; whoever guesses a row can confirm it by its key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wardround.common.tasks.data.reading.texts import (
    USUAL_MISSING,
    codes,
    is_number,
    to_float,
    uniques,
)
from wardround.common.tasks.data.reading.types import canonical_texts
from wardround.common.tasks.data.shards import visible
from wardround.common.text import code

if TYPE_CHECKING:
    from torch import Tensor

_DIGITS = 16
_IDENTIFIER_DIGITS = 12
_CHUNK_BYTES = 1 << 20
_START, _NUMBER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x6A09E667F3BCC909)
_DECIMAL_COMMA = r"^([+-]?[0-9]+),([0-9]+)$"
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)", re.ASCII)
_DIGEST_TEXT = re.compile(rf"digest:([0-9a-f]{{{_IDENTIFIER_DIGITS}}})")


def identifier_digest(text: str) -> str:
    """Of a patient's or group's identifier as a code: the same in a table and for its images.

    A text that stands for one already (``digest_text``), as in what was fetched of an archive, is
    taken at its word.
    """
    if known := _DIGEST_TEXT.fullmatch(text):
        return known[1]
    return hashlib.sha256(code(text).encode()).hexdigest()[:_IDENTIFIER_DIGITS]


def digest_text(digest: str) -> str:
    """What is written where an identifier was, so that its digest stays what it was."""
    return f"digest:{digest}"


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


def record_keys(columns: Sequence[pa.ChunkedArray], rows: int) -> NDArray[np.str_]:
    """Of ``rows`` records: of all cells of each, in their one form (``_cells``)."""
    return key_texts(key_numbers(columns, rows))


def key_numbers(columns: Sequence[pa.ChunkedArray], rows: int) -> NDArray[np.uint64]:
    """The same as 64 bits each, which follow from a record's own cells, whichever others there
    are."""
    total = np.full(rows, _START, dtype=np.uint64)
    for column in columns:
        total = _mixed(total + _cells(column))
    return total


def key_texts(numbers: NDArray[np.uint64]) -> NDArray[np.str_]:
    """Records' keys of their bits."""
    digits = numbers.astype(">u8").tobytes().hex()
    return np.frombuffer(digits.encode("ascii"), dtype=f"S{_DIGITS}").astype(np.str_)


def _cells(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """64 bits of each cell, alike for the same value of any type.

    A text that is a number counts as that number (1.50, 1.5 and 1,5 are one), a date by its ISO
    form; a null, NaN, an empty text and what usually means missing (``USUAL_MISSING``) are alike.
    """
    if column.type in (pa.float64(), pa.int64()):
        values = column.cast(pa.float64(), safe=False).to_numpy()
        return _numbers(np.asarray(values, dtype=np.float64))
    index, values = uniques(column)
    texts = codes(canonical_texts(values))
    missing = pc.is_in(texts, value_set=pa.array(sorted(USUAL_MISSING), pa.string()))
    point = pc.replace_substring_regex(texts, _DECIMAL_COMMA, r"\1.\2")
    numbers = is_number(point)
    found = _numbers(to_float(point, numbers))
    others = np.flatnonzero(~numbers & ~missing.to_numpy(zero_copy_only=False).astype(np.bool_))
    words = texts.take(pa.array(others)).to_pylist()
    digests = b"".join(hashlib.blake2b(_form(x).encode(), digest_size=8).digest() for x in words)
    found[others] = np.frombuffer(digests, dtype=">u8")
    return np.append(found, _numbers(np.array([np.nan])))[index]


def _form(text: str) -> str:
    """A text's one form: an instant of another way of writing, true and false in any case."""
    if (match := _INSTANT.fullmatch(text)) is not None:
        day, time = match.groups()
        seconds = f"{time}:00" if len(time) == 5 else time
        return day if not seconds.strip("0:.") else f"{day}T{seconds}"
    return text.casefold() if text.casefold() in ("true", "false") else text


def _numbers(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """64 bits of each number, of all NaN the same, and of 0 and -0."""
    values = np.where(np.isnan(values), np.nan, values + 0.0)
    return _mixed(values.view(np.uint64) ^ _NUMBER)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), a permutation of 64 bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def array_key(values: NDArray[Any]) -> str:
    """Of one array's numbers."""
    return content_key(np.ascontiguousarray(values).tobytes())


def tensor_keys(inputs: Tensor) -> NDArray[np.str_]:
    """Of each example of N, by the bytes of its input."""
    if not len(inputs):
        return np.zeros(0, dtype=np.str_)
    import torch  # rows of tables are read without it

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
