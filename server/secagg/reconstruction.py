"""Reconstruction of secrets from shares, some of which may be false.

A secret's owner and its holders are positions in a group; the holder at position p has the share at
point p + 1. Which secret is the right one says a check that the caller gives (a signed public key
or a commitment), so up to threshold - 1 liars change nothing but the time it takes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from wardround.common.errors import RoundFailed
from wardround.common.secagg.keys import to_bytes
from wardround.common.secagg.shamir import PRIME, combine, lagrange_weights

_MOST_ATTEMPTS = 500
"""Sets of holders tried to open one secret before the round is given up: some of them lie."""

Check = Callable[[int, bytes], bool]
"""Whether this is the secret of the member at a position."""


class Reconstruction:
    """Shares as they come, and the secrets they open.

    Attributes
    ----------
    shares : owner's position -> point -> share
    liars : names of holders whose share is not on the right polynomial
    """

    def __init__(self, names: Sequence[str], threshold: int) -> None:
        self.shares: dict[int, dict[int, int]] = {}
        self.liars: set[str] = set()
        self._names, self._threshold = names, threshold
        self._weights: dict[tuple[int, ...], list[int]] = {}

    def add(self, owner: int, holder: int, share: int) -> None:
        """Keep a holder's share of the owner's secret."""
        self.shares.setdefault(owner, {})[holder + 1] = share

    def enough(self, owner: int) -> bool:
        """Whether the owner's secret has its threshold of shares."""
        return len(self.shares.get(owner, {})) >= self._threshold

    def rebuild(self, owner: int, is_right: Check) -> bytes:
        """The owner's secret, 32 big-endian bytes: from the first t shares whose secret passes the
        check, else from other t of them. Raises RoundFailed if shares are missing or too many are
        false."""
        shares, t = self.shares.get(owner, {}), self._threshold
        name = self._names[owner]
        if len(shares) < t:
            raise too_few_shares(len(shares), t, name)
        for points in itertools.islice(_choices(sorted(shares), t), _MOST_ATTEMPTS):
            # the same holders open many secrets, and weights depend on the holders alone
            if points not in self._weights:
                self._weights[points] = lagrange_weights(points)
            weighted = zip(self._weights[points], points, strict=True)
            secret = to_bytes(sum(weight * shares[p] for weight, p in weighted) % PRIME)
            if is_right(owner, secret):
                self._note_liars(shares, points)
                return secret
        raise RoundFailed(f"the shares that should open the masks of {name} are false")

    def _note_liars(self, shares: dict[int, int], points: tuple[int, ...]) -> None:
        """Whose share isn't on the polynomial through the right ones."""
        if points == tuple(sorted(shares))[: len(points)]:
            return  # the first choice was right: no reason to look at the others
        right = {point: shares[point] for point in points}
        for point in shares.keys() - right.keys():
            if combine(right, point) != shares[point]:
                self.liars.add(self._names[point - 1])


def too_few_shares(count: int, threshold: int, name: str) -> RoundFailed:
    """The error of a secret that so few shares came for."""
    return RoundFailed(f"{count} of {threshold} shares came that open the masks of {name}")


def _choices(points: list[int], count: int) -> Iterator[tuple[int, ...]]:
    """Sets of ``count`` points: without any one, then without any two, ... of all of them, so that
    few liars are found soon."""
    for missing in range(len(points) - count + 1):
        for without in itertools.combinations(points, missing):
            yield tuple(p for p in points if p not in without)[:count]
