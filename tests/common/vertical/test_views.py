"""What each party and the dealer are sent: uniform words, beside what the plan says is opened."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from tests.common.vertical.consortium import Consortium
from tests.common.vertical.table import DEALER, split, together
from wardround.common.vertical.cells import deal_few, find_few
from wardround.common.vertical.room import Bank, Seat
from wardround.common.vertical.told import TOLD

ROWS = 512


def uneven(words: bytes) -> float:
    """Chi-squared of bytes against uniform ones, in deviations from what it is expected to be."""
    counts = np.bincount(np.frombuffer(words, np.uint8), minlength=256)
    expected = counts.sum() / 256
    return float((((counts - expected) ** 2 / expected).sum() - 255) / np.sqrt(2 * 255))


def group(seed: int, model: str = "logistic") -> Consortium:
    """Values that are anything but uniform: few bits, many of them equal."""
    random = np.random.default_rng(seed)
    sex = (random.random(ROWS) < 0.5).astype(float)
    age = np.round(random.normal(60, 3, ROWS))
    dose = np.round(random.normal(10, 2, ROWS))
    y = (random.random(ROWS) < 1 / (1 + np.exp(-(sex - 0.5)))).astype(float)
    columns = {"a": {"sex": sex, "age": age}, "b": {"dose": dose}, "c": {}}
    options: dict[str, Any] = {"padded": 1, "tolerance": 1e-3, "model": model}
    if model == "cox":
        y, options["intervals"] = np.stack([np.ceil(8 * random.exponential(2 - y)), y], 1), 3
    return Consortium(columns, ("c", y), options=options)


def differences(sent: list[dict[tuple[str, str], bytes]]) -> list[tuple[Any, bytes]]:
    """Of every two equally long letters of one party to one other, the difference of their words:
    of two values under one mask it would be that of the values."""
    found = []
    letters = defaultdict(list)
    for step, one in enumerate(sent):
        for (sender, to), text in one.items():
            if DEALER not in (sender, to) and len(text) >= 4 * ROWS:
                letters[sender, to, len(text)].append((step, text))
    for (sender, to, size), texts in letters.items():
        kind = np.dtype("<u4" if size == 4 * ROWS else "<u8")
        for (one, first), (two, second) in combinations(texts, 2):
            rest = np.frombuffer(first, kind) - np.frombuffer(second, kind)
            found.append(((sender, to, one, two), rest.tobytes()))
    return found


@pytest.mark.parametrize("model", ["logistic", "poisson", "cox"])
def test_letters_of_rows_are_uniform_and_no_mask_serves_twice(model: str) -> None:
    _, sent = group(0, model).run()
    seen, long = set(), 0
    for step, letters in enumerate(sent):
        for (sender, to), text in letters.items():
            if sender == DEALER or len(text) < 4 * ROWS:
                continue
            long += 1
            assert abs(uneven(text)) < 5, (step, sender, to)
            seen.add(text)
    assert long > 30 and len(seen) * 2 == long, "the same to both others, and never twice"
    between = differences(sent)
    assert len(between) > 30
    for place, rest in between:
        assert abs(uneven(rest)) < 5, place


def test_words_that_are_not_masked_would_be_seen() -> None:
    ages = np.round(np.random.default_rng(0).normal(60, 3, ROWS) * 2**14).astype(np.uint64)
    assert uneven(ages.tobytes()) > 100


def test_shares_of_opened_sums_are_other_words_each_time_and_the_sums_are_not() -> None:
    """Two runs differ in the dealer's seeds alone (another session): shares have nothing in common,
    what is opened is the same to rounding."""
    first, second = group(0), group(0)
    told, sent = first.run()
    second.session = b"t" * 32
    again, resent = second.run()
    found = [
        [one["coefficient"] for one in json.loads(turns["a"].told[TOLD])["coefficients"]]
        for turns in (told, again)
    ]
    np.testing.assert_allclose(*found, atol=0.02)
    assert len(sent) == len(resent)
    for letters, others in zip(sent[1:-2], resent[1:-2], strict=True):
        for key, text in letters.items():
            if text and DEALER not in key:
                kind = "<u4" if len(text) == 4 * ROWS else "<u8"
                mine, other = (np.frombuffer(one, kind) for one in (text, others[key]))
                assert (mine != other).mean() > 0.9


def test_the_dealer_is_told_sizes_and_when_the_search_ends() -> None:
    """Its letters are the same whatever the values are, of searches of the same length."""
    letters = []
    for seed in (0, 1):
        _, sent = group(seed).run()
        letters.append([(n, key, t) for n, one in enumerate(sent) for key, t in one.items()])
    to_dealer = [[one for one in all_ if one[1][1] == DEALER] for all_ in letters]
    assert [len(text) for *_, text in to_dealer[0]] == [32 + 16] * 3 + [8] * 3 + [1] * (
        len(to_dealer[0]) - 6
    )
    steps = min(map(len, to_dealer))
    assert to_dealer[0][: steps - 3] == to_dealer[1][: steps - 3]


@pytest.mark.parametrize("parties", [2, 3, 5])
def test_counts_of_few_are_found_and_nothing_else_of_them(parties: int) -> None:
    unit, smallest = 4**14, 5
    counts = np.array([0, 1, 4, 5, 6, 1000, 1 << 20] * 20, np.uint64)
    shares = split(counts * np.uint64(unit), parties)

    def party(seat: Seat) -> Any:
        return (yield from find_few(seat, shares[seat.position], unit, smallest, "cells"))

    def dealer(bank: Bank) -> Any:
        return (yield from deal_few(bank, b"r" * 32, len(counts), smallest, "cells"))

    found, sent = together(1, party, dealer, parties)
    for few in found:
        np.testing.assert_array_equal(few, counts < smallest)
    last = [np.frombuffer(text, "<u8") for key, text in sent[1].items() if key[1] == "east"]
    assert len(last) == parties - 1
    for words in last:
        assert len(set(words.tolist())) == len(words), "equal counts look unlike"
