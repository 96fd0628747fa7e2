"""Masked words under CKKS at a hospital: what leaves is encrypted, and the sum comes back.

TenSEAL encodes, encrypts (symmetrically: every hospital has the key), decrypts and decodes. Between
it and the wire stand residues (``common/secagg/ckks.py``): of TenSEAL's own bytes only those that
this process has just made are read, and those that it is given are written here, from checked
numbers. So no other party's bytes reach its parsers.
"""

from __future__ import annotations

import functools
import importlib.util
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa

from wardround.client.secagg.ckks_key import context_bytes, field, named, sealed, varint
from wardround.common import mapped
from wardround.common.errors import ProtocolRefused, TaskError
from wardround.common.flower.stored import part_of
from wardround.common.secagg.blind import BlindMask
from wardround.common.secagg.ckks import (
    MOST_VECTORS,
    POLYNOMIALS,
    Parameters,
    Residues,
    pack,
    parameters,
    unpack,
)
from wardround.common.secagg.ring import Words, word_type
from wardround.common.settings import SecureAggregationTable

MISSING = (
    "secure_aggregation.scheme = \"ckks\": TenSEAL is missing; pip install 'wardround[ckks]'; "
    'or set it to "masks"'
)
_MOST_BITS = 32
_NEAR = 0.25
"""How far from a whole number a decrypted one may be."""
_SEAL_HEADER_BYTES, _ZSTD = 16, 2


def cipher_of(mask: BlindMask) -> Cipher | None:
    """What encrypts updates, and reads their sum, in place of half of this mask; None where nothing
    does. Raises TaskError where TenSEAL isn't installed."""
    return None if mask.ckks is None else _cipher(mask.key.derive("ckks"), mask.ckks)


def lacking(table: SecureAggregationTable, hospitals: int) -> str | None:
    """Why this program can't encrypt an update for a sum of so many hospitals; None where it can,
    or needn't."""
    if parameters(table) is None:
        return None
    if importlib.util.find_spec("tenseal") is None:
        return MISSING
    if hospitals > MOST_VECTORS:
        return (
            f'secure_aggregation.scheme = "ckks": a sum is of {MOST_VECTORS} hospitals at most, '
            f'not {hospitals}; set federation.clients_per_round, or it to "masks"'
        )
    return None


class Cipher:
    """One key of the hospitals, in use.

    Parameters
    ----------
    secret : 32 bytes that the hospitals share and the server hasn't
    parameters : of the ring

    Raises TaskError where TenSEAL isn't installed.
    """

    def __init__(self, secret: bytes, parameters: Parameters) -> None:
        try:
            import tenseal
        except ImportError:
            raise TaskError(MISSING) from None
        self.parameters, self._tenseal = parameters, tenseal
        self._context: Any = tenseal.context_from(context_bytes(secret, parameters), n_threads=1)

    def encrypt(self, words: Words, after: memoryview | bytes = b"") -> memoryview:
        """The ciphertexts of D words (8 to 32 bits), in their order, as they travel, and then the
        bytes of ``after``: a new array, in a file where it is large."""
        if words.itemsize * 8 > _MOST_BITS:
            raise ProtocolRefused(f"words of {words.itemsize * 8} bits have no room under CKKS")
        signed, size = words.view(f"int{8 * words.itemsize}"), self.parameters.ciphertext_bytes
        end = self.parameters.size_bytes(len(words))
        memory = mapped.zeros(end + len(after))
        memory[end:] = np.frombuffer(after, np.uint8)
        for number in range(self.parameters.ciphertexts(len(words))):
            start = number * self.parameters.slots
            part = signed[start : start + self.parameters.slots].astype(np.float64)
            full = np.zeros(self.parameters.slots)
            full[: len(part)] = part
            residues = self._residues(self._tenseal.ckks_vector(self._context, full).serialize())
            goal = memory[number * size : (number + 1) * size]
            goal[:] = np.frombuffer(pack(residues, self.parameters), np.uint8)
            mapped.let_go(goal)
        return memory.data.toreadonly()

    def decrypt(self, data: bytes | memoryview, count: int, bits: int) -> Words:
        """The sum of ``count`` words modulo 2^bits out of its ciphertexts.

        Raises ProtocolRefused for another length, or where what comes out aren't whole numbers in
        the range of a sum: it isn't of this key, or something else than a sum.
        """
        expected, size = self.parameters.size_bytes(count), self.parameters.ciphertext_bytes
        if len(data) != expected:
            raise ProtocolRefused(f"the summed ciphertexts have {len(data)} bytes, not {expected}")
        words, most = np.zeros(count, word_type(bits)), MOST_VECTORS * 2.0 ** (bits - 1)
        for number, start in enumerate(range(0, count, self.parameters.slots)):
            residues = unpack(part_of(data, number * size, size), self.parameters)
            stored = self._stored(residues)
            found = np.array(self._tenseal.ckks_vector_from(self._context, stored).decrypt())
            whole = np.rint(found)
            with np.errstate(invalid="ignore"):
                fits = (np.abs(found - whole) <= _NEAR) & (np.abs(whole) <= most)
            if not fits.all():
                raise ProtocolRefused(
                    "what the server gave as the sum isn't one under this hospital's key"
                )
            goal = words[start : start + self.parameters.slots]
            goal[:] = whole[: len(goal)].astype(np.int64).astype(words.dtype)
        return words

    # --- TenSEAL's form ------------------------------------------------------------------------
    def prefix(self) -> bytes:
        """What stands before a SEAL ciphertext's residues."""
        primes = len(self.parameters.moduli)
        scale, degree = 2.0**self.parameters.scale_bits, self.parameters.degree
        count = POLYNOMIALS * primes * degree
        shape = struct.pack("<BQQQdQ", 1, POLYNOMIALS, degree, primes, scale, 1)
        inner = sealed(struct.pack("<Q", count) + bytes(8 * count))[: _SEAL_HEADER_BYTES + 8]
        return named(self.parameters, primes) + shape + inner

    def _residues(self, serialized: bytes) -> Residues:
        """Those of a vector that TenSEAL has just written. Raises TaskError where it has another
        form than TenSEAL 0.3.18 gives."""
        moduli, degree = len(self.parameters.moduli), self.parameters.degree
        start = serialized.find(sealed(b"")[:3])
        prefix, size, plain = self.prefix(), POLYNOMIALS * moduli * degree * 8, b""
        head = serialized[start : start + _SEAL_HEADER_BYTES]
        if start >= 0 and len(head) == _SEAL_HEADER_BYTES and head[5] == _ZSTD:
            end = start + struct.unpack("<Q", head[8:])[0]
            packed = pa.py_buffer(serialized[start + _SEAL_HEADER_BYTES : end])
            with suppress(OSError):  # more bytes than expected, or none of zstd
                plain = pa.decompress(packed, len(prefix) + size, "zstd", asbytes=True)
            if plain[: len(prefix)] == prefix and len(plain) == len(prefix) + size:
                whole = np.frombuffer(plain, np.uint64, size // 8, len(prefix))
                return whole.reshape(POLYNOMIALS, moduli, degree)
        raise TaskError(
            f"TenSEAL {self._tenseal.__version__} writes ciphertexts in another form than 0.3.18; "
            "pip install 'wardround[ckks]'"
        )

    def _stored(self, residues: Residues) -> bytes:
        """A vector as TenSEAL reads it."""
        body = self.prefix() + residues.tobytes()
        sizes = field(1, varint(self.parameters.slots))
        scale = varint(3 << 3 | 1) + struct.pack("<d", 2.0**self.parameters.scale_bits)
        return sizes + field(2, sealed(body)) + scale


@functools.lru_cache(maxsize=4)  # a key takes some tenths of a second to work out, and serves long
def _cipher(secret: bytes, parameters: Parameters) -> Cipher:
    return Cipher(secret, parameters)
