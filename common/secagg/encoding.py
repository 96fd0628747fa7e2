"""From model updates and metrics to ring vectors, and from their sum back to means.

**Update coordinates** (trainable parameters and the strategy's further records) are clipped, scaled
and rounded stochastically into Z_{2^b}. With n clients and *levels* L the scaled value v lies in
[-S, S] with the *span* S = L - 1, and q = floor(v + u) with u uniform in [0, 1).

*No overflow.* v + u is computed in float32. L <= 2^22, so L - 1 and L are float32 numbers, and
rounding to the nearest float32 is monotone: v + u < L gives at most L, and v + u >= -(L - 1) gives
at least -(L - 1). So |q| <= L, and |sum of n| <= n L <= 2^(b-1) - 1 by the choice of L: the signed
reading of the sum modulo 2^b is the sum itself. In 8 bits L <= 127, so that L + 1 - 2^-16, the
largest v + u, is a float32 number: nothing is rounded up to L + 1, and S = L.

*Unbiased.* E[q] = v up to the 2^-16 grain of u and float32's own rounding of v. The error of one
client is below one level, clip / S, in every coordinate.

*Fewest levels.* The mean of n clients has a variance of at most clip^2 / (4 S^2 n) by rounding, and
S is about 2^(b-1) / n: it grows with n, slowly. In 16 bits the clip is a fixed one, hundreds of
times a usual change: below 32 levels all would be rounding. In 8 bits it is k root mean squares of
the layer (``common/compression``, k = 4), and the variance 4 / (S^2 n) of its square: 0.003 for 10
clients (S = 12), 0.016 for 63 (S = 2, the fewest). S = 1, for up to 127, would be signs, at 0.03.

A *fine* encoding is for whole numbers that already carry their noise (``common/privacy``): L is all
that the ring allows, nothing is rounded, and only the sum must stay in the ring.

*Words* are whole numbers of named sums (counts, histograms) in the narrowest ring that holds their
total: who asks for them knows a bound of it (a count is at most the summed rows), so that no client
needs a share of the ring of its own. A client's number beyond the signed half is refused.

**Exact coordinates** (counts, weights, loss sums, metric sums, statistics, buffers) are multiples
of 2^-96 modulo 2^192: a float64 of at least 2^-44 loses nothing at all, a smaller one at most
2^-97, and n values below 2^95 / n can't overflow.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import ProtocolRefused
from wardround.common.flower.arrays import Arrays, ArraySpec, Layout
from wardround.common.secagg.ring import LIMBS, RINGS, Limbs, Words, negated
from wardround.common.trust.identity import digest, encode_parts

MOST_LEVELS = 2**22
SMALLEST_CLIP, LARGEST_CLIP = 1e-9, 1e9
FEWEST_LEVELS = 32
FEWEST_OF_8_BITS = 2
WORDS = 2
"""``fine`` of a TaskRequest for words of named sums."""
FRACTION_BITS = 96
LARGEST_SUM = 2.0**94
"""Exact sums stay below this, half of what the ring can hold."""
LARGEST_WHOLE = 2**53
"""Up to here float64 has every whole number."""
OWN_NAMES = COUNT, WEIGHT, CLIPPED, FAILED = "count", "weight", "clipped", "failed"
"""In every exact section: clients, their weight, coordinates they clipped, and how many of them had
nothing to add (all else of theirs is random, and so of the sum)."""
_PIECE = 1 << 15


@dataclass(frozen=True)
class Encoding:
    """How one aggregation's numbers are written; every client of it must use the same.

    bits : of an update coordinate: 8, 16 or 32; 8 to 64 of words
    clip : largest magnitude of a coordinate of an update, in the model's unit
    clients : n, the most vectors that are added
    largest_weight : a hospital counts for at most so many examples
    fine : update coordinates come as whole numbers, of as many levels as the ring has
    words : they are words of named sums, whose total fits the ring whatever each client adds
    """

    bits: int
    clip: float
    clients: int
    largest_weight: int
    fine: bool = False
    words: bool = False

    def __post_init__(self) -> None:
        in_range = SMALLEST_CLIP <= self.clip <= LARGEST_CLIP and self.largest_weight > 0
        rings = RINGS if self.words else (16, 32) if self.fine else (8, 16, 32)
        if self.bits not in rings or not in_range or self.clients < 1:
            raise ProtocolRefused("the encoding's parameters are out of range")
        fewest = FEWEST_OF_8_BITS if self.bits == 8 else FEWEST_LEVELS
        if self.levels < fewest:
            mend = "compression.bits = 16" if self.bits == 8 else "secure_aggregation.bits = 32"
            raise ProtocolRefused(
                f"{self.clients} hospitals leave {self.levels} levels in a ring of {self.bits} "
                f"bits, fewer than {fewest}; set {mend}"
            )

    @property
    def levels(self) -> int:
        """L = floor((2^(bits - 1) - 1) / n), at most 2^22 unless ``fine``: the largest magnitude of
        one client's coordinate in the ring. n of them can't leave its signed half; of words it is
        that half, and the whole sum's bound too.

        >>> Encoding(bits=16, clip=1.0, clients=10, largest_weight=1).levels
        3276
        """
        if self.words:
            return (1 << (self.bits - 1)) - 1
        room = int((2 ** (self.bits - 1) - 1) // self.clients)
        return room if self.fine else min(room, MOST_LEVELS)

    @property
    def span(self) -> int:
        """S: L - 1, and L in a ring of 8 bits, where no rounding of float32 needs a level."""
        return self.levels if self.bits == 8 else self.levels - 1

    @property
    def step(self) -> float:
        """clip / S, the distance of two neighbouring levels, in the model's unit, for a share of 1:
        a client that counts with share s is rounded to 1 / s of it."""
        return self.clip / self.span

    def to_bytes(self) -> bytes:
        """What enters the context of an aggregation (22 bytes, big-endian): clients that were told
        different parameters get masks that don't cancel."""
        values = (self.bits, self.clip, self.clients, self.largest_weight, self.how)
        return struct.pack(">BdIQB", *values)

    @property
    def how(self) -> int:
        """``fine`` of a TaskRequest: 0, 1 for fine, 2 for words."""
        return WORDS if self.words else int(self.fine)


def clip_within(reach: float) -> float:
    """The clip nearest to ``reach`` that an encoding can have."""
    return min(max(reach, SMALLEST_CLIP), LARGEST_CLIP)


def add_whole(values: NDArray[np.int64], target: Words) -> None:
    """Add whole numbers to ``target``, modulo the ring, in place.

    values : D, int64; the cast to unsigned words *is* the reduction modulo 2^bits (two's
        complement), also for negative ones
    """
    for start in range(0, len(values), _PIECE):
        goal = target[start : start + _PIECE]
        np.add(goal, values[start : start + _PIECE].astype(target.dtype), out=goal)


def whole_numbers(values: NDArray[Any], most: int) -> NDArray[np.int64]:
    """Numbers to be added as words, as int64; they may come as float64.

    most : largest magnitude

    Raises ProtocolRefused for what is no whole number (NaN, 1.5), or beyond ``most``; of neither it
    says which.
    """
    if values.dtype.kind not in "iu":
        inside = np.abs(values) <= min(most, LARGEST_WHOLE)
        if not (inside.all() and np.array_equal(values, np.rint(values))):
            raise ProtocolRefused(
                f"a number to be summed is not whole or beyond {min(most, LARGEST_WHOLE)}"
            )
    elif values.size and max(int(values.max()), -int(values.min())) > most:
        raise ProtocolRefused(f"a number to be summed is beyond {most}")
    return values.astype(np.int64, copy=False)


def signed_words(words: Words) -> NDArray[Any]:
    """The same numbers read as signed; a view."""
    return words.view(np.dtype(f"int{8 * words.itemsize}"))


def dequantise(words: Words, factor: float) -> NDArray[np.float32]:
    """The signed sum times ``factor``, D float32. Reading the words as signed is right while the
    sum of n numbers stays below 2^(bits - 1), which ``Encoding.levels`` is chosen for."""
    signed = signed_words(words)
    result = np.empty(len(words), np.float32)
    np.multiply(signed, np.float32(factor), out=result, casting="unsafe")
    return result


def encode_exact(values: NDArray[np.float64], clients: int) -> Limbs:
    """Multiples of 2^-96 in two's complement, M x 3. ``clients`` values of each may be added.

    The three limbs of a magnitude: limb 2 counts 2^32, limb 1 2^-32, limb 0 2^-96. Each is below
    2^64, and each subtraction is exact in float64.

    Raises ProtocolRefused for NaN, infinity, or a magnitude that could overflow the sum.
    """
    magnitude = np.abs(np.asarray(values, np.float64))
    limit = LARGEST_SUM / clients
    if not (magnitude <= limit).all():  # also NaN
        raise ProtocolRefused(
            f"a number to be summed is not finite or beyond {limit:.3g}; use a larger unit"
        )
    limbs = np.zeros((len(magnitude), LIMBS), np.uint64)
    rest = magnitude
    for limb, unit in ((2, 2.0**32), (1, 2.0**-32)):
        whole = np.floor(rest / unit)  # exact: a power of two, and what is left has fewer bits
        rest = rest - whole * unit
        limbs[:, limb] = whole.astype(np.uint64)
    limbs[:, 0] = np.rint(rest * 2.0**FRACTION_BITS).astype(np.uint64)
    below = np.asarray(values) < 0
    limbs[below] = negated(limbs[below])
    return limbs


def decode_exact(limbs: Limbs) -> NDArray[np.float64]:
    """The numbers that M x 3 limbs stand for, to the precision of float64.

    >>> total = encode_exact(np.array([0.1, -7.0]), clients=2)
    >>> decode_exact(total).tolist()
    [0.1, -7.0]
    """
    # the magnitude first: limbs of a small negative number are nearly 2^64 each, and added as
    # floats they would cancel to nothing
    negative = limbs[:, -1] >> np.uint64(63) == 1
    magnitude = limbs.copy()
    magnitude[negative] = negated(limbs[negative])
    parts = magnitude.astype(np.float64)
    values = parts[:, 2] * 2.0**32 + (parts[:, 1] * 2.0**-32 + parts[:, 0] * 2.0**-96)
    return np.where(negative, -values, values)


@dataclass(frozen=True)
class VectorLayout:
    """Which named arrays stand where in a vector, both sections in this order.

    update : quantised arrays; those in ``weighted`` count with the client's weight
    exact : arrays summed exactly, float64
    word_bits : where the update section has words of named sums, their bits; else 0, and the task
        says what ring it is of
    """

    update: Layout
    exact: Layout
    weighted: frozenset[str] = frozenset()
    word_bits: int = 0

    @classmethod
    def of(
        cls,
        update: Layout,
        exact: Layout,
        weighted: frozenset[str] = frozenset(),
        word_bits: int = 0,
    ) -> VectorLayout:
        """A layout whose exact section begins with the coordinates of ``OWN_NAMES``.

        Raises ProtocolRefused if ``exact`` uses one of these names.
        """
        own = dict.fromkeys(OWN_NAMES, ArraySpec((1,), "float64"))
        if taken := sorted(set(own) & {*exact, *(update if word_bits else ())}):
            raise ProtocolRefused(f"'{taken[0]}' can't be the name of a sum")
        return cls(update, own | exact, weighted, word_bits)

    @property
    def named(self) -> dict[str, ArraySpec]:
        """All named sums, words and exact ones, but for ``OWN_NAMES``."""
        every = {**self.update, **self.exact}
        return {name: spec for name, spec in every.items() if name not in OWN_NAMES}

    @property
    def update_size(self) -> int:
        """D."""
        return sum(math.prod(spec.shape) for spec in self.update.values())

    @property
    def exact_size(self) -> int:
        """M."""
        return sum(math.prod(spec.shape) for spec in self.exact.values())

    def digest(self) -> bytes:
        """Enters the context: clients that would put something else in a place don't cancel."""
        return digest(
            "layout",
            *(
                encode_parts(
                    name.encode(),
                    spec.dtype.encode(),
                    struct.pack(f">{len(spec.shape)}Q", *spec.shape),
                    bytes([section, name in self.weighted]),
                )
                for section, part in enumerate((self.update, self.exact))
                for name, spec in part.items()
            ),
        )

    def exact_values(self, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """The arrays of the exact section as one float64 vector. A missing one counts as zero."""
        values = np.zeros(self.exact_size)
        start = 0
        for name, spec in self.exact.items():
            size = math.prod(spec.shape)
            if name in arrays:
                values[start : start + size] = np.asarray(arrays[name], np.float64).reshape(-1)
            start += size
        return values

    def exact_arrays(self, values: NDArray[np.float64]) -> Arrays:
        """The reverse of ``exact_values``."""
        return _cut(values, self.exact)

    def update_words(self, words: Words) -> dict[str, Words]:
        """The update section's words by array, flat."""
        flat = {k: ArraySpec((math.prod(s.shape),), s.dtype) for k, s in self.update.items()}
        return _cut(words, flat)


def _cut(values: NDArray[Any], layout: Mapping[str, ArraySpec]) -> Arrays:
    arrays, start = {}, 0
    for name, spec in layout.items():
        size = math.prod(spec.shape)
        arrays[name] = values[start : start + size].reshape(spec.shape)
        start += size
    return arrays
