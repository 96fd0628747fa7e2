"""A vocabulary that hospitals agree on from a sum, without anyone seeing whose word is whose.

Each hospital writes its words, with a count, into an invertible Bloom lookup table (Goodrich and
Mitzenmacher 2011): every word goes to one cell in each of three parts. A cell holds sums only: how
many hospitals wrote a word there, their counts, a check number, and the words' bytes as numbers. So
tables of hospitals can be added, also under secure aggregation. A cell with one distinct word gives
that word away by division, it is taken out of its other cells, and so on until the table is empty.

With 3 x 200 cells, 300 distinct words are found with probability above 0.9999 (the threshold of
three parts is 1.22 cells for each word). Everything is a whole number below 2^53: exact in float64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

PARTS, CELLS = 3, 200
MOST_WORDS = 300
LONGEST_WORD_BYTES = 200
_CHUNK_BYTES = 5  # 40 bits, so 8,192 hospitals may write the same word
_HOSPITALS, _COUNT, _CHECK, _LENGTH, _WORD = range(5)
_WIDTH = _WORD + LONGEST_WORD_BYTES // _CHUNK_BYTES
SHAPE = (PARTS * CELLS, _WIDTH)


def write_words(counts: Mapping[str, int]) -> NDArray[np.float64]:
    """One hospital's table of its words and their counts, shape ``SHAPE``, float64.

    Raises ValueError for a word beyond ``LONGEST_WORD_BYTES``.

    >>> north, south = write_words({"yes": 3, "no": 1}), write_words({"yes": 2})
    >>> read_words(north + south)
    {'no': 1, 'yes': 5}
    """
    table = np.zeros(SHAPE)
    for word, count in counts.items():
        table[_places(word)] += _row(word, 1, count)
    return table


def read_words(table: NDArray[np.float64]) -> dict[str, int]:
    """The words of added tables and their added counts, sorted.

    Raises ValueError if there are more words than can be told apart, or if the table is no sum of
    tables.

    Peeling: a cell of one distinct word gives the word away; taken out of its other two cells, it
    may leave one of these with a single word. It ends with an empty table, or with words that are
    all in cells with others: then there were too many, and nothing is told.
    """
    if table.shape != SHAPE:
        raise ValueError(f"a table of words has shape {SHAPE}, not {table.shape}")
    left = table.copy()
    found: dict[str, int] = {}
    cells = list(range(len(left)))
    while cells:
        cell = cells.pop()
        word = _only_word(left[cell])
        if word is None:
            continue
        hospitals, count = left[cell, :_CHECK]
        places = _places(word)
        if word in found:
            break  # taken out already: not a sum of tables
        found[word] = int(count)
        left[places] -= _row(word, hospitals, count)
        cells += places
    if left.any():
        raise ValueError(f"more than {MOST_WORDS} words, or none that hospitals wrote")
    return dict(sorted(found.items()))


def _only_word(cell: NDArray[np.float64]) -> str | None:
    """The word of a cell that holds one distinct word; None otherwise.

    If h hospitals wrote the same word, all sums of the cell are h times that word's numbers. Sums
    of several words may happen to divide too: the check number, a hash of the word, tells.
    """
    hospitals = cell[_HOSPITALS]
    if hospitals < 1 or (cell[_CHECK:] % hospitals).any():
        return None
    numbers = [int(value) for value in cell[_CHECK:] / hospitals]
    check, length, *chunks = numbers
    if not 0 < length <= LONGEST_WORD_BYTES:
        return None
    if min(chunks) < 0 or max(chunks) >= 256**_CHUNK_BYTES:
        return None
    data = b"".join(chunk.to_bytes(_CHUNK_BYTES, "big") for chunk in chunks)
    try:
        word = data[:length].decode("utf-8")
    except UnicodeDecodeError:
        return None
    return word if _hash(word, "check") == check and not any(data[length:]) else None


def _row(word: str, hospitals: float, count: float) -> NDArray[np.float64]:
    """What so many hospitals with that word leave in each of its cells: their number, their counts'
    sum, and the word's own numbers (check, length, 5 bytes each) once for every hospital."""
    data = word.encode()
    if not 0 < len(data) <= LONGEST_WORD_BYTES:
        raise ValueError(f"a word of {len(data)} bytes; at most {LONGEST_WORD_BYTES}")
    padded = data.ljust(LONGEST_WORD_BYTES, b"\0")
    chunks = [
        int.from_bytes(padded[start : start + _CHUNK_BYTES], "big")
        for start in range(0, LONGEST_WORD_BYTES, _CHUNK_BYTES)
    ]
    once = np.array([_hash(word, "check"), len(data), *chunks], np.float64)
    return np.concatenate([[hospitals, count], hospitals * once])


def _places(word: str) -> list[int]:
    """The word's cell in each part."""
    return [part * CELLS + _hash(word, str(part)) % CELLS for part in range(PARTS)]


def _hash(word: str, purpose: str) -> int:
    """40 bits: as a check number, it lets sums of several words pass for one word once in 2^40."""
    digest = hashlib.sha256(f"{purpose}\x1f{word}".encode()).digest()
    return int.from_bytes(digest[:_CHUNK_BYTES], "big")
