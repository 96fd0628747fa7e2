"""Sharing of secrets: t shares give the secret, t - 1 fit every secret equally well."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.secagg.shamir import PRIME, combine, lagrange_weights, split

modest = settings(deadline=None, max_examples=60)
numbers = st.one_of(st.integers(0, 5), st.integers(PRIME - 5, PRIME - 1), st.integers(0, PRIME - 1))


@st.composite
def sharings(draw: st.DrawFn) -> tuple[int, list[int], list[int]]:
    """A secret, threshold - 1 coefficients, and at least threshold points."""
    threshold = draw(st.integers(1, 8))
    coefficients = draw(st.lists(numbers, min_size=threshold - 1, max_size=threshold - 1))
    points = st.one_of(st.integers(1, 20), st.integers(1, PRIME - 1))
    chosen = draw(st.lists(points, min_size=threshold, max_size=threshold + 4, unique=True))
    return draw(numbers), coefficients, chosen


def value_at(coefficients: list[int], point: int) -> int:
    """A polynomial as its definition says, lowest coefficient first."""
    return sum(c * pow(point, power, PRIME) for power, c in enumerate(coefficients)) % PRIME


def interpolated(values: dict[int, int]) -> list[int]:
    """The coefficients of the polynomial through these points, lowest first (Newton's form)."""
    points = list(values)
    divided = [values[p] for p in points]
    for level in range(1, len(points)):
        for i in range(len(points) - 1, level - 1, -1):
            run = pow(points[i] - points[i - level], -1, PRIME)
            divided[i] = (divided[i] - divided[i - 1]) * run % PRIME
    result = [0] * len(points)
    for point, leading in zip(reversed(points), reversed(divided), strict=True):
        shifted = [0, *result[:-1]]  # result <- result * (x - point) + leading
        result = [(s - point * c) % PRIME for s, c in zip(shifted, result, strict=True)]
        result[0] = (result[0] + leading) % PRIME
    return result


def test_a_line_done_by_hand() -> None:
    """7 + 5x at 1, 2, 3; the weights of points 1 and 3 at zero are 3/2 and -1/2."""
    assert split(7, [5], [1, 2, 3]) == [12, 17, 22]
    half = (PRIME + 1) // 2
    assert lagrange_weights([1, 3]) == [3 * half % PRIME, PRIME - half]
    assert combine({1: 12, 2: 17}) == combine({3: 22, 1: 12}) == 7


def test_a_parabola_done_by_hand() -> None:
    """1 + 2x + 3x^2 at 1, 2, 3, 4; Lagrange's weights at zero of 1, 2, 3 are 3, -3, 1."""
    assert split(1, [2, 3], [1, 2, 3, 4]) == [6, 17, 34, 57]
    assert lagrange_weights([1, 2, 3]) == [3, PRIME - 3, 1]
    assert combine({2: 17, 3: 34, 4: 57}) == 1
    assert combine({1: 6, 2: 17, 3: 34}, 4) == 57


def test_the_modulus_is_a_prime() -> None:
    """Miller and Rabin with the first 40 primes as bases: a composite passes with chance 4^-40."""
    odd, twos = PRIME - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    bases = [n for n in range(2, 174) if all(n % d for d in range(2, math.isqrt(n) + 1))]
    assert len(bases) == 40
    for base in bases:
        powers = [pow(base, odd << i, PRIME) for i in range(twos)]
        assert powers[0] == 1 or PRIME - 1 in powers
    assert PRIME.bit_length() == 256


@modest
@given(sharings())
def test_shares_are_values_of_the_polynomial(sharing) -> None:
    secret, coefficients, points = sharing
    expected = [value_at([secret, *coefficients], p) for p in points]
    assert split(secret, coefficients, points) == expected


@modest
@given(sharings(), st.randoms(use_true_random=False))
def test_any_threshold_of_the_shares_gives_the_secret(sharing, random) -> None:
    secret, coefficients, points = sharing
    shares = list(zip(points, split(secret, coefficients, points), strict=True))
    for _ in range(3):
        assert combine(dict(random.sample(shares, len(coefficients) + 1))) == secret


@modest
@given(sharings(), numbers)
def test_one_share_less_fits_every_secret(sharing, candidate) -> None:
    """For any candidate there is a polynomial of the same degree through the t - 1 shares, and
    only one: since coefficients are uniform, all secrets are equally likely."""
    secret, coefficients, points = sharing
    known = points[: len(coefficients)]
    shares = dict(zip(known, split(secret, coefficients, known), strict=True))
    polynomial = interpolated({0: candidate} | shares)
    assert len(polynomial) == len(coefficients) + 1
    assert polynomial[0] == candidate  # the interpolation goes through (0, candidate)
    assert split(candidate, polynomial[1:], known) == list(shares.values())
    if candidate == secret:
        assert polynomial[1:] == coefficients


@modest
@given(sharings(), st.integers(0, 20), st.integers(1, PRIME - 1))
def test_one_wrong_share_gives_another_secret(sharing, which, change) -> None:
    secret, coefficients, points = sharing
    points = points[: len(coefficients) + 1]
    shares = split(secret, coefficients, points)
    shares[which % len(points)] = (shares[which % len(points)] + change) % PRIME
    assert combine(dict(zip(points, shares, strict=True))) != secret


@modest
@given(st.lists(st.integers(1, PRIME - 1), min_size=1, max_size=6, unique=True))
def test_the_lagrange_weights_are_exact_for_every_power(points) -> None:
    """Their sum over p^k is 0^k, for each k below their number: that defines them."""
    weights = lagrange_weights(points)
    for power in range(len(points)):
        total = sum(w * pow(p, power, PRIME) for w, p in zip(weights, points, strict=True))
        assert total % PRIME == (1 if power == 0 else 0)


@pytest.mark.parametrize("points", [[1, 1], [1, 2, 1], [0], [1, 0], [-1], [PRIME], [PRIME + 1]])
def test_repeated_zero_and_unreduced_points_are_refused(points) -> None:
    for ask in (
        lambda: split(5, [1], points),
        lambda: lagrange_weights(points),
    ):
        with pytest.raises(ValueError, match="distinct and positive"):
            ask()


@pytest.mark.parametrize("points", [[0, 1], [PRIME, 2], [-3, 1]])
def test_shares_at_impossible_points_are_not_combined(points) -> None:
    with pytest.raises(ValueError, match="distinct and positive"):
        combine(dict.fromkeys(points, 7))


@pytest.mark.parametrize("secret", [-1, PRIME, 2**256])
def test_a_secret_out_of_range_is_refused(secret) -> None:
    with pytest.raises(ValueError, match="below the prime"):
        split(secret, [1], [1, 2])
