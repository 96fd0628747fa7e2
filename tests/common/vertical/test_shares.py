"""Arithmetic on shares: against the same numbers in the clear, for 2 to 5 parties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.common.vertical.table import split, together, total
from wardround.common.errors import JointRefused
from wardround.common.vertical.columns import (
    Columns,
    deal_columns,
    deal_sums,
    deal_weighted_gram,
    open_columns,
    sums,
    weighted_gram,
)
from wardround.common.vertical.deal import Deck, Hand
from wardround.common.vertical.harmonics import Harmonics, Wave, deal_waves, open_eta, turned
from wardround.common.vertical.ring import decode, encode, fraction_bits, product
from wardround.common.vertical.room import Bank, Seat

SHAPES = st.integers(2, 5).flatmap(
    lambda parties: st.tuples(
        st.lists(st.integers(0, 3), min_size=parties, max_size=parties).filter(any),
        st.integers(1, 34),
        st.integers(0, 2**32 - 1),
    )
)


@given(st.floats(-1e6, 1e6), st.integers(0, 40))
def test_a_number_comes_back_within_half_a_unit(value: float, bits: int) -> None:
    assert abs(decode(encode(np.array([value]), bits), bits)[0] - value) <= 2.0 ** -(bits + 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0**42, -(2.0**42)])
def test_what_does_not_fit_the_range_is_refused(value: float) -> None:
    with pytest.raises(JointRefused, match="range"):
        encode(np.array([value]), 20)


@given(st.integers(1, 1 << 20), st.floats(1, 1 << 12))
def test_the_largest_sum_fits(rows: int, peak: float) -> None:
    column, row = fraction_bits(rows, peak)
    assert 2 * column + row + np.log2(rows * peak) <= 62 and column >= 6 and row >= 14


def draw(rows: int, counts: Sequence[int], seed: int) -> tuple[list[Any], Any, Any]:
    """Columns of each party, all together, and a vector: any words."""
    random = np.random.default_rng(seed)
    words = random.integers(0, 2**64, (sum(counts) + 1, rows), dtype=np.uint64)
    return np.split(words[:-1], np.cumsum(counts)[:-1]), words[:-1], words[-1]


@settings(max_examples=25, deadline=None)
@given(SHAPES)
def test_products_of_shares_are_those_of_the_words(case: tuple[list[int], int, int]) -> None:
    counts, rows, seed = case
    own, matrix, vector = draw(rows, counts, seed)
    shares = split(vector, len(counts), seed)
    extra = np.arange(2, dtype=np.uint64)

    def party(seat: Seat) -> Any:
        columns, dealt = yield from open_columns(seat, own[seat.position], counts)
        assert isinstance(columns, Columns)
        gram = columns.gram(seat, dealt, "columns")
        share = shares[seat.position]
        return [
            gram,
            (yield from sums(seat, columns, share, extra, "r")),
            (yield from weighted_gram(seat, columns, share, "w")),
        ]

    def dealer(bank: Bank) -> Any:
        masks = yield from deal_columns(bank, counts)
        yield from deal_sums(bank, masks, 2, "r")
        yield from deal_weighted_gram(bank, masks, "w")

    found, _ = together(rows, party, dealer, len(counts))
    gram, linear, weighted = (total(parts) for parts in zip(*found, strict=True))
    np.testing.assert_array_equal(gram, product(matrix, matrix))
    np.testing.assert_array_equal(linear[:-2], product(matrix, vector))
    np.testing.assert_array_equal(linear[-2:], extra * np.uint64(len(counts)))
    np.testing.assert_array_equal(weighted, product(matrix * vector, matrix))


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(1, 34), st.integers(0, 2**32 - 1))
def test_harmonics_of_a_shared_sum(parties: int, rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    etas = random.normal(0, 30, (parties, rows))
    waves = [Wave(0.5, (0.0, 0.2, -0.1), (0.5, 0.25, 0.1)), Wave(0.0, (1.0, 0.0, 0.0), (0.0,) * 3)]
    harmonics = Harmonics(40.0, (1, 3, 5))

    def party(seat: Seat) -> Any:
        opened = yield from open_eta(seat, harmonics, "0", etas[seat.position], 40)
        return opened.shares(waves)

    found, _ = together(rows, party, lambda bank: deal_waves(bank, harmonics, "0", 20), parties)
    for wave, shares in zip(waves, zip(*found, strict=True), strict=True):
        got = decode(total(shares), 40)
        np.testing.assert_allclose(got, harmonics(wave, etas.sum(0)), atol=6 * 2.0**-20)


def test_turns_are_those_of_the_library() -> None:
    angles = np.random.default_rng(0).integers(0, 2**32, 10_000, dtype=np.uint32)
    angles[:5] = [0, 2**29, 2**30, 2**31, 2**32 - 1]
    cosine, sine = turned(angles)
    at = angles * (2 * np.pi / 2.0**32)
    np.testing.assert_allclose(cosine, np.cos(at), atol=1e-12)
    np.testing.assert_allclose(sine, np.sin(at), atol=1e-12)


def test_randomness_serves_once() -> None:
    hand, deck = Hand(bytes(32), 1), Deck([bytes(32)])
    hand.mask("a", (2,))
    deck.deal("a", np.zeros(1, np.uint64))
    for again in (lambda: hand.mask("a", (2,)), lambda: deck.deal("a", np.zeros(1, np.uint64))):
        with pytest.raises(RuntimeError, match="used before"):
            again()
    assert not np.array_equal(hand.mask("b", (2,)), hand.mask("c", (2,)))
