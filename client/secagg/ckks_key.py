"""The secret key of CKKS from 32 bytes that the hospitals share, in the form that TenSEAL loads.

TenSEAL draws keys itself and takes no seed. So that hospitals which share 32 bytes have one key,
without a further message, the key is worked out here and written as SEAL 4.3 stores a key: s with
coefficients uniform in {-1, 0, 1}, as its number-theoretic transform modulo each prime, in SEAL's
order. Nothing is encrypted here, and no noise drawn: that is SEAL's (``ckks.py``).

The transform is Harvey's (Longa and Naehrig, 2016, algorithm 1): with psi the smallest primitive
2N-th root of unity modulo q, the i-th value is s(psi^(2 rev(i) + 1)), rev turning the bits of i.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np
from numpy.typing import NDArray

from wardround.common.secagg.ckks import Parameters
from wardround.common.secagg.keys import derive
from wardround.common.secagg.ring import key_stream

_MAGIC, _HEADER_BYTES, _MAJOR, _MINOR, _PLAIN = 0xA15E, 16, 4, 3, 0
_CKKS, _SYMMETRIC, _FLAGS = 2, 1, 7
_TERNARY_BELOW = 255
"""The largest multiple of 3 that a byte holds: 255 itself is drawn again."""


def context_bytes(secret: bytes, parameters: Parameters) -> bytes:
    """TenSEAL's context for symmetric encryption under the key that ``secret`` (32 bytes) gives."""
    values = ternary(secret, parameters.degree)
    transforms = [transform(values, prime).tobytes() for prime in parameters.primes]
    count = parameters.degree * len(parameters.primes)
    stored = named(parameters, len(parameters.primes)) + struct.pack("<Qd", count, 1.0)
    stored += sealed(struct.pack("<Q", count) + b"".join(transforms))
    moduli = [*parameters.primes, 0]  # the last: of plain numbers, which CKKS has none of
    ring = struct.pack("<BQQ", _CKKS, parameters.degree, len(parameters.primes))
    ring += b"".join(sealed(struct.pack("<Q", one)) for one in moduli)
    flags = varint(2 << 3) + varint(_FLAGS)
    scale = varint(3 << 3 | 1) + struct.pack("<d", 2.0**parameters.scale_bits)
    parts = field(1, sealed(ring)), field(2, flags + scale), field(3, field(1, sealed(stored)))
    return b"".join(parts) + varint(4 << 3) + varint(_SYMMETRIC)


def ternary(secret: bytes, degree: int) -> NDArray[np.int64]:
    """N coefficients, uniform in {-1, 0, 1}, of one key."""
    seed = derive(secret, "ckks", str(degree).encode())
    drawn = key_stream(seed, 2 * degree)  # that 255 comes N times in 2N bytes has no chance
    kept = drawn[drawn < _TERNARY_BELOW][:degree]
    return kept.astype(np.int64) % 3 - 1


def transform(values: NDArray[np.int64], prime: int) -> NDArray[np.uint64]:
    """Of N coefficients, modulo the prime (N a power of two, prime = 1 modulo 2N)."""
    degree = len(values)
    bits, root = degree.bit_length() - 1, smallest_root(degree, prime)
    powers = [1] * degree
    for number in range(1, degree):
        powers[number] = powers[number - 1] * root % prime
    turned = [int(f"{number:0{bits}b}"[::-1], 2) for number in range(degree)]
    # Python's numbers: a product of two residues has up to 120 bits
    roots = np.array([powers[number] for number in turned], object)
    result = np.array([int(value) % prime for value in values], object)
    groups, width = 1, degree // 2
    while groups < degree:
        halves = result.reshape(groups, 2, width)
        turn = halves[:, 1] * roots[groups : 2 * groups, None] % prime
        result = np.stack([(halves[:, 0] + turn) % prime, (halves[:, 0] - turn) % prime], 1)
        groups, width = 2 * groups, width // 2
    return result.reshape(-1).astype(np.uint64)


def smallest_root(degree: int, prime: int) -> int:
    """The smallest primitive 2N-th root of unity modulo the prime, which SEAL goes by."""
    candidates = (pow(base, (prime - 1) // (2 * degree), prime) for base in range(2, prime))
    root = next(one for one in candidates if pow(one, degree, prime) == prime - 1)
    best, square = root, root * root % prime
    for _ in range(degree):
        root = root * square % prime
        best = min(best, root)
    return best


# --- SEAL's and protobuf's forms ------------------------------------------------------------------
def named(parameters: Parameters, primes: int) -> bytes:
    """SEAL's name for a ring with the first so many primes: BLAKE2b of its parameters, 32 bytes."""
    moduli = parameters.primes[:primes]
    words = struct.pack(f"<QQ{primes}QQ", _CKKS, parameters.degree, *moduli, 0)
    return hashlib.blake2b(words, digest_size=32).digest()


def sealed(body: bytes) -> bytes:
    """A SEAL object that isn't compressed: its header and body."""
    size = _HEADER_BYTES + len(body)
    head = (_MAGIC, _HEADER_BYTES, _MAJOR, _MINOR, _PLAIN, 0, size)
    return struct.pack("<HBBBBHQ", *head) + body


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    result = bytearray()
    while number > 127:
        result.append(number & 127 | 128)
        number >>= 7
    return bytes([*result, number])


def field(number: int, content: bytes) -> bytes:
    """A field of bytes of a protobuf message."""
    return varint(number << 3 | 2) + varint(len(content)) + content
