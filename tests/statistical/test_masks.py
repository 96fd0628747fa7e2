"""Masks hide: masked vectors look uniform, t - 1 shares say nothing, roundings are independent.

Everything is drawn anew each time. With a perfect generator one run in 1 / ``FALSE_ALARM`` of this
file fails: each of its ``COMPARISONS`` is with the chi-square or normal quantile at ``EACH``.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from wardround.common.secagg.encoding import Encoding
from wardround.common.secagg.keys import KeyChain, derive, to_bytes, to_number
from wardround.common.secagg.ring import MaskSeeds, RingVector, add_limbs, word_type
from wardround.common.secagg.rounding import quantise
from wardround.common.secagg.shamir import PRIME, combine
from wardround.common.trust.identity import KEY_BYTES

FALSE_ALARM, COMPARISONS = 1e-6, 100  # 16 + 2 + 24 + 6 + 52, in the order of the tests
EACH = FALSE_ALARM / COMPARISONS
Counts = NDArray[np.int64]


def limit(degrees: int) -> float:
    """What a chi-square statistic exceeds with probability ``EACH``."""
    return float(chi2.isf(EACH, degrees))


def from_uniform(counts: Counts) -> float:
    """Pearson's statistic against equal frequencies; len(counts) - 1 degrees of freedom."""
    expected = counts.sum() / len(counts)
    assert expected >= 5  # the rule of thumb for the approximation by chi-square
    return float(((counts - expected) ** 2).sum() / expected)


def from_each_other(one: Counts, other: Counts) -> float:
    """The two-sample statistic for samples of one size; len(one) - 1 degrees of freedom."""
    assert one.sum() == other.sum() and (one + other).min() >= 5
    return float(((one - other) ** 2 / (one + other)).sum())


# --- a masked vector is uniform -------------------------------------------------------------------
def masked(bits: int, data: int) -> bytes:
    """A vector of one number everywhere, as a hospital with one neighbour sends it."""
    vector = RingVector(bits, 1 << 19, 1 << 12)
    vector.update += word_type(bits).type(data)
    add_limbs(vector.exact, np.full(vector.exact.shape, data, np.uint64))
    own, pair = (MaskSeeds(secrets.token_bytes(32), secrets.token_bytes(32)) for _ in range(2))
    vector.add_masks([(own, 1), (pair, -1)])
    return bytes(vector.data())


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("data", [0, 12_345])
def test_a_masked_vector_is_uniform_in_bytes_and_in_words(bits, data) -> None:
    sent = masked(bits, data)
    for kind, values in ((np.uint8, 256), (np.uint16, 65_536)):
        counts = np.bincount(np.frombuffer(sent, kind), minlength=values)
        assert from_uniform(counts) < limit(values - 1)
        # Nor is it evener than chance, as a counter or a short cycle would be.
        assert from_uniform(counts) > chi2.ppf(EACH, values - 1)


@pytest.mark.parametrize("bits", [16, 32])
def test_neighbouring_words_of_a_masked_vector_are_independent(bits) -> None:
    """Pairs of top bytes of successive words, in a table of 256 x 256."""
    words = np.frombuffer(masked(bits, 0), word_type(bits), 1 << 19)
    top = (words >> (bits - 8)).astype(np.int64)
    pairs = top[0::2] * 256 + top[1::2]
    counts = np.bincount(pairs, minlength=65_536).reshape(256, 256)
    folded = counts.reshape(128, 2, 128, 2).sum((1, 3))  # 16 expected in each cell
    assert from_uniform(folded.ravel()) < limit(folded.size - 1)


def test_the_exact_section_is_uniform_in_every_byte_of_its_numbers() -> None:
    """The carries of 192-bit additions leave no trace, in none of the 24 bytes."""
    vector = RingVector(16, 0, 1 << 15)
    vector.exact[:, 0] = 2**64 - 1  # an addition carries almost always
    vector.add_masks([(MaskSeeds(bytes(32), secrets.token_bytes(32)), 1)])
    columns = np.frombuffer(bytes(vector.data()), np.uint8).reshape(-1, 24)
    for column in columns.T:
        assert from_uniform(np.bincount(column, minlength=256)) < limit(255)


def test_a_slight_bias_is_found() -> None:
    """The tests above can fail: with one word in 64 not masked they do."""
    words = np.frombuffer(masked(16, 0), np.uint16, 1 << 19).copy()
    words[::64] = 7
    for kind, values in ((np.uint8, 256), (np.uint16, 65_536)):
        counts = np.bincount(words.view(kind), minlength=values)
        assert from_uniform(counts) > limit(values - 1)


# --- t - 1 shares say nothing ---------------------------------------------------------------------
THRESHOLD, SAMPLES = 3, 6000


def shares_of(round_key: bytes, self_mask: bytes, points: list[int]) -> list[bytes]:
    """Two given secrets, shared with the coefficients of a fresh chain."""
    own = replace(
        KeyChain(secrets.token_bytes(KEY_BYTES), 0).secrets(),
        round_key=round_key,
        self_mask=self_mask,
    )
    return own.shares(THRESHOLD, points)


def test_one_share_less_than_the_threshold_does_not_tell_two_secrets_apart() -> None:
    """The joint distribution of both shares' top four bits, for the secrets 0 and p - 1, and for
    both sharings of a pair: the same, and uniform."""
    low, high = bytes(KEY_BYTES), to_bytes(PRIME - 1)
    counts = np.zeros((2, 2, 256), np.int64)  # secret, round key or self mask, cell
    for _ in range(SAMPLES):
        for secret, pair in enumerate([(low, low), (high, high)]):
            one, other = shares_of(*pair, [1, 2])
            for half in (0, 1):
                place = half * KEY_BYTES
                counts[secret, half, (one[place] >> 4) * 16 + (other[place] >> 4)] += 1
    for half in (0, 1):
        assert from_each_other(*counts[:, half]) < limit(255)
    for cells in counts.reshape(4, 256):
        assert from_uniform(cells) < limit(255)


def test_one_share_more_tells_everything() -> None:
    """The same shares and one more give each secret exactly, every time."""
    for _ in range(100):
        round_key, self_mask = (to_bytes(secrets.randbelow(PRIME)) for _ in range(2))
        shares = shares_of(round_key, self_mask, [1, 2, 3])
        for place, secret in ((0, round_key), (KEY_BYTES, self_mask)):
            numbers = [to_number(pair[place : place + KEY_BYTES]) for pair in shares]
            assert to_bytes(combine(dict(zip([1, 2, 3], numbers, strict=True)))) == secret


def test_shares_of_a_sharing_with_small_coefficients_are_found_out() -> None:
    """The test above can fail: with coefficients of 240 bits the shares lie next to the secret."""
    counts = np.zeros((2, 16), np.int64)
    for _ in range(500):
        factors = [secrets.randbelow(2**240) for _ in range(THRESHOLD - 1)]
        for which, secret in enumerate([2**200, 2**255]):
            share = (secret + factors[0] + factors[1]) % PRIME
            counts[which, share >> 252] += 1
    used = counts.sum(0) > 0
    assert from_each_other(*counts[:, used]) > limit(15)


# --- stochastic rounding --------------------------------------------------------------------------
def roundings(key: bytes, size: int) -> NDArray[np.float64]:
    """Whether each coordinate of a half was rounded up: +1, or down: -1."""
    encoding = Encoding(16, 32766.0, 1, 1)  # one level is 1
    words = np.zeros(size, np.uint16)
    quantise(np.full(size, 0.5, np.float32), 1.0, encoding, key, words)
    assert set(words.tolist()) <= {0, 1}
    return 2.0 * words - 1


def test_roundings_of_distinct_parts_are_uncorrelated() -> None:
    """Arrays of a vector have keys derived from one, and pieces of a long array go on in the key
    stream. Sums of products of N independent signs have mean 0 and variance N."""
    key, size = secrets.token_bytes(16), 1 << 15
    parts = [
        roundings(derive(key, "rounding", bytes([number, 0]))[:16], 2 * size).reshape(2, size)
        for number in range(4)
    ]
    pieces = np.concatenate(parts)  # eight: four arrays of two pieces
    bound = norm.isf(EACH / 2) * math.sqrt(size)
    products = pieces @ pieces.T
    assert products.diagonal().tolist() == [size] * 8
    assert np.abs(products - np.diag(products.diagonal())).max() < bound
    assert np.abs(pieces.sum(1)).max() < bound
    # Nor with its own neighbour, nor with the next client's.
    assert np.abs((pieces[:, 1:] * pieces[:, :-1]).sum(1)).max() < bound
    other = roundings(secrets.token_bytes(16), size)
    assert np.abs(pieces @ other).max() < bound


def test_roundings_by_the_same_key_are_the_same() -> None:
    """The test above can fail: a key used for two arrays rounds them alike."""
    key, size = secrets.token_bytes(16), 1 << 12
    one, other = roundings(key, size), roundings(key, size)
    assert one @ other == size > norm.isf(EACH / 2) * math.sqrt(size)
