"""Sums of ciphertexts without a key: modulo their primes, of nothing that is not below them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.errors import ProtocolRefused
from wardround.common.secagg import ckks
from wardround.common.secagg.ckks import FLARE, MOST_VECTORS, SMALL, CipherSum, Parameters

modest = settings(deadline=None, max_examples=40)
TINY = Parameters(4, (0x10001, 0x3FFFFFFFCC001, 97), scale_bits=4)
"""A ring whose residues take 3 and 7 bytes: two words in a ciphertext of 80 bytes."""
residues = st.lists(st.integers(0, 2**63), min_size=16, max_size=16).map(
    lambda numbers: np.array(
        [n % TINY.primes[i // 4 % 2] for i, n in enumerate(numbers)], np.uint64
    ).reshape(2, 2, 4)
)


def is_prime(number: int) -> bool:
    """Miller and Rabin, with bases that decide every number below 2^64 (Sorenson and Webster)."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(
        any(pow(base, odd << k, number) == number - 1 for k in range(twos))
        or pow(base, odd, number) == 1
        for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    )


@pytest.mark.parametrize(
    ("parameters", "bits", "most"), [(FLARE, [60, 40, 40], 218), (SMALL, [50, 50], 109)]
)
def test_the_rings_are_those_of_the_security_table(
    parameters: Parameters, bits: list[int], most: int
) -> None:
    """HomomorphicEncryption.org (2018), table 1: the product's bits at 128 bits of security."""
    assert [prime.bit_length() for prime in parameters.primes] == bits
    assert sum(bits) <= most
    assert all(is_prime(one) and one % (2 * parameters.degree) == 1 for one in parameters.primes)


@modest
@given(residues)
def test_what_is_packed_is_unpacked(numbers: np.ndarray) -> None:
    data = ckks.pack(numbers, TINY)
    assert len(data) == TINY.ciphertext_bytes == 80
    assert np.array_equal(ckks.unpack(data, TINY), numbers)
    first = [int(n).to_bytes(3, "little") for n in numbers[0, 0]]
    assert data[:12] == b"".join(first)


@modest
@given(st.lists(residues, min_size=1, max_size=5))
def test_a_sum_is_that_of_residues_modulo_their_primes(parts: list[np.ndarray]) -> None:
    total = CipherSum(TINY, 2)
    for part in parts:
        total.add_bytes(ckks.pack(part, TINY))
    expected = sum(part.astype(object) for part in parts)
    expected[:, 0] %= TINY.primes[0]
    expected[:, 1] %= TINY.primes[1]
    assert np.array_equal(ckks.unpack(total.data(), TINY), expected.astype(np.uint64))


@modest
@given(st.data())
def test_whatever_bytes_come_the_sum_holds_numbers_below_their_primes(data: st.DataObject) -> None:
    """Five words, three ciphertexts: what is refused, at whichever, leaves the sum as it was."""
    total = CipherSum(TINY, 5)
    good = b"".join(ckks.pack(data.draw(residues), TINY) for _ in range(3))
    total.add_bytes(good)
    before = bytes(total.data())
    noise = data.draw(st.binary(min_size=1, max_size=24))
    place = data.draw(st.integers(0, len(good) - 1))
    hostile = (good[:place] + noise + good[place + len(noise) :])[
        : data.draw(st.integers(200, 250))
    ]
    try:
        total.add_bytes(hostile)
    except ProtocolRefused:
        assert bytes(total.data()) == before
    for number in range(3):
        ckks.unpack(total.data()[80 * number : 80 * (number + 1)], TINY)


def test_a_number_at_its_prime_a_wrong_length_and_one_party_too_many_are_refused() -> None:
    total = CipherSum(TINY, 4)
    zero = np.zeros((2, 2, 4), np.uint64)
    high = zero.copy()
    high[1, 1, 3] = TINY.primes[1]
    with pytest.raises(ProtocolRefused, match="isn't below its prime"):
        total.add_bytes(ckks.pack(zero, TINY) + ckks.pack(high, TINY))
    for wrong in (b"", bytes(159), bytes(161)):
        with pytest.raises(ProtocolRefused, match=f"has {len(wrong)} bytes, not 160"):
            total.add_bytes(wrong)
    for _ in range(MOST_VECTORS):
        total.add_bytes(bytes(160))
    with pytest.raises(ProtocolRefused, match="64 parties at most"):
        total.add_bytes(bytes(160))
