"""Discrete Gaussian noise: whole numbers, drawn from AES in counter mode.

P(X = k) is proportional to exp(-k^2 / (2 sigma^2)) on the integers (Canonne, Kamath, Steinke 2020,
arXiv 2004.00010). Whole numbers leave no trace of floating-point arithmetic in what is released
(Mironov 2012 reads secrets from the low bits of a float64 Gaussian).

*How it is drawn.* Up to ``_LARGEST_TABLE`` by inverting the cumulative distribution, tabulated to
64 bits: 16 random bits decide most draws through a guide table, 48 more the others. A larger sigma
is s A + B with A, B of smaller ones: for sigma_A, sigma_B >= 2.14 s this is within 2^-62 of a
discrete Gaussian with sigma^2 = s^2 sigma_A^2 + sigma_B^2 (Micciancio, Walter 2017, ePrint
2017/259, corollary 2; 2.14 = sqrt(2) eta / sqrt(2 pi) for smoothing parameter eta at 2^-64).

*Error.* The tabulated probabilities are off by at most 2^-64 each. Where most of the mass lies that
is a factor of 1 +- 2^-50 per draw: 10^10 draws add about 10^-5 to an epsilon.

*The key* comes from the operating system where the noise protects someone. ``NoiseSource.seeded``
exists for simulation, so that runs can be repeated; whoever knows the seed can subtract the noise.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from wardround.common.rng import derive_seed

Integers = NDArray[np.int64]

SMALLEST_SIGMA, LARGEST_SIGMA = 0.5, 2.0**40
_LARGEST_TABLE = 1024.0
_LARGEST_FACTOR = 475
"""475 x 2.14 < 1024: what the sum of tables (module's docstring) asks of its parts."""
_TAIL = 9.5
"""In sigmas: P(|X| > 9.5 sigma) < 2^-68."""
_PIECE = 1 << 16
MOST_TOGETHER = _PIECE
"""Numbers of one source that may be drawn beside others': one piece."""
_FIXED_BITS = 160


class NoiseSource:
    """A stream of secret random bits, and the draws that privacy needs.

    Parameters
    ----------
    key : 16 bytes; use ``system()`` or ``seeded()``
    simulated : True if the key derives from a seed
    """

    def __init__(self, key: bytes, simulated: bool) -> None:
        self.simulated = simulated
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        self._scratch: _Scratch | None = None

    def __repr__(self) -> str:
        return f"NoiseSource({'seeded' if self.simulated else 'system'})"

    @classmethod
    def system(cls) -> NoiseSource:
        """Keyed by the operating system's generator."""
        return cls(secrets.token_bytes(16), False)

    @classmethod
    def seeded(cls, seed: int, purpose: str, *parts: int | str) -> NoiseSource:
        """For simulation only: the same stream for the same arguments."""
        text = str(derive_seed(seed, purpose, *parts))
        return cls(hashlib.sha256(b"noise" + text.encode()).digest()[:16], True)

    def random_bytes(self, count: int) -> bytes:
        """The next bytes of the stream."""
        return self._encryptor.update(bytes(count))

    def poisson_sample(self, size: int, rate: float) -> Integers:
        """Positions in 0..size-1, ascending, int64, each taken independently with probability
        ``rate`` (rounded down to a multiple of 2^-64, so never above what is accounted for).

        Poisson sampling is what the accounting is of: batches of a fixed size would have another
        cost. So a sample's size varies, and may be 0. Raises ValueError for a rate outside (0, 1].
        """
        if not 0 < rate <= 1:
            raise ValueError(f"a sampling rate is in (0, 1], got {rate}")
        if rate == 1:
            return np.arange(size, dtype=np.int64)
        draws = np.frombuffer(self.random_bytes(8 * size), np.uint64)
        return np.flatnonzero(draws < np.uint64(int(rate * 2.0**64))).astype(np.int64)

    def discrete_gaussian(self, sigma: float, size: int) -> Integers:
        """``size`` independent draws, int64. ValueError for a sigma outside 0.5..2^40.

        In pieces of 2^16, whose size is part of the stream: the same calls give the same draws, and
        one call of 2 n is not two of n.

        >>> source = NoiseSource.seeded(1, "example")
        >>> draws = source.discrete_gaussian(3.0, 100_000)
        >>> bool(abs(draws.std() - 3.0) < 0.05)
        True
        """
        if not SMALLEST_SIGMA <= sigma <= LARGEST_SIGMA:
            raise ValueError(f"sigma must be in {SMALLEST_SIGMA}..2^40, got {sigma:g}")
        result = np.empty(size, np.int64)
        factors, tables = _chain(sigma)
        if self._scratch is None or len(self._scratch.drawn) < min(size, _PIECE):
            self._scratch = _Scratch(min(size, _PIECE))
        for start in range(0, size, _PIECE):
            self._fill(result[start : start + _PIECE], factors, tables, self._scratch)
        return result

    def _fill(
        self, target: Integers, factors: list[int], tables: list[_Table], scratch: _Scratch
    ) -> None:
        # Horner: ((b_0) s_0 + b_1) s_1 + ..., each b_j a draw of its own small sigma
        count, reach = len(target), tables[0].reach
        for factor, table in zip(factors, tables[1:], strict=True):
            reach = reach * factor + table.reach
        drawn = self._from_table(tables[0], scratch.drawn[:count], scratch)
        total = drawn if reach < 2**31 else drawn.astype(np.int64)  # half the memory, mostly
        for factor, table in zip(factors, tables[1:], strict=True):
            total *= factor
            total += self._from_table(table, scratch.other[:count], scratch)
        target[:] = total

    def _from_table(
        self, table: _Table, drawn: NDArray[np.int32], scratch: _Scratch
    ) -> NDArray[np.int32]:
        """``drawn``, filled."""
        count = len(drawn)
        self._encryptor.update_into(memoryview(_ZEROS)[: 2 * count], scratch.stream)
        high = scratch.sixteen[:count]
        for start in range(0, count, _BLOCK):
            part = slice(start, start + _BLOCK)
            index = scratch.index[: len(high[part])]
            np.copyto(index, high[part])  # ``take`` would do it anew
            # no index is out of bounds, and this mode doesn't look
            table.guide.take(index, out=drawn[part], mode="wrap")
        np.greater_equal(drawn, _OPEN, out=scratch.is_open[:count])
        open_ = _positions(scratch.is_open[: count + count // 8], count)
        if len(open_):
            low = np.frombuffer(self.random_bytes(8 * len(open_)), np.uint64) >> np.uint64(16)
            drawn[open_] = table.decide(high.take(open_), low, drawn.take(open_))
        return drawn


def discrete_gaussians(sources: Sequence[NoiseSource], sigma: float, size: int) -> Integers:
    """What each source's ``discrete_gaussian(sigma, size)`` gives, number for number: A x size.

    Of up to ``MOST_TOGETHER`` numbers each: the look-ups of all are made at once, which is what
    small draws of many simulated hospitals take most of their time for. ValueError as there.
    """
    if not SMALLEST_SIGMA <= sigma <= LARGEST_SIGMA or size > MOST_TOGETHER:
        raise ValueError(
            f"sigma must be in {SMALLEST_SIGMA}..2^40 and size up to {MOST_TOGETHER}, got "
            f"{sigma:g} and {size}"
        )
    factors, tables = _chain(sigma)
    total = _from_streams(sources, tables[0], size).astype(np.int64)
    for factor, table in zip(factors, tables[1:], strict=True):
        total *= factor
        total += _from_streams(sources, table, size)
    return total


def _from_streams(sources: Sequence[NoiseSource], table: _Table, size: int) -> NDArray[np.int32]:
    stream = b"".join([one.random_bytes(2 * size) for one in sources])
    high = np.frombuffer(stream, np.uint16).reshape(len(sources), size)
    drawn = table.guide.take(high)
    is_open = drawn >= _OPEN
    # what is still open of a source's numbers takes the next bytes of its own stream
    counts = is_open.sum(1).tolist()
    rest = b"".join([one.random_bytes(8 * n) for one, n in zip(sources, counts, strict=True)])
    low = np.frombuffer(rest, np.uint64) >> np.uint64(16)
    drawn[is_open] = table.decide(high[is_open], low, drawn[is_open])
    return drawn


_OPEN, _SEARCHED = 1 << 29, 1 << 30
_ZEROS = bytes(2 * _PIECE)
_BLOCK = 1 << 13
"""So that the look-ups of a block stay in the processor's cache, with the table."""


class _Scratch:
    """Where pieces of up to ``size`` draws are made: fresh memory for each would cost a third of
    the time.

    stream : bytes of the key stream; ``sixteen`` is the same memory in words. AES asks for the
        room of one more block
    """

    def __init__(self, size: int) -> None:
        self.stream = bytearray(2 * size + 16)
        self.sixteen = np.frombuffer(self.stream, np.uint16)
        self.index = np.empty(min(size, _BLOCK), np.intp)
        self.drawn, self.other = np.empty((2, size), np.int32)
        self.is_open = np.empty(size + size // 8, np.bool_)


def _positions(flags: NDArray[np.bool_], count: int) -> NDArray[np.intp]:
    """Which of the first ``count`` flags are set; the others are room, an eighth of ``count``.

    numpy looks for the next one where at most a tenth are set, at twice the time that it takes to
    go through all without a branch: so there are always more.
    """
    flags[count:] = True
    return np.flatnonzero(flags)[: count - len(flags) or None]


@dataclass(frozen=True)
class _Table:
    """thresholds[i] = 2^64 P(X <= i - reach).

    guide[h] is the draw whose 16 high bits are h, unless the other 48 decide. Then, with i the
    first threshold among these bits, it is ``_OPEN`` + i: the draw is i - reach, or one more from
    thresholds[i] on. Where there are further thresholds among them it is ``_SEARCHED``.
    """

    reach: int
    thresholds: NDArray[np.uint64]
    guide: NDArray[np.int32]

    def decide(
        self, high: NDArray[np.uint16], low: NDArray[np.uint64], guided: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """Draws by all 64 bits, for ``high`` whose guide is open."""
        full = high.astype(np.uint64) << np.uint64(48) | low
        found = guided - np.int32(_OPEN)
        count = len(guided)
        searched = np.empty(count + count // 8, np.bool_)
        np.equal(guided, _SEARCHED, out=searched[:count])
        rest = _positions(searched, count)
        found[rest] = 0
        found += self.thresholds.take(found) <= full
        found[rest] = np.searchsorted(self.thresholds, full[rest], side="right")
        found -= self.reach
        return found


@lru_cache(maxsize=32)
def _chain(sigma: float) -> tuple[list[int], list[_Table]]:
    """Factors, and the tables that go between them."""
    factors, base = _decompose(sigma)
    return factors, [_table(small) for small in base]


def _decompose(sigma: float) -> tuple[list[int], list[float]]:
    """Factors s_i and table sigmas b_j so that ((b_0) s_0 + b_1) s_1 + b_2 ... has ``sigma``."""
    factors: list[int] = []
    small: list[float] = []
    while sigma > _LARGEST_TABLE:
        ratio = sigma / _LARGEST_TABLE
        factor = min(_LARGEST_FACTOR, math.ceil(math.sqrt(ratio * ratio - 1)))
        if factor < _LARGEST_FACTOR:
            base = sigma / math.sqrt(1 + factor * factor)
            return [factor, *factors], [base, base, *small]
        factors.insert(0, factor)
        small.insert(0, _LARGEST_TABLE)
        sigma = math.sqrt(sigma * sigma - _LARGEST_TABLE**2) / factor
    return factors, [sigma, *small]


@lru_cache(maxsize=64)
def _table(sigma: float) -> _Table:
    weights = _half_weights(sigma)
    total = weights[0] + 2 * sum(weights[1:])
    reach, below, thresholds = len(weights) - 1, 0, []
    for k in range(-reach, reach):  # the last value takes what is left
        below += weights[abs(k)]
        thresholds.append(min((below << 64) // total, 2**64 - 1))
    found = np.array(thresholds, np.uint64)
    cells = np.arange(2**16, dtype=np.uint64) << np.uint64(48)
    first = np.searchsorted(found, cells, side="right")
    last = np.searchsorted(found, cells | np.uint64(2**48 - 1), side="right")
    open_ = np.where(last == first + 1, first + _OPEN, _SEARCHED)
    guide = np.where(first == last, first - reach, open_)
    return _Table(reach, found, guide.astype(np.int32))


def _half_weights(sigma: float) -> list[int]:
    """2^160 exp(-k^2 / (2 sigma^2)) for k = 0 .. 9.5 sigma, from w_{k+1} = w_k r q^k in whole
    numbers: r = exp(-1/(2 sigma^2)), q = r^2."""
    with localcontext() as context:  # float64's exp would be off in the 53rd bit, 64 are tabulated
        context.prec = 60
        r = (Decimal(-1) / (2 * Decimal(sigma) ** 2)).exp()
        ratio, squared = (int(x * 2**_FIXED_BITS) for x in (r, r * r))
    weights = [1 << _FIXED_BITS]
    for _ in range(math.ceil(_TAIL * sigma)):
        weights.append(weights[-1] * ratio >> _FIXED_BITS)
        ratio = ratio * squared >> _FIXED_BITS
    return weights
