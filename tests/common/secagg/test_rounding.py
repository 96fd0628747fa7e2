"""Rounding many clients at once is rounding each, to the bit; limbs add up as whole numbers do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.errors import ProtocolRefused
from wardround.common.secagg.encoding import Encoding
from wardround.common.secagg.ring import LIMBS, sum_limbs
from wardround.common.secagg.rounding import (
    CohortRounding,
    SeededRounding,
    quantise,
    quantise_each,
)


@pytest.mark.parametrize("size", [1, 7, 8, 62, 32769])
@pytest.mark.parametrize("bits", [16, 32])
def test_a_cohorts_sum_is_that_of_its_clients(size: int, bits: int) -> None:
    encoding = Encoding(bits, 8.0, 40, 50)
    generator = np.random.default_rng(size)
    names = [f"client-{number}" for number in range(1, 10)]
    values = (6 * generator.normal(size=(len(names), size))).astype(np.float32)
    shares = generator.integers(1, 51, len(names)) / 50
    together, apart = np.zeros(size, f"uint{bits}"), np.zeros(size, f"uint{bits}")
    rounding = CohortRounding(3, "train 2", ["of others", *names])
    clipped = quantise_each(values, shares, encoding, rounding, 5, together, first=1)
    each = [
        quantise(row, share, encoding, SeededRounding.of_client(3, "train 2", name).of(5), apart)
        for row, share, name in zip(values, shares.tolist(), names, strict=True)
    ]
    assert np.array_equal(together, apart)
    assert clipped == sum(each) and (size < 62 or clipped > 0)


def test_one_bad_number_is_refused() -> None:
    values = np.zeros((3, 4), np.float32)
    values[1, 2] = np.nan
    rounding = CohortRounding(3, "train 2", ["a", "b", "c"])
    with pytest.raises(ProtocolRefused, match="NaN"):
        quantise_each(
            values, np.ones(3), Encoding(32, 8.0, 3, 1), rounding, 0, np.zeros(4, np.uint32)
        )


def test_dithers_of_clients_arrays_and_sums_differ() -> None:
    streams = [
        SeededRounding.of_client(seed, purpose, name).of(number).next(64).tobytes()
        for seed in (1, 2)
        for purpose in ("train 1", "train 2")
        for name in ("a", "b")
        for number in (0, 1)
    ]
    assert len(set(streams)) == 16


@given(st.lists(st.lists(st.integers(0, 2**192 - 1), min_size=2, max_size=2), min_size=1))
def test_limbs_of_many_add_up_modulo_2_to_the_192(numbers: list[list[int]]) -> None:
    stack = np.array(
        [
            [[(x >> 64 * limb) & (2**64 - 1) for limb in range(LIMBS)] for x in row]
            for row in numbers
        ],
        np.uint64,
    )
    found = [
        sum(int(limb) << 64 * place for place, limb in enumerate(row)) for row in sum_limbs(stack)
    ]
    assert found == [sum(column) % 2**192 for column in zip(*numbers, strict=True)]
