"""Shamir's secret sharing (Shamir 1979) over the integers modulo 2^256 - 189, a prime.

A secret is the value at 0 of a polynomial of degree t - 1 whose other coefficients are uniformly
random; share i is its value at point i. Any t shares determine it; t - 1 say nothing: for every
secret there is exactly one polynomial through them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

PRIME = 2**256 - 189


def split(secret: int, coefficients: Sequence[int], points: Sequence[int]) -> list[int]:
    """The shares at the points, which must be distinct and not 0 modulo the prime.

    ``coefficients`` are those of x, x^2, ..., so there are threshold - 1 of them. Raises ValueError
    for a secret beyond the prime, or points that could not open it.

    >>> shares = split(42, coefficients=[7, 11], points=[1, 2, 3, 4])
    >>> combine({1: shares[0], 3: shares[2], 4: shares[3]})
    42
    """
    if not 0 <= secret < PRIME:
        raise ValueError("the secret must be a number below the prime")
    _check(points)
    shares = []
    for point in points:
        value = 0
        for coefficient in reversed(coefficients):  # Horner, from the highest power down
            value = (value + coefficient) * point % PRIME
        shares.append((value + secret) % PRIME)
    return shares


def lagrange_weights(points: Sequence[int], place: int = 0) -> list[int]:
    """Lagrange's weights: the polynomial's value at ``place`` (the secret, at 0) is the sum of
    weight times share modulo the prime."""
    _check(points)
    weights = []
    for own in points:
        above = below = 1
        for other in points:
            if other != own:
                above = above * (other - place) % PRIME
                below = below * (other - own) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return weights


def combine(shares: Mapping[int, int], place: int = 0) -> int:
    """The secret, or the share at another place, from exactly as many shares (point to share) as
    the threshold: fewer give another number, and nothing tells. A caller must have something to
    check it by (a signed public key, a commitment)."""
    points = list(shares)
    weights = lagrange_weights(points, place)
    return sum(w * shares[p] for w, p in zip(weights, points, strict=True)) % PRIME


def _check(points: Sequence[int]) -> None:
    if len(set(points)) != len(points) or not all(0 < point < PRIME for point in points):
        raise ValueError("the points of a sharing must be distinct and positive")
