"""Which counts that are about to be opened are of too few persons: told without the counts.

A count v in shares is opened under a mask, c = v + r modulo 2^64. The dealer deals, modulo a prime,
shares of rho, rho r, ..., rho r^k with a random rho of its own, so that

    z = rho (v - 0) (v - 1) ... (v - (k - 1)),    v = c - r,

is a public combination of them. z is opened: 0 where fewer than k persons are in the cell, and
else uniform among all numbers but 0. Nothing else of v is told. A wrap of c + r past 2^64 makes v
another number: of a cell of few it does so with probability k 2^-(64 - 2 bits of a column), at
most 2^-33.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.vertical.deal import stream
from wardround.common.vertical.ring import Words
from wardround.common.vertical.room import Bank, Seat

PRIME = 2**61 - 1


def _residues(words: Words) -> NDArray[Any]:
    """Python's whole numbers below the prime, of uniform words: 61 of their bits."""
    return (words & np.uint64(PRIME)).astype(object) % PRIME


def find_few(seat: Seat, share: Words, unit: int, smallest: int, label: str) -> Any:
    """A party's two steps: which counts are below ``smallest``, bool, at all parties.

    share : its share of counts times ``unit``, flat
    """
    size, powers = len(share), smallest + 1
    mask = seat.hand.mask(label, (size,))
    (opened,), given = yield from seat.opened(share + mask, size * powers if seat.first else 0)
    dealt = seat.hand.share(f"{label} powers", (powers, size), given if seat.first else None)
    dealt = _residues(dealt)
    factors = [np.ones(size, object)]  # of r^0, r^1, ... in the product of (c - j unit - r)
    for number in range(smallest):
        at = (opened.astype(object) - number * unit) % PRIME
        none = np.zeros(size, object)
        factors = [
            (at * low - high) % PRIME
            for low, high in zip([*factors, none], [none, *factors], strict=True)
        ]
    mine = sum((f * d for f, d in zip(factors, dealt, strict=True)), np.zeros(size, object))
    parts, _ = yield from seat.exchange((mine % PRIME).astype(np.uint64))
    total = sum((part.astype(object) for part in parts), np.zeros(size, object)) % PRIME
    return np.array(total == 0, dtype=bool)


def deal_few(bank: Bank, secret: bytes, size: int, smallest: int, label: str) -> Any:
    """The dealer's half. secret : its own, of this run; size : of counts"""
    masks = bank.deck.total(label, (size,)).astype(object)
    factor = 1 + _residues(stream(secret, f"{label} factor", (size,))) % (PRIME - 1)
    values = []
    for _ in range(smallest + 1):
        values.append(factor)
        factor = factor * masks % PRIME
    left = np.array(values, object).reshape(smallest + 1, size)
    for drawn in bank.deck.drawn(f"{label} powers", left.shape):
        left = (left - _residues(drawn)) % PRIME
    yield from bank.give({0: [left.astype(np.uint64)]})
    return (yield from bank.give())
