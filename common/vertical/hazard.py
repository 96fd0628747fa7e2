"""Poisson's and Cox's regression of columns at several parties: what is opened at one point.

Coefficients are known to all, so each party has its part of every row's linear predictor in plain,
and exp of it. A row's weight is the product of all these and of the hazard that the outcome's
holder has added up for it (``exposure``):

    u_i = product over parties of exp(x_i b)          from factors that are opened under masks
    S_k = sum over i of E_ik u_i                      opened to the outcome's holder alone
    w_i = u_i sum over k of E_ik events_k / S_k       the holder's factor, once more
    slope = sum over i of x_i (events_i - w_i)        opened to all

with weights and events such that their sum is the number of rows. The baseline is in closed form,
so it needs no sums by interval but S, which the holder sees alone. The curvature is

    sum over i of w_i x_i x_i'  -  M M',    M_k = sum over i of x_i w_ik / sqrt(d_k)

(w_ik: interval k's part of w_i; d: of all events). M has a column for each interval, and
differences of its columns are sums over the few rows that left in between; M M' has none. So the
holder turns the intervals' columns by a random rotation, its own secret (of M Q nothing can be
known but its product with itself, which is M M'), and M Q is opened to one other party, who tells
all M M' alone.

Each text has a party's half and a dealer's half, of the same steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import JointRefused
from wardround.common.vertical import coarse
from wardround.common.vertical.columns import (
    Columns,
    deal_sums,
    deal_weighted_gram,
    sums,
    weighted_gram,
)
from wardround.common.vertical.deal import stream
from wardround.common.vertical.exposure import Exposure
from wardround.common.vertical.precision import Precision, dithered
from wardround.common.vertical.ring import Reals, Words, encode
from wardround.common.vertical.room import Bank, Seat
from wardround.common.vertical.vectors import (
    Masked,
    deal_owned,
    open_owned,
    open_shared,
    times,
)

SLOPE, CURVATURE = b"s", b"c"
"""What the parties tell the dealer in the first step of a point: what they open there."""
_NONE = np.zeros(0, np.uint64)


@dataclass(frozen=True)
class Outcome:
    """What the outcome's holder has; n rows.

    exposure : of the rows, rounded as shares have it
    events : (n,), each row's, times n / (sum of all)
    """

    exposure: Exposure
    events: Reals

    @property
    def shares(self) -> Reals:
        """(K,), each interval's part of all events."""
        shares: Reals = self.exposure.events / self.exposure.events.sum()
        return shares

    def rates(self, sums: Reals) -> Reals:
        """(K,), each interval's hazard by the opened sums, times n / (sum of all events)."""
        if not (sums > 0).all():
            raise JointRefused("the sums by interval leave the range that shares have")
        rates: Reals = self.shares / sums * len(self.events)
        return rates

    def turned(self, rates: Reals, secret: bytes, label: str) -> Reals:
        """(K, n): of a row's hazard each interval's part, over the root of the interval's part of
        all events; turned by a rotation that is uniform among all (QR of normal numbers with a
        positive diagonal of R; Stewart 1980)."""
        parts = self.exposure.of * rates
        whole = parts.sum(axis=1, keepdims=True)
        parts = np.divide(parts, whole, out=np.zeros_like(parts), where=whole > 0)
        count = len(rates)
        drawn = (stream(secret, f"rotation {label}", (2, count, count)) + 0.5) / 2.0**64
        normal = np.sqrt(-2 * np.log(drawn[0])) * np.cos(2 * np.pi * drawn[1])
        rotation, triangle = np.linalg.qr(normal)
        rotation *= np.sign(np.diagonal(triangle))
        turned: Reals = rotation.T @ (parts / np.sqrt(self.shares)).T
        return turned


@dataclass(frozen=True)
class Side:
    """What all of a party's texts need.

    columns, exposures : as they were opened; K intervals
    kept : of the columns those that sums are opened of, P numbers
    coarse, interval_units : how exactly sums are opened; (K,), of sums by interval
    holder : the position of the outcome's holder
    rows : persons; fewer than the seat's, which are padded
    outcome : at the holder
    """

    seat: Seat
    columns: Columns
    kept: NDArray[np.int64]
    exposures: Columns
    precision: Precision
    coarse: coarse.Coarse
    interval_units: NDArray[np.int64]
    holder: int
    rows: int
    outcome: Outcome | None

    @property
    def teller(self) -> int:
        """The position of the party that is shown M Q, and tells M M'."""
        return 1 if self.holder == 0 else 0

    def words(self, values: Reals, bits: int, label: str) -> Words:
        """Words of numbers of the rows, which stand last, padded with zeros."""
        padded = np.zeros((*values.shape[:-1], self.seat.rows), np.uint64)
        padded[..., : self.rows] = dithered(values, bits, self.seat.secret, label)
        return padded


def _order(parties: int, holder: int) -> list[int]:
    """In which factors are multiplied: the holder's is the last, as it is exchanged once more."""
    return [*(place for place in range(parties) if place != holder), holder]


def _weights(side: Side, label: str, factor: Reals, bits: int, asked: bytes) -> Any:
    """Steps up to this party's share of w; at the holder with the intervals' hazards, (K,).

    factor : (n,), exp of this party's part of the linear predictor
    """
    seat, rows = side.seat, side.seat.rows
    dealt = rows if seat.first else 0
    order = _order(len(seat.table.parties), side.holder)
    factors, given = yield from open_owned(
        seat,
        side.words(factor, bits, "factor"),
        range(len(order)),
        f"{label} factor",
        dealt,
        asked if seat.first else b"",
    )
    run: Masked = factors[order[0]]
    for place in order[1:-1]:
        share = times(seat, run, factors[place], given, f"{label} {place}")
        run, given = yield from open_shared(seat, share, f"{label} run {place}", dealt)
    share = times(seat, run, factors[side.holder], given, f"{label} u")
    found = yield from sums(seat, side.exposures, share, _NONE, f"{label} time")
    point, units = len(order) * bits + side.precision.exposure, side.interval_units
    found = yield from seat.opened_to(
        coarse.cleared(found, units, point), seat.table.parties[side.holder]
    )
    rates, mine = None, None
    if side.outcome is not None:
        rates = side.outcome.rates(coarse.opened(found, units, point, len(order)))
        mine = side.words(side.outcome.exposure.of @ rates * factor, bits, "rate")
    (last,), given = yield from open_owned(seat, mine, [side.holder], f"{label} rate", dealt)
    return times(seat, run, last, given, f"{label} w"), rates


def _deal_weights(bank: Bank, label: str, holder: int, exposures: Words) -> Any:
    """The dealer's half of ``_weights``. Gives what the first party said that it asks."""
    order = _order(len(bank.table.parties), holder)
    masks = deal_owned(bank, range(len(order)), f"{label} factor")
    run, asked = masks[order[0]], b""
    for number, place in enumerate(order[1:]):
        name = "u" if place == holder else str(place)
        given = bank.deck.deal(f"{label} {name}", run * masks[place])
        letters = yield from bank.give({0: [given]})
        if not number:
            asked = letters.get(bank.table.parties[0], b"")
        if place != holder:
            run = bank.deck.total(f"{label} run {place}", (bank.rows,))
    yield from deal_sums(bank, exposures, 0, f"{label} time")
    yield from bank.give()
    (mask,) = deal_owned(bank, [holder], f"{label} rate")
    yield from bank.give({0: [bank.deck.deal(f"{label} w", run * mask)]})
    return asked


def slope(side: Side, label: str, factor: Reals) -> Any:
    """Steps of the slope at one point. Gives {"slope": (P,)}, of a person."""
    seat, bits = side.seat, side.precision.slope
    weight, _ = yield from _weights(side, label, factor, bits, SLOPE)
    point = len(seat.table.parties) * bits + side.precision.column
    rest = np.zeros(seat.rows, np.uint64) - weight
    if side.outcome is not None:
        rest[: side.rows] += encode(side.outcome.events, point - side.precision.column)
    share = yield from sums(seat, side.columns, rest, _NONE, f"{label} slope")
    return {"slope": (yield from _opened(side, share[side.kept], side.coarse.slope, point))}


def curvature(side: Side, label: str, factor: Reals) -> Any:
    """Steps of the curvature at one point. Gives {"curvature": (P, P)}, of a person; at the holder
    also "rates": (K,), the intervals' hazards."""
    seat, bits, column = side.seat, side.precision.curvature, side.precision.column
    kept, parties = side.kept, len(seat.table.parties)
    weight, rates = yield from _weights(side, label, factor, bits, CURVATURE)
    turned = np.zeros((0, seat.rows), np.uint64)
    if side.outcome is not None:
        turned = side.words(side.outcome.turned(rates, seat.secret, label), column, "parts")
    beside = yield from _open_beside(side, turned, f"{label} parts")
    share = yield from weighted_gram(seat, side.columns, weight, label, beside)
    point, units, told = parties * bits + 2 * column, side.coarse.curvature, np.zeros(0)
    first = yield from _opened(side, share[np.ix_(kept, kept)], units, point)
    beside_share = coarse.cleared(share[side.columns.count :, kept], units, point)
    second = yield from seat.opened_to(beside_share, seat.table.parties[side.teller])
    if seat.position == side.teller:
        mixed = coarse.opened(second, units, point, parties) / side.rows
        told = (mixed.T @ mixed).ravel()
    count = len(kept)
    sizes = [count * count * (place == side.teller) for place in range(parties)]
    every, _ = yield from seat.exchange(told, sizes=sizes)
    found = first - every[side.teller].reshape(count, count)
    values = {"curvature": (found + found.T) / 2}
    return values if rates is None else values | {"rates": rates}


def _opened(side: Side, share: Words, units: int, bits: int) -> Any:
    """A step in which all open sums as exactly as ``coarse`` has it. Gives them, of a person."""
    (found,), _ = yield from side.seat.opened(coarse.cleared(share, units, bits))
    return coarse.opened(found, units, bits, len(side.seat.table.parties)) / side.rows


def _open_beside(side: Side, mine: Words, label: str) -> Any:
    """A step that opens columns of the outcome's holder alone, for one use."""
    seat, count = side.seat, side.exposures.count
    mask = seat.hand.mask(label, mine.shape)
    sizes = [count * seat.rows * (place == side.holder) for place in range(len(seat.table.parties))]
    parts, _ = yield from seat.exchange(mine - mask, sizes=sizes)
    return Columns(parts[side.holder].reshape(count, seat.rows), mask, slice(0, len(mine)))


def deal_point(bank: Bank, label: str, holder: int, masks: Words, exposures: Words) -> Any:
    """The dealer's half of ``slope`` or ``curvature``, as the parties say. Gives which it was, as
    {"asked": its bytes}."""
    asked = yield from _deal_weights(bank, label, holder, exposures)
    if asked == SLOPE:
        yield from deal_sums(bank, masks, 0, f"{label} slope")
        yield from bank.give()
        return {"asked": np.frombuffer(asked, np.uint8)}
    count = len(exposures)
    shapes = [(count * (place == holder), bank.rows) for place in range(len(bank.table.parties))]
    beside = bank.deck.masks(f"{label} parts", shapes)[holder]
    yield from bank.give()
    yield from deal_weighted_gram(bank, masks, label, beside)
    for _ in range(3):
        yield from bank.give()
    return {"asked": np.frombuffer(asked, np.uint8)}
