"""Functions of a shared linear predictor that are sums of a few sines: one opening, no truncation.

eta, the sum over parties of what each computes of its own columns, is written as an angle: 2^32 is
one period. Each party opens its angle less a mask; of the sum E of these and the sum U of masks,
eta = E + U, and

    cos k(E + U) = cos kE cos kU - sin kE sin kU,    sin k(E + U) = sin kE cos kU + cos kE sin kU,

so that of dealt shares of cos kU and sin kU every sum of harmonics is a public combination: for any
number of parties, and for as many functions as are asked (residual, weight and loss of a model are
three). E is uniform, as the masks are. The sines are of whole quarter turns and Taylor series by
elementwise products and sums, which every IEEE machine rounds the same: parties that disagreed on
one last bit of a public factor would open noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.vertical.ring import Reals, Words, encode
from wardround.common.vertical.room import Bank, Seat

Angles = NDArray[np.uint32]
_QUARTER = 2.0**30
_SINE = (-1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800, 1 / 6227020800)
_COSINE = (-1 / 2, 1 / 24, -1 / 720, 1 / 40320, -1 / 3628800, 1 / 479001600, -1 / 87178291200)


@dataclass(frozen=True)
class Wave:
    """A sum of harmonics of eta: constant + sum of cosine_k cos(w_k eta) + sine_k sin(w_k eta)."""

    constant: float
    cosine: tuple[float, ...]
    sine: tuple[float, ...]


@dataclass(frozen=True)
class Harmonics:
    """Frequencies: w_k = multiples_k 2 pi / period. Odd multiples, or all from 1."""

    period: float
    multiples: tuple[int, ...]

    def __call__(self, wave: Wave, eta: Reals) -> Reals:
        """The function in the clear: what a wave is at eta, float64."""
        at = np.outer(self.multiples, eta) * (2 * np.pi / self.period)
        found: Reals = wave.cosine @ np.cos(at) + wave.sine @ np.sin(at)
        return wave.constant + found

    def angles(self, eta: Reals) -> Angles:
        """A party's share of eta (any size: whole turns fall away), in 2^-32 of the period."""
        turns = np.mod(eta / self.period, 1.0)
        return np.rint(turns * 2.0**32).astype(np.uint64).astype(np.uint32)


def turned(angles: Angles) -> tuple[Reals, Reals]:
    """(cos, sin) of angles in 2^-32 of a turn, float64; the same bits on every IEEE machine."""
    quarters = (angles + np.uint32(2**29)) >> np.uint32(30)
    rest = (angles - (quarters << np.uint32(30))).view(np.int32) * (np.pi / 2 / _QUARTER)
    square = rest * rest
    cosine, sine = np.zeros_like(rest), np.zeros_like(rest)
    for factor in reversed(_COSINE):
        cosine = (cosine + factor) * square
    for factor in reversed(_SINE):
        sine = (sine + factor) * square
    cosine, sine = cosine + 1.0, (sine + 1.0) * rest
    odd, back, minus = quarters % 2 == 1, quarters >= 2, (quarters == 1) | (quarters == 2)
    first, second = np.where(odd, sine, cosine), np.where(odd, cosine, sine)
    return np.where(minus, -first, first), np.where(back, -second, second)


def each_multiple(multiples: Sequence[int], angles: Angles) -> Any:
    """(cos, sin) of each multiple of angles, one after the other: whole turns fall away."""
    for multiple in multiples:
        yield turned(angles * np.uint32(multiple))


def sizes(harmonics: Harmonics, rows: int, parties: int) -> list[int]:
    """Words that each party is dealt for one evaluation: harmonic k's go to party k mod parties."""
    found = [0] * parties
    for number in range(len(harmonics.multiples)):
        found[number % parties] += 2 * rows
    return found


def deal_waves(bank: Bank, harmonics: Harmonics, label: str, bits: int) -> Any:
    """The dealer's step of ``open_eta``. Gives the letters that it got."""
    masks = bank.deck.total(f"{label} angle", (bank.rows,), np.uint32)
    corrections: dict[int, list[Words]] = {}
    for number, (cosine, sine) in enumerate(each_multiple(harmonics.multiples, masks)):
        to = number % len(bank.table.parties)
        pair = encode(np.stack([cosine, sine]), bits)
        given = bank.deck.deal(f"{label} wave {number}", pair, to)
        corrections.setdefault(to, []).append(given)
    return (yield from bank.give(corrections))


class Opened:
    """eta under its mask, opened, and one party's shares of the waves of the mask.

    bits : of a function's fixed point, the same at all parties; shares of waves have ``bits // 2``
        of them, public factors the rest
    """

    def __init__(
        self, harmonics: Harmonics, angles: Angles, waves: Sequence[Words], bits: int, first: bool
    ) -> None:
        self._harmonics, self._angles, self._waves = harmonics, angles, waves
        self._bits, self._first = bits, first

    def shares(self, waves: Sequence[Wave]) -> list[Words]:
        """This party's share of each function at every row, (rows,), of ``bits`` bits.

        Its error by rounding is at most terms * 2^-(bits / 2), independent between rows.
        """
        factor_bits = self._bits - self._bits // 2
        found = [np.zeros(len(self._angles), np.uint64) for _ in waves]
        turns = each_multiple(self._harmonics.multiples, self._angles)
        for number, (cosine, sine) in enumerate(turns):
            mine = self._waves[number]
            for total, wave in zip(found, waves, strict=True):
                even, odd = wave.cosine[number], wave.sine[number]
                total += encode(even * cosine + odd * sine, factor_bits) * mine[0]
                total += encode(odd * cosine - even * sine, factor_bits) * mine[1]
        if self._first:
            for total, wave in zip(found, waves, strict=True):
                total += encode(np.array(wave.constant), self._bits)
        return found


def open_eta(
    seat: Seat, harmonics: Harmonics, label: str, eta: Reals, bits: int, note: bytes = b""
) -> Any:
    """A party's step: opens its part of eta under a mask. Gives ``Opened``.

    eta : (rows,), of its own columns. note : for the dealer, who has it in its next step
    """
    hand, parties = seat.hand, len(seat.table.parties)
    angles = harmonics.angles(eta) - hand.mask(f"{label} angle", (seat.rows,), np.uint32)
    dealt = seat.my_part(sizes(harmonics, seat.rows, parties))
    (total,), given = yield from seat.opened(angles, dealt, note)
    parts = iter(given.reshape(-1, 2, seat.rows))
    waves = [
        hand.share(
            f"{label} wave {number}",
            (2, seat.rows),
            next(parts) if number % parties == seat.position else None,
            number % parties,
        )
        for number in range(len(harmonics.multiples))
    ]
    return Opened(harmonics, total, waves, bits, seat.first)
