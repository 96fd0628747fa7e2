"""Sums of products of all columns and the outcome: what linear regression is made of, and where
others begin.

Columns are 1 and the inputs, party after party. Counts that are among these sums, of two two-valued
columns or one and a two-valued outcome, are tested in shares before anything is opened; inputs with
counts of too few persons are left out, and nothing of them is opened, here or later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import JointRefused
from wardround.common.vertical import coarse
from wardround.common.vertical.beginning import Known
from wardround.common.vertical.cells import deal_few, find_few
from wardround.common.vertical.columns import (
    Columns,
    deal_columns,
    deal_sums,
    open_columns,
    sums,
)
from wardround.common.vertical.ring import Reals, Words, decode, encode, fraction_bits, product
from wardround.common.vertical.room import Bank, Seat, read, written
from wardround.common.vertical.rows import TWO_VALUED

_FINER = 7
CELLS = 4
"""Of two two-valued columns."""


@dataclass(frozen=True)
class Moments:
    """K columns are kept; the first is 1.

    columns : all of them, as they were opened under masks
    own : this party's, (own columns, n), as rounded; with 1 at the first party
    kept : which of all columns, K numbers
    gram, cross, square : means over persons of X X^T (K, K), X y (K,) and y y, 0-dimensional
    """

    columns: Columns
    own: Reals
    kept: NDArray[np.int64]
    gram: Reals
    cross: Reals
    square: float

    @property
    def mine(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(places among the kept, rows of ``own``) of this party's columns."""
        own = self.columns.own
        places = np.flatnonzero((self.kept >= own.start) & (self.kept < own.stop))
        return places, self.kept[places] - own.start

    @property
    def variances(self) -> Reals:
        """Of the columns, (K,); of 1 it is 0."""
        found: Reals = np.diagonal(self.gram) - self.gram[0] * self.gram[0]
        return np.where(np.arange(len(found)) == 0, 0.0, found)


def column_counts(counts: Sequence[int]) -> list[int]:
    """Of each party its columns: the first has 1 beside its inputs."""
    return [count + (not place) for place, count in enumerate(counts)]


def moments(
    seat: Seat, known: Known, values: Reals, outcome: Reals | None, two_valued: bool
) -> Any:
    """A party's steps: opens columns under masks, and these sums. Gives ``Moments``.

    values : its inputs that aren't left out, (columns, n); outcome : (n,) at its holder
    two_valued : whether the outcome is 0 and 1
    """
    persons, (bits, _) = known.persons, fraction_bits(seat.rows)
    values = np.concatenate([np.ones((1, persons)), values]) if seat.first else values
    words = np.zeros((len(values), seat.rows), np.uint64)
    words[:, :persons] = encode(values, bits)
    columns, dealt = yield from open_columns(seat, words, column_counts(known.counts))
    own = decode(words, bits)[:, :persons]
    ones = np.zeros(seat.rows, np.uint64)
    if outcome is not None:
        ones[:persons] = encode(outcome, bits)
    found = yield from seat.memory.once(
        "moments", _opened(seat, known, columns, dealt, ones, two_valued, bits)
    )
    gram, cross, square = found["gram"], found["cross"], float(found["square"][0])
    return Moments(columns, own, found["kept"], gram, cross, square)


def _opened(
    seat: Seat,
    known: Known,
    columns: Columns,
    dealt: Words | None,
    outcome: Words,
    two_valued: bool,
    bits: int,
) -> Any:
    """The steps after the columns are opened under their masks."""
    gram = columns.gram(seat, dealt, "columns")
    pairs = two_valued_pairs(known, two_valued)
    smallest = known.plan.options.smallest_cell
    note = written(np.array([CELLS * len(pairs)], np.uint64))
    cross = yield from sums(
        seat, columns, outcome, product(outcome, outcome)[None], "outcome", note
    )
    counts = pair_counts(gram, cross, pairs) if pairs else np.zeros(0, np.uint64)
    few = yield from find_few(seat, counts, 4**bits, smallest, "cells")
    kept = np.array(kept_columns(columns.count, pairs, few.reshape(len(pairs), CELLS).any(axis=1)))
    rows, others = np.triu_indices(len(kept))
    share = np.concatenate([gram[kept[rows], kept[others]], cross[kept], cross[-1:]])
    units = _units(known, kept, two_valued, bits)
    (words,), _ = yield from seat.opened(coarse.cleared(share, units, 2 * bits))
    parties = len(seat.table.parties)
    found = coarse.opened(words, units, 2 * bits, parties) / known.persons
    matrix = np.zeros((len(kept), len(kept)))
    matrix[rows, others] = matrix[others, rows] = found[: len(rows)]
    rest = found[len(rows) :]
    return {"gram": matrix, "cross": rest[:-1], "square": rest[-1:], "kept": kept}


def _units(known: Known, kept: NDArray[np.int64], outcome: bool, bits: int) -> NDArray[np.int64]:
    """Of each sum that is opened its unit, as a power of two: counts are exact, all others are told
    to 1/128 of the root of persons (``coarse`` says why)."""
    exact = np.array([True, *(kind == TWO_VALUED for kind in known.kept_kinds)])[kept]
    rows, others = np.triu_indices(len(kept))
    counts = np.concatenate([exact[rows] & exact[others], exact & outcome, [outcome]])
    unit = math.floor(math.log2(known.persons) / 2) - _FINER
    return np.where(counts, -2 * bits, unit)


def two_valued_pairs(known: Known, outcome: bool) -> list[tuple[int, int]]:
    """Columns (1 is 0) whose products are counts, each two of another category; with the outcome,
    if it is two-valued, as column -1."""
    places = [
        (place, category)
        for place, (kind, category) in enumerate(
            zip(known.kept_kinds, known.kept_categories, strict=True), start=1
        )
        if kind == TWO_VALUED
    ]
    found = [
        (first, second)
        for number, (first, category) in enumerate(places)
        for second, other in places[number + 1 :]
        if category[1] < 0 or category != other
    ]
    return found + [(place, -1) for place, _ in places if outcome]


def pair_counts(gram: Words, cross: Words, pairs: Sequence[tuple[int, int]]) -> Words:
    """This party's shares of the four counts of each pair, flat."""
    first, second = np.array(pairs).T
    with_outcome = second < 0
    both = np.where(with_outcome, cross[first], gram[first, second])
    ones = np.where(with_outcome, cross[0], gram[second, second])
    mine = gram[first, first]
    return np.stack(
        [both, mine - both, ones - both, gram[0, 0] - mine - ones + both], axis=1
    ).ravel()


def kept_columns(count: int, pairs: Sequence[tuple[int, int]], few: NDArray[np.bool_]) -> list[int]:
    """Which of the columns stay, so that no pair of them has a count of few: those in most of such
    pairs go first, of equal ones the last."""
    left = [pair for pair, small in zip(pairs, few, strict=True) if small]
    kept = list(range(count))
    while left:
        times = np.bincount([place for pair in left for place in pair if place >= 0])
        gone = int(np.flatnonzero(times == times.max())[-1])
        kept.remove(gone)
        left = [pair for pair in left if gone not in pair]
    return kept


def deal_moments(bank: Bank, counts: Sequence[int], secret: bytes, smallest: int) -> Any:
    """The dealer's half. secret : its own. Gives the masks of the columns."""
    masks = yield from deal_columns(bank, column_counts(counts))
    letters = yield from deal_sums(bank, masks, 1, "outcome")
    cells = int(read(letters, bank.table.parties[0], 1)[0])
    width = sum(counts) + 1
    if cells > CELLS * width * width:
        raise JointRefused("a party asks for more than the plan has")
    yield from deal_few(bank, secret, cells, smallest, "cells")
    yield from bank.give()
    return masks
