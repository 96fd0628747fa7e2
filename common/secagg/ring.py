"""Vectors in a ring, and masks expanded straight into them.

A vector has two sections. *Update* coordinates are numbers modulo 2^b: 2^16 or 2^32, one per model
coordinate, or 2^8 to 2^64 where whole numbers are summed. *Exact* coordinates are numbers modulo
2^192, for counts, weights and metrics: three 64-bit limbs each, lowest first. Adding is exact and
has no overflow but the ring's own.

A mask is the key stream of AES-128 in counter mode (NIST SP 800-38A). It is made in pieces that fit
a core's cache and added at once, so no mask ever stands in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from wardround.common import mapped
from wardround.common.errors import ProtocolRefused
from wardround.common.flower.stored import part_of

Words = NDArray[Any]
"""One-dimensional, unsigned, of 8 to 64 bits (M x 3 of 64 bits for exact coordinates)."""
Limbs = NDArray[np.uint64]

LIMBS = 3
RINGS = (8, 16, 32, 64)
"""Bits of an update coordinate."""
EXACT_BYTES = 8 * LIMBS
_BLOCK_BYTES = 16
_PIECE_BYTES = 1 << 18
_WORTH_A_THREAD = 1 << 20
_ZEROS = memoryview(bytes(_PIECE_BYTES))

Seed = tuple[bytes, int]
"""32 secret bytes (an AES-128 key and a first counter) and the sign, +1 or -1, of its mask."""


def word_type(bits: int) -> np.dtype[Any]:
    """The numpy type of an update coordinate; ``bits`` is one of ``RINGS``. Raises ValueError."""
    if bits not in RINGS:
        raise ValueError(f"a ring of {bits} bits; known are 8, 16, 32 and 64")
    return np.dtype(f"uint{bits}")


@dataclass(frozen=True)
class MaskSeeds:
    """Seeds of one mask's two sections, 32 secret bytes each."""

    update: bytes = field(repr=False)
    exact: bytes = field(repr=False)


class RingVector:
    """An update section of D words and an exact section of M numbers, both zero at first.

    Both are views of one stretch of memory, which is what travels; a large one lies in a file
    (``common/mapped.py``).

    front_bytes : room before them, for what else a sum is made of (a multiple of 8)
    """

    def __init__(self, bits: int, update_size: int, exact_size: int, front_bytes: int = 0) -> None:
        word = word_type(bits)
        end = front_bytes + update_size * word.itemsize
        self.memory = mapped.zeros(end + exact_size * EXACT_BYTES)
        self.update: Words = self.memory[front_bytes:end].view(word)
        self.exact: Limbs = self.memory[end:].view(np.uint64).reshape(exact_size, LIMBS)

    def data(self) -> memoryview:
        """Both sections, little-endian, one after the other; a view, not a copy: D words of
        ``bits`` / 8 bytes, then M numbers of 24."""
        return self.memory.data.toreadonly()

    def add_bytes(self, data: bytes | memoryview) -> None:
        """Add a vector that ``data`` of another party gave, which may be ``StoredBytes``.

        Raises ProtocolRefused if its length is not exactly that of this vector.
        """
        expected = self.update.nbytes + self.exact.nbytes
        if len(data) != expected:
            raise ProtocolRefused(f"the masked vector has {len(data)} bytes, expected {expected}")
        size = self.update.itemsize
        for window in mapped.windows(len(self.update), size):
            goal = self.update[window]
            part = part_of(data, window.start * size, goal.nbytes)
            np.add(goal, np.frombuffer(part, goal.dtype), goal)
            mapped.let_go(goal)
        self.add_exact_bytes(part_of(data, self.update.nbytes, self.exact.nbytes))

    def add_exact_bytes(self, data: bytes | memoryview) -> None:
        """Add an exact section of the right length."""
        add_limbs(self.exact, np.frombuffer(data, np.uint64).reshape(self.exact.shape))

    def add_masks(self, masks: Sequence[tuple[MaskSeeds, int]], threads: int = 1) -> None:
        """Add each mask with its sign, +1 or -1. One end of a pair adds it, the other subtracts, so
        in the sum of both it is gone; the self mask is added by its owner alone."""
        add_key_streams(self.update, [(seeds.update, sign) for seeds, sign in masks], threads)
        self.add_exact_masks(masks)

    def add_exact_masks(self, masks: Sequence[tuple[MaskSeeds, int]]) -> None:
        """Add their exact sections alone."""
        for seeds, sign in masks:
            data = key_stream(seeds.exact, self.exact.nbytes)
            stream = data.view(np.uint64).reshape(self.exact.shape)
            add_limbs(self.exact, stream if sign > 0 else negated(stream))


def key_stream(seed: bytes, count: int) -> NDArray[np.uint8]:
    """The first ``count`` bytes of the seed's mask."""
    return np.frombuffer(_encryptor(seed, 0).update(bytes(count)), np.uint8)


def add_key_streams(words: Words, seeds: Sequence[Seed], threads: int = 1, first: int = 0) -> None:
    """words <- words + sum of sign * mask(seed), in place.

    first : the words' place in the vector, where they aren't its beginning

    Both AES and numpy's addition run outside Python's lock, so threads share a long vector. A
    thread's part begins at its own counter of the same key stream: the number of threads changes no
    byte of a mask.
    """
    if not seeds or not len(words):
        return
    if threads < 2 or words.nbytes * len(seeds) < _WORTH_A_THREAD:
        _add_range(words, seeds, first)
        return
    piece = _PIECE_BYTES // words.itemsize
    step = -(-len(words) // (threads * piece)) * piece  # whole pieces, so whole AES blocks
    with ThreadPoolExecutor(threads) as pool:
        starts = range(0, len(words), step)
        parts = [pool.submit(_add_range, words[s : s + step], seeds, first + s) for s in starts]
        for part in parts:
            part.result()


def _add_range(words: Words, seeds: Sequence[Seed], start: int) -> None:
    """Add the masks' words from ``start`` on."""
    size = words.itemsize
    block, skip = divmod(start * size, _BLOCK_BYTES)
    streams = []
    for seed, sign in seeds:
        encryptor = _encryptor(seed, block)
        encryptor.update(bytes(skip))
        streams.append((encryptor.update_into, sign))
    buffer = bytearray(_PIECE_BYTES + _BLOCK_BYTES)  # update_into asks for a block to spare
    stream, piece = np.frombuffer(buffer, np.uint8), _PIECE_BYTES // size
    for offset in range(0, len(words), piece):
        part = words[offset : offset + piece]
        zeros, mask = _ZEROS[: part.nbytes], stream[: part.nbytes].view(words.dtype)
        for update_into, sign in streams:
            update_into(zeros, buffer)
            (np.add if sign > 0 else np.subtract)(part, mask, part)
        mapped.let_go(part)


def _encryptor(seed: bytes, block: int) -> Any:
    """AES-128-CTR with the seed's key, at this block of its key stream."""
    counter = (int.from_bytes(seed[16:], "big") + block) % 2**128
    return Cipher(algorithms.AES(seed[:16]), modes.CTR(counter.to_bytes(16, "big"))).encryptor()


# --- numbers modulo 2^192 -------------------------------------------------------------------------
def add_limbs(total: Limbs, other: Limbs) -> None:
    """total <- total + other modulo 2^192, in place; both M x 3, lowest limb first."""
    carry = np.zeros(len(total), np.uint64)
    for limb in range(LIMBS):
        # an unsigned sum that wrapped is below its summands; of the two at most one wraps
        once = total[:, limb] + other[:, limb]
        twice = once + carry
        carry = ((once < other[:, limb]) | (twice < carry)).astype(np.uint64)
        total[:, limb] = twice


def sum_limbs(stack: Limbs) -> Limbs:
    """The sum modulo 2^192 of C vectors at once: M x 3 of C x M x 3, C below 2^32."""
    total = np.zeros(stack.shape[1:], np.uint64)
    carry: NDArray[np.uint64] = np.zeros(stack.shape[1], np.uint64)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for limb in range(LIMBS):
        column = stack[:, :, limb]
        # halves of 32 bits: of so many the sums fit into 64
        lower = (column & low).sum(axis=0, dtype=np.uint64) + carry
        upper = (column >> half).sum(axis=0, dtype=np.uint64) + (lower >> half)
        total[:, limb] = (upper << half) | (lower & low)
        carry = upper >> half
    return total


def negated(values: Limbs) -> Limbs:
    """0 - values modulo 2^192, a new array: all bits turned over, and one added."""
    result = ~values
    one = np.zeros_like(values)
    one[:, 0] = 1
    add_limbs(result, one)
    return result
