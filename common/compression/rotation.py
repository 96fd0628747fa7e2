"""A randomised Hadamard rotation: afterwards no coordinate of a vector stands out.

Random signs, then x -> H x / sqrt(B) on blocks of B = 2^k coordinates (Ailon and Chazelle 2006; for
means over clients Suresh et al. 2017, 1611.00429). It keeps every length, and the coordinates of
what comes out are nearly normal, whatever went in: so a range of a few root mean squares holds
them, where one of a raw update would need dozens.

No coordinate is added: a vector whose length isn't a multiple of B has a last block that overlaps
the one before it. The blocks are turned one after the other, and turned back in the other order.
Coordinates of a block lie as far apart as they can, so that the rows of a table of which few were
moved come into all blocks.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from wardround.common.rng import numpy_generator

BLOCK = 4096
"""Largest B: 256 operations a number, and of a block as many numbers as a core's cache holds."""
_COLUMNS = 256
"""Blocks that are turned at once."""
_PIECE = 1 << 16
Vector = NDArray[np.float32]


def signs(size: int, seed: int, *parts: int | str) -> NDArray[np.uint8]:
    """``size`` random bits, packed, of (seed, purpose): a set one is a minus."""
    generator = numpy_generator(seed, "rotation", *parts)
    return np.frombuffer(generator.bytes((size + 7) // 8), np.uint8)


def turn(vector: Vector, bits: NDArray[np.uint8]) -> None:
    """Rotate D coordinates in place; ``bits`` as ``signs`` gives them."""
    for part, block in _passes(vector):
        _flip(part, bits)
        _blocks(part, block)


def turn_back(vector: Vector, bits: NDArray[np.uint8]) -> None:
    """Undo ``turn``, in place, but for rounding of float32."""
    for part, block in reversed(_passes(vector)):  # H / sqrt(B) is its own inverse
        _blocks(part, block)
        _flip(part, bits)


def _passes(vector: Vector) -> list[tuple[Vector, int]]:
    """What is turned, in this order, and B: all whole blocks; then the last B coordinates, where
    some are left over. Where there is one block only it is turned once more, for what came into it
    from those."""
    size = len(vector)
    block = min(BLOCK, 1 << (size.bit_length() - 1)) if size else 1
    body = size // block * block
    whole = [(vector[:body], block)]
    rest = [(vector[size - block :], block)] if body < size else []
    return whole + rest + (whole if rest and body == block else [])


def _flip(vector: Vector, bits: NDArray[np.uint8]) -> None:
    """Change signs, by the sign bit of each float."""
    for start in range(0, len(vector), _PIECE):
        words = vector[start : start + _PIECE].view(np.uint32)
        minus = np.unpackbits(bits[start // 8 : (start + len(words) + 7) // 8], count=len(words))
        flips = minus.astype(np.uint32)
        np.left_shift(flips, 31, out=flips)
        np.bitwise_xor(words, flips, out=words)


def _blocks(vector: Vector, block: int) -> None:
    """Turn all blocks; the j-th has the coordinates j, j + m, j + 2 m, ... of m blocks.

    H of 2^k is that of 2^a times (Kronecker) that of 2^b: two products of small matrices.
    """
    if block == 1:
        return
    k = block.bit_length() - 1
    rows, columns = 1 << (k - k // 2), 1 << (k // 2)
    table = vector.reshape(block, -1)
    for start in range(0, table.shape[1], _COLUMNS):
        part = table[:, start : start + _COLUMNS]
        once = _hadamard(rows) @ part.reshape(rows, -1)
        part[...] = (_hadamard(columns) @ once.reshape(rows, columns, -1)).reshape(part.shape)


@cache
def _hadamard(size: int) -> Vector:
    """H / sqrt(size) by Sylvester's construction; ``size`` a power of two."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix * np.float32(1 / math.sqrt(size))
