"""Sums of masked words under CKKS, as whoever has no key adds them: residues, and nothing else.

Cheon, Kim, Kim and Song, "Homomorphic Encryption for Arithmetic of Approximate Numbers" (2017). A
ciphertext holds as many numbers as its ring has coefficients, halved: two polynomials, each as
residues modulo a few primes. Adding two ciphertexts is adding residues, so the server needs neither
a library nor a key, and reads no format of anybody's: what comes is so many whole numbers, each
below its prime, or is refused. (TenSEAL's own bytes are a protobuf with compressed SEAL objects in
it; hospitals take them apart themselves, ``client/secagg/ckks.py``.)

*What is under it* are words that masks have made uniform already. They are whole numbers, so the
decrypted sum is rounded to the exact one: it is the same at every hospital, bit for bit, and tells
nothing of the noise (Li and Micciancio, 2021, recover a key from sums that weren't rounded).

*How much fits.* A word w of b <= 32 bits is read as signed, |w| <= 2^31. Of uniform ones a
coefficient of the sum of n has a standard deviation of 2^32 / sqrt(12) sqrt(n / N) times the scale;
it must stay below half the product of the primes, and the noise of n encryptions, 3.2 sqrt(n N) in
a slot, well below half the scale:

| N | moduli | scale | n | coefficient's limit in deviations | rounding's in deviations |
|---|---|---|---|---|---|
| 8192 | 60 + 40 bits | 2^40 | 64 | beyond 2^20 | beyond 2^20 |
| 4096 | 50 bits | 2^17 | 64 | 27 | 40 |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common import mapped
from wardround.common.errors import ProtocolRefused
from wardround.common.flower.stored import part_of
from wardround.common.secagg.ring import RingVector
from wardround.common.settings import SecureAggregationTable

Residues = NDArray[np.uint64]
"""2 x K x N: two polynomials modulo each of K primes."""
MOST_VECTORS = 64
"""Added at most."""
POLYNOMIALS = 2
_WORD_BYTES = 8


@dataclass(frozen=True)
class Parameters:
    """A ring of CKKS, and what of its ciphertexts travels.

    degree : N
    primes : K of ciphertexts, and one for keys alone, which nothing here has; their product and N
        make 128 bits of security by the table of HomomorphicEncryption.org (218 bits at 8192, 109
        at 4096)
    scale_bits : log2 of what a number is multiplied by before it is rounded
    """

    degree: int
    primes: tuple[int, ...]
    scale_bits: int

    @property
    def moduli(self) -> tuple[int, ...]:
        """The primes of ciphertexts."""
        return self.primes[:-1]

    @property
    def slots(self) -> int:
        """Words in one ciphertext."""
        return self.degree // 2

    @property
    def widths(self) -> tuple[int, ...]:
        """Bytes of a residue on the way, by prime."""
        return tuple(-(-prime.bit_length() // 8) for prime in self.moduli)

    @property
    def ciphertext_bytes(self) -> int:
        """Of one ciphertext on the way."""
        return POLYNOMIALS * self.degree * sum(self.widths)

    def ciphertexts(self, words: int) -> int:
        """How many hold so many words."""
        return -(-words // self.slots)

    def size_bytes(self, words: int) -> int:
        """Of the ciphertexts of so many words."""
        return self.ciphertexts(words) * self.ciphertext_bytes

    def sum_bytes(self, words: int) -> int:
        """Of their sum as it is added up: 8 bytes a residue."""
        return self.ciphertexts(words) * POLYNOMIALS * len(self.moduli) * self.degree * _WORD_BYTES


FLARE = Parameters(8192, (0xFFFFFFFFFFFC001, 0xFFFFF4C001, 0xFFFFFDC001), scale_bits=40)
"""[60, 40, 40] bits: what NVIDIA FLARE's builder of encryption has by default."""
SMALL = Parameters(4096, (0x3FFFFFFFCC001, 0x3FFFFFFFFC001), scale_bits=17)
"""[50, 50] bits: the least in which words of 32 bits are summed exactly."""


def parameters(table: SecureAggregationTable) -> Parameters | None:
    """Those that a run's settings have; None where updates aren't encrypted."""
    if not table.blind or table.scheme != "ckks":
        return None
    return {one.degree: one for one in (FLARE, SMALL)}[table.degree]


def pack(residues: Residues, parameters: Parameters) -> bytes:
    """A ciphertext as it travels: polynomial by polynomial, prime by prime, each residue
    little-endian in as many bytes as its prime has."""
    places = residues.view(np.uint8).reshape(*residues.shape, 8)
    return b"".join(
        places[polynomial, number, :, :width].tobytes()
        for polynomial in range(POLYNOMIALS)
        for number, width in enumerate(parameters.widths)
    )


def unpack(data: bytes | memoryview, parameters: Parameters) -> Residues:
    """The reverse. Raises ProtocolRefused for another length, or a residue that isn't below its
    prime."""
    if len(data) != parameters.ciphertext_bytes:
        raise ProtocolRefused(
            f"a ciphertext has {len(data)} bytes, expected {parameters.ciphertext_bytes}"
        )
    degree, start = parameters.degree, 0
    residues = np.empty((POLYNOMIALS, len(parameters.moduli), degree), np.uint64)
    whole = bytes(data) + bytes(_WORD_BYTES)  # so that the last residue too can be read as 8 bytes
    for polynomial in range(POLYNOMIALS):
        for number, width in enumerate(parameters.widths):
            words: Residues = np.ndarray(degree, np.uint64, whole, start, (width,))
            np.bitwise_and(words, np.uint64((1 << 8 * width) - 1), residues[polynomial, number])
            start += degree * width
    if (residues >= _primes(parameters)).any():
        raise ProtocolRefused("a ciphertext holds a number that isn't below its prime")
    return residues


class CipherSum:
    """The sum of several parties' ciphertexts of D words each, without a key.

    Memory: one sum of 8 bytes a residue, in a file where it is large (``common/mapped.py``), and
    one ciphertext.

    memory : where the sum is kept, ``parameters.sum_bytes(words)`` of zeros, or of a sum
    """

    def __init__(
        self, parameters: Parameters, words: int, memory: NDArray[np.uint8] | None = None
    ) -> None:
        self.parameters, self.added = parameters, 0
        memory = mapped.zeros(parameters.sum_bytes(words)) if memory is None else memory
        count, moduli = parameters.ciphertexts(words), len(parameters.moduli)
        shape = count, POLYNOMIALS, moduli, parameters.degree
        self._sum: Residues = memory.view(np.uint64).reshape(shape)

    def add_bytes(self, data: bytes | memoryview, more: int = 0) -> None:
        """Add what a party sent, which may be ``StoredBytes``.

        more : bytes that follow in ``data``, and aren't of the sum

        Raises ProtocolRefused, with the sum as it was, for another length or a number out of range,
        and for more parties than a sum has room for.
        """
        size = self.parameters.ciphertext_bytes
        expected = size * len(self._sum) + more
        if len(data) != expected:
            raise ProtocolRefused(f"the encrypted vector has {len(data)} bytes, not {expected}")
        if self.added == MOST_VECTORS:
            raise ProtocolRefused(f"a sum of ciphertexts is of {MOST_VECTORS} parties at most")
        for number in range(len(self._sum)):
            try:
                self._add(number, unpack(part_of(data, number * size, size), self.parameters))
            except ProtocolRefused:  # a party is in the sum as a whole, or not at all
                for earlier in range(number):
                    part = part_of(data, earlier * size, size)
                    self._add(earlier, _primes(self.parameters) - unpack(part, self.parameters))
                raise
        self.added += 1

    def _add(self, number: int, residues: Residues) -> None:
        """Add one ciphertext to its place; each residue is at most its prime."""
        goal = self._sum[number]
        np.add(goal, residues, goal)
        # below two primes, so one subtraction is enough; below zero it wraps, to what is larger
        np.minimum(goal, goal - _primes(self.parameters), out=goal)
        mapped.let_go(goal)

    def data(self) -> memoryview:
        """The sum, in the form in which parties' own ciphertexts come: a new array."""
        size = self.parameters.ciphertext_bytes
        memory = mapped.zeros(size * len(self._sum))
        for number, residues in enumerate(self._sum):
            goal = memory[number * size : (number + 1) * size]
            goal[:] = np.frombuffer(pack(residues, self.parameters), np.uint8)
            mapped.let_go(goal)
        return memory.data.toreadonly()


def _primes(parameters: Parameters) -> Residues:
    return np.array(parameters.moduli, np.uint64).reshape(1, -1, 1)


class CipherVector(RingVector):
    """A sum whose update section comes as ciphertexts, and stays one.

    ``update`` holds what who adds up adds himself, in plain: minus the masks that are left, once
    the shares are there. The sum that hospitals read is that of both. ``exact`` is as ever.
    """

    def __init__(self, bits: int, update_size: int, exact_size: int, parameters: Parameters):
        front = parameters.sum_bytes(update_size)
        super().__init__(bits, update_size, exact_size, front)
        self.cipher = CipherSum(parameters, update_size, self.memory[:front])

    def add_bytes(self, data: bytes | memoryview) -> None:
        """Add what a hospital sent: its ciphertexts, then its exact section.

        Raises ProtocolRefused as ``CipherSum.add_bytes``, with nothing added.
        """
        exact = self.exact.nbytes
        self.cipher.add_bytes(data, exact)
        self.add_exact_bytes(part_of(data, len(data) - exact, exact))
