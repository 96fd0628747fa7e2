"""Stochastic rounding of an update into the ring, and the dither that decides it.

    target += floor(clip(share v S / clip, +- share S) + u)   mod 2^bits,  u uniform in [0, 1)

u is a multiple of 2^-16 from the key stream of AES-128 in counter mode. A hospital's key is the
operating system's, new for every upload. A *simulated* hospital's dither derives from the run's
seed, so that runs can be repeated: one key for all clients of a sum, and each client at blocks of
its own, so that the dither of thousands is one call of the cipher (``CohortRounding``).

Shapes: C clients, D coordinates of an array.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from wardround.common.errors import ProtocolRefused
from wardround.common.rng import derive_seed, name_keys
from wardround.common.secagg.encoding import Encoding
from wardround.common.secagg.keys import derive
from wardround.common.secagg.ring import Words

ROUNDING_KEY_BYTES = 16
_PIECE = 1 << 15
_BLOCK_NUMBERS = 8
"""Numbers of 16 bits in a block of AES."""
_ARRAY_BLOCKS = 40
"""An array of an update begins at a multiple of 2^40 blocks: no other one comes near."""


class Rounding(Protocol):
    """Where the dither of one upload's arrays comes from."""

    def of(self, number: int) -> Dither:
        """That of the update section's array of this number, from 0."""


@dataclass(frozen=True)
class KeyRounding:
    """Of a hospital's own upload. ``key``: 16 secret bytes, fresh for every upload."""

    key: bytes = field(repr=False)

    def of(self, number: int) -> Dither:
        return Dither(
            derive(self.key, "rounding", bytes([number % 256, number // 256]))[:ROUNDING_KEY_BYTES]
        )


@dataclass(frozen=True)
class SeededRounding:
    """Of a simulated hospital's: it repeats with the run.

    key : of all clients of the sum (``rounding_key``)
    client : the upper half of the counter's first value, by which clients differ
    """

    key: bytes
    client: int

    @classmethod
    def of_client(cls, seed: int, purpose: str, name: str) -> SeededRounding:
        """``purpose``: what is summed, as a TaskRequest has it."""
        return cls(rounding_key(seed, purpose), int(name_keys([name])[0]))

    def of(self, number: int) -> Dither:
        first = (self.client << 64) + (number << _ARRAY_BLOCKS)
        return Dither(self.key, first.to_bytes(16, "big"))


def rounding_key(seed: int, purpose: str) -> bytes:
    """The key of a simulated sum's dither, 16 bytes."""
    return hashlib.sha256(str(derive_seed(seed, "rounding", purpose)).encode()).digest()[:16]


class Dither:
    """Uniform numbers in [0, 1), multiples of 2^-16, from AES-128 in counter mode.

    first : the counter's first value, 16 bytes
    """

    def __init__(self, key: bytes, first: bytes = bytes(16)) -> None:
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(first)).encryptor()
        self._zeros, self._buffer = memoryview(bytes(2 * _PIECE)), bytearray(2 * _PIECE + 16)
        self._random = np.frombuffer(self._buffer, np.uint16, _PIECE)
        self._numbers = np.empty(_PIECE, np.float32)

    def next(self, count: int) -> NDArray[np.float32]:
        """The next ``count`` numbers, at most a piece; valid until the next call."""
        self._encryptor.update_into(self._zeros[: 2 * count], self._buffer)
        numbers = self._numbers[:count]
        np.multiply(self._random[:count], np.float32(2**-16), out=numbers)
        return numbers


class CohortRounding:
    """``SeededRounding`` of many clients at once, to the bit."""

    def __init__(self, seed: int, purpose: str, names: list[str]) -> None:
        self._key, self._clients = rounding_key(seed, purpose), name_keys(names)
        # counter mode with the counters written out: each client's begin elsewhere
        self._encryptor = Cipher(algorithms.AES(self._key), modes.ECB()).encryptor()  # noqa: S305

    def __len__(self) -> int:
        return len(self._clients)

    def client(self, index: int) -> SeededRounding:
        """One of them."""
        return SeededRounding(self._key, int(self._clients[index]))

    def numbers(self, number: int, size: int, clients: slice) -> NDArray[np.float32]:
        """The dither of the array of this number, which has ``size`` coordinates: a row for each of
        these clients."""
        blocks = -(-size // _BLOCK_NUMBERS)
        rows = self._clients[clients]
        counters = np.empty((len(rows), blocks, 2), ">u8")
        counters[:, :, 0] = rows[:, None]
        counters[:, :, 1] = (number << _ARRAY_BLOCKS) + np.arange(blocks, dtype=np.uint64)
        random = np.frombuffer(self._encryptor.update(counters.tobytes()), np.uint16)
        found: NDArray[np.float32] = random.reshape(len(rows), -1)[:, :size] * np.float32(2**-16)
        return found


def quantise(
    values: NDArray[np.floating[Any]],
    share: float,
    encoding: Encoding,
    rounding: bytes | Dither,
    target: Words,
) -> int:
    """Add share * values to ``target``, clipped, scaled and stochastically rounded, as the module
    says. One pass in pieces that stay in a core's cache, so that no copy of the update is made.

    Parameters
    ----------
    values : D coordinates, any float type; not changed
    share : the client's weight over the largest weight, in (0, 1]
    rounding : 16 secret bytes, fresh for every array; of one that comes in parts (of a multiple of
        2^15 numbers each, but the last) the ``Dither`` of them, for all its parts
    target : D words of the encoding's ring, changed in place

    Returns
    -------
    How many coordinates were clipped. Raises ProtocolRefused for NaN or infinity (``target`` is
    then half written) and for a share out of range.
    """
    scale, most = _reach(np.float64(share), encoding)
    dither = Dither(rounding) if isinstance(rounding, bytes) else rounding
    scaled = np.empty(_PIECE, np.float32)
    whole = np.empty(_PIECE, f"int{encoding.bits}")
    clipped = 0
    for start in range(0, len(values), _PIECE):
        part = values[start : start + _PIECE]
        v, q = scaled[: len(part)], whole[: len(part)]
        clipped += _rounded(part, scale, most, dither.next(len(part)), v, q)
        goal = target[start : start + len(part)]
        np.add(goal, q.view(target.dtype), out=goal)
    return clipped


def quantise_each(
    values: NDArray[np.floating[Any]],
    shares: NDArray[np.float64],
    encoding: Encoding,
    rounding: CohortRounding,
    number: int,
    target: Words,
    first: int = 0,
) -> int:
    """``quantise`` of many clients' arrays into one sum: to the bit what one after the other gives.

    Parameters
    ----------
    values : C x D
    shares : C
    rounding : of more clients, maybe; these are those from ``first`` on
    number : of the array, as ``Rounding`` has it
    target : D words
    """
    scale, most = _reach(shares, encoding)
    clients, size = values.shape
    clipped = 0
    if size > _PIECE:
        for index in range(clients):
            dither = rounding.client(first + index).of(number)
            clipped += quantise(values[index], float(shares[index]), encoding, dither, target)
        return clipped
    for rows in _blocks(clients, max(1, size)):
        part = values[rows]
        v, q = np.empty(part.shape, np.float32), np.empty(part.shape, f"int{encoding.bits}")
        u = rounding.numbers(number, size, slice(first + rows.start, first + rows.stop))
        clipped += _rounded(part, scale[rows, None], most[rows, None], u, v, q)
        total = np.add.reduce(q.view(target.dtype), axis=0, dtype=target.dtype)
        np.add(target, total, out=target)
    return clipped


def _blocks(clients: int, size: int) -> Iterator[slice]:
    """Clients, so many at a time that their numbers stay in a core's cache."""
    step = max(1, 2 * _PIECE // size)
    for start in range(0, clients, step):
        yield slice(start, min(clients, start + step))


def _reach(shares: Any, encoding: Encoding) -> tuple[Any, Any]:
    """What numbers that count with these shares are multiplied with, and their bound then; float32,
    |share v| <= share S <= S. Raises ProtocolRefused for a share that isn't in (0, 1]."""
    if not (np.all(shares > 0) and np.all(shares <= 1)):
        raise ProtocolRefused("a weight must be positive and at most the largest weight")
    most = shares * encoding.span
    return (most / encoding.clip).astype(np.float32), most.astype(np.float32)


def _rounded(
    part: NDArray[np.floating[Any]],
    scale: Any,
    most: Any,
    u: NDArray[np.float32],
    v: NDArray[np.float32],
    q: NDArray[np.signedinteger[Any]],
) -> int:
    """Numbers (of one client, or a row for each) into ``q``, by way of ``v``; how many were
    clipped. ``scale`` and ``most``: one, or a column."""
    with np.errstate(over="ignore", invalid="ignore"):  # refused by name below
        np.multiply(part, scale, out=v, casting="unsafe")
    clipped = _clip(v, most)
    np.add(v, u, out=v)
    np.floor(v, out=v)
    q[:] = v
    return clipped


def _clip(v: NDArray[np.float32], most: Any) -> int:
    """Clip in place; how many coordinates that changed."""
    if not v.size:
        return 0
    largest = max(float(v.max()), -float(v.min()))  # NaN and infinity show here
    if largest <= np.min(most):
        return 0
    if not math.isfinite(largest):
        raise ProtocolRefused(
            "the update holds NaN, infinity or an absurd number; lower training.lr?"
        )
    clipped = int(np.count_nonzero(np.abs(v) > most))
    np.clip(v, -most, most, out=v)
    return clipped
