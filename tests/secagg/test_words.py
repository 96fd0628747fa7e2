"""Words: whole numbers of named sums in the narrowest ring that holds their total."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.secagg.driver import Federation, Numbers, start, task_of
from wardround.client.secagg.masking import check_exactly, check_words
from wardround.common.errors import ProtocolRefused
from wardround.common.procedures.words import BITS, Words, fitting_bits
from wardround.common.protocol.masked import MaskedTask
from wardround.common.secagg.content import encode_sums_layout, sums_layout
from wardround.common.secagg.encoding import WORDS, Encoding, VectorLayout, whole_numbers
from wardround.server.gathering.exact import ExactTotal
from wardround.server.secagg.decoding import named_sums

modest = settings(deadline=None, max_examples=15)
SHAPES = {"cells": (2, 3), "mean": (1,), "rows": (4,)}


def layout(bits: int) -> VectorLayout:
    return sums_layout(encode_sums_layout(SHAPES, Words(bits, frozenset({"cells", "rows"}))))


@modest
@given(st.sampled_from(BITS), st.data())
def test_a_masked_sum_of_words_is_the_sum_whoever_drops_out(bits: int, data: st.DataObject) -> None:
    federation = Federation(5)
    group = federation.ready()
    absent = data.draw(st.sets(st.sampled_from(federation.names), max_size=1))
    # one hospital may hold nearly all of the total: no share of the ring is anybody's own
    edge = (2 ** (min(bits, 54) - 1) - 1) // 4
    signed = st.integers(-edge, edge)
    values = {
        name: np.array(data.draw(st.lists(signed, min_size=10, max_size=10)), np.float64)
        for name in federation.names[:4]
    } | {federation.names[4]: np.zeros(10)}
    mean = {name: np.array([number / 7]) for number, name in enumerate(federation.names)}
    numbers = {
        name: Numbers(
            {"cells": one[:6].reshape(2, 3), "rows": one[6:]}, {"mean": mean[name]}, 1, bytes(16)
        )
        for name, one in values.items()
    }
    made = layout(bits)
    _, total = federation.aggregate(
        group, numbers, made, absent, bits=bits, fine=WORDS, largest_weight=1
    )
    there = sorted(set(values) - absent)
    assert total.survivors == there
    found = named_sums(made, total)
    whole = np.sum([values[name].astype(np.int64) for name in there], axis=0)
    assert found["cells"].dtype == found["rows"].dtype == np.float64
    assert found["cells"].tolist() == whole[:6].reshape(2, 3).tolist()
    assert found["rows"].tolist() == whole[6:].tolist()
    # what the plain gatherer adds is the same, to the bit
    plain = ExactTotal(5)
    for name in there:
        plain.add({"mean": mean[name], "cells": numbers[name].update["cells"]})
    found, exact = named_sums(made, total), plain.total()
    assert {name: found[name].tobytes() for name in exact} == {
        name: value.tobytes() for name, value in exact.items()
    }


@pytest.mark.parametrize(("total", "bits"), [(0, 8), (127, 8), (128, 16), (2**31, 64)])
def test_the_narrowest_words_hold_the_total(total: int, bits: int) -> None:
    assert fitting_bits(total) == bits and total < 2 ** (bits - 1)
    with pytest.raises(ValueError, match="no words hold"):
        fitting_bits(2**53)


@pytest.mark.parametrize("value", [1.5, float("nan"), float("inf"), 128.0, -129.0, 2.0**60])
def test_what_is_no_word_is_refused_without_saying_which(value: float) -> None:
    with pytest.raises(ProtocolRefused) as refused:
        whole_numbers(np.array([1.0, value]), 127)
    assert str(refused.value) == "a number to be summed is not whole or beyond 127"
    big = np.array([2**62, -(2**62)])
    assert whole_numbers(big, 2**63 - 1).tolist() == big.tolist()
    with pytest.raises(ProtocolRefused, match="is beyond 5$"):
        whole_numbers(big, 5)


def test_a_failure_hides_words_too() -> None:
    """Random words: with zeros, those of the one that had rows would be opened."""
    federation = Federation(3)
    group = federation.ready()
    made = layout(16)
    pending = start(
        federation["h00"], task_of(group, bits=16, fine=WORDS, largest_weight=1).to_bytes(), made
    )
    numbers = {"cells": np.full((2, 3), 0.5), "rows": np.zeros(4)}
    with pytest.raises(ProtocolRefused, match="not whole"):
        pending.finish(numbers, {"mean": np.zeros(1)})
    _, vector = pending.fail()
    assert len(vector) == 10 * 2 + 5 * 24


def test_words_have_rings_of_their_own_and_no_others() -> None:
    for bits in BITS:
        assert Encoding(bits, 1.0, 1000, 1, words=True).levels == 2 ** (bits - 1) - 1
    with pytest.raises(ProtocolRefused, match="out of range"):
        Encoding(64, 1.0, 3, 1)
    assert Encoding(8, 1.0, 3, 1).levels == 42  # of updates, with [compression]
    for bits in (8, 64):  # of whole numbers with noise
        with pytest.raises(ProtocolRefused, match="out of range"):
            Encoding(bits, 1.0, 3, 1, fine=True)
    ways = {Encoding(32, 1.0, 3, 1, *how).to_bytes() for how in [(0, 0), (1, 0), (0, 1)]}
    assert len(ways) == 3  # masks of one don't cancel with another's


def test_a_server_chooses_no_words() -> None:
    """In a narrower ring a sum would be opened modulo it; an exact one loses its parts."""
    own = Words(16, frozenset({"cells", "rows", "of a column that nobody has"}))
    check_words(layout(16), own)
    check_exactly(MaskedTask(b"", encode_sums_layout(SHAPES, own)), SHAPES)
    check_words(sums_layout(encode_sums_layout(SHAPES)), None)
    for bits, names in [(8, "cells rows"), (16, "cells"), (16, "cells rows mean"), (32, "rows")]:
        asked = sums_layout(encode_sums_layout(SHAPES, Words(bits, frozenset(names.split()))))
        with pytest.raises(ProtocolRefused, match="other words than this hospital works out"):
            check_words(asked, own)
        with pytest.raises(ProtocolRefused, match=f"in {bits} bits, not 0 in 0"):
            check_words(asked, None)
    with pytest.raises(ProtocolRefused, match="0 in 0 bits, not 2 in 16"):
        check_words(sums_layout(encode_sums_layout(SHAPES)), own)


def test_sections_are_in_what_masks_are_bound_to() -> None:
    for name in ("count", "failed"):
        with pytest.raises(ProtocolRefused, match=f"'{name}' can't be the name of a sum"):
            sums_layout(encode_sums_layout({name: (1,)}, Words(8, frozenset({name}))))
    exact = sums_layout(encode_sums_layout(SHAPES))
    narrow = {one.digest() for one in (layout(16), layout(32), exact)}
    assert len(narrow) == 3
