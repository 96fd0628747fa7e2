"""Who masks with whom, and which thresholds are safe.

Up to ``COMPLETE`` clients everyone is everyone's neighbour. Above, each has k neighbours on a ring
in an order that a hash decides (Bell et al. 2020, "Secure single-server aggregation with
(poly)logarithmic overhead"), and its secrets are shared among its k neighbours and itself.

What holds, against a server that lies and ``colluding`` hospitals on any places of the ring: it
opens one sum in an aggregation, that of all honest hospitals but few (``safety.py`` has the proof).
It rests on what every hospital checks before it gives shares: it answers one survivor set, and one
with enough survivors everywhere (``check_spread``).

In the complete graph no such check is needed beyond the number of survivors: two sets about one
client need t answers each, c clients answer both and n - c once, so with 2t > n + c no client has
both secrets open; and all that have their self mask open are neighbours, so one component.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import ProtocolRefused
from wardround.common.secagg.safety import hides, honest_in_sum, opens_one_sum, smallest_graph
from wardround.common.trust.identity import encode_parts

COMPLETE = 64
"""Largest number of clients that always have a complete graph."""


Ring = Sequence[int] | NDArray[np.uint16]
_PLACE = np.dtype(">u2")


@dataclass(frozen=True)
class Thresholds:
    """Parameters of a group of n clients.

    degree : neighbours of each client, n - 1 in a complete graph
    threshold : t, shares that open a secret, of the degree + 1 that exist
    survivors : fewest clients whose sum may be opened
    window : fewest survivors of degree / 2 places in a row on the ring; 0 in a complete graph
    """

    clients: int
    degree: int
    threshold: int
    survivors: int
    window: int = 0

    @property
    def complete(self) -> bool:
        """Whether everyone is everyone's neighbour."""
        return self.degree == self.clients - 1

    @property
    def _gone(self) -> int:
        return self.degree // 2 - self.window

    def check(self, colluding: int, min_cohort: int) -> None:
        """Raise ProtocolRefused unless the parameters are safe with ``colluding`` clients and for
        one that insists on ``min_cohort`` in every sum.

        Both sides call it: the client with its own policy's numbers.
        """
        self._check_graph()
        n, holders, t = self.clients, self.degree + 1, self.threshold
        if t > holders or not 2 * t > holders + colluding:
            raise ProtocolRefused(
                f"threshold {t} of {holders} is not above ({holders} + {colluding}) / 2: a server "
                "that shows hospitals different survivor sets could open one hospital's update"
            )
        if self.survivors > n or self.survivors < (t if self.complete else n // 2 + 1):
            raise ProtocolRefused(f"a sum of {self.survivors} of {n} hospitals is not allowed")
        if not self.complete:
            self._check_ring(colluding)
        least = min(min_cohort, self.survivors - colluding)
        if self.honest(colluding) < least:
            raise ProtocolRefused(
                f"a server that shows {n} hospitals different survivor sets of {self.survivors}, "
                f"with {colluding} that collude, could open a sum of {self.honest(colluding)}, not "
                f"{least}: secure_aggregation.threshold and colluding must be such that it can't"
            )

    def _check_graph(self) -> None:
        n, degree = self.clients, self.degree
        ring = n > COMPLETE and degree % 2 == 0 and 0 <= self._gone <= degree // 2
        if n < 2 or not 1 <= degree <= n - 1 or not (self.window == 0 if self.complete else ring):
            raise ProtocolRefused(f"{n} hospitals with {degree} neighbours each is no graph")

    def _check_ring(self, colluding: int) -> None:
        n, degree, t = self.clients, self.degree, self.threshold
        if not opens_one_sum(n, degree, t, self._gone, colluding):
            raise ProtocolRefused(
                f"{degree} neighbours each, threshold {t} and {self.window} survivors of "
                f"{degree // 2} in a row let a server that lies and {colluding} of {n} hospitals "
                f"open a part of the sum: {_MEND}"
            )
        if not hides(n, degree, t):
            raise ProtocolRefused(
                f"{degree} neighbours with threshold {t} are too few for {n} hospitals: {_MEND}"
            )

    def honest(self, colluding: int) -> int:
        """The fewest honest clients in any sum that a server that lies can open. Of parameters that
        ``check`` allows."""
        n, degree, t = self.clients, self.degree, self.threshold
        return honest_in_sum(n, degree, t, self._gone, self.survivors, colluding)


_MEND = (
    f"draw at most {COMPLETE} with federation.clients_per_round, or lower "
    "secure_aggregation.colluding"
)


def thresholds(
    clients: int, share: float = 0.667, colluding: int = 0, min_cohort: int = 3
) -> Thresholds:
    """Parameters for n clients: t = floor(share * n) + 1 in a complete graph, so by default
    floor(2n / 3) + 1; above ``COMPLETE`` the smallest k-regular graph that withstands
    ``colluding`` clients, with its own threshold. No sum of fewer than ``min_cohort`` can be
    opened, whatever a server says, or of all, if they are fewer.

    Raises ProtocolRefused where no k-regular graph does: from about half of the clients on.
    """
    if clients <= COMPLETE:
        return _with_survivors(complete_graph(clients, share), colluding, min_cohort)
    found = smallest_graph(clients, colluding)
    if found is None:
        raise ProtocolRefused(
            f"no graph of masks of {clients} hospitals withstands {colluding} that collude: {_MEND}"
        )
    degree, t, gone = found
    least = Thresholds(clients, degree, t, clients // 2 + 1, degree // 2 - gone)
    return _with_survivors(least, colluding, min_cohort)


def complete_graph(clients: int, share: float) -> Thresholds:
    """Everyone is everyone's neighbour; floor(share * n) + 1 open a secret, and survive."""
    t = int(share * clients) + 1
    return Thresholds(clients, clients - 1, t, t)


def _with_survivors(least: Thresholds, colluding: int, min_cohort: int) -> Thresholds:
    """With as many survivors as it takes for ``min_cohort`` honest ones in every sum, or all of a
    smaller sum's: lies cost a few of those that a hospital was shown."""
    for survivors in range(min(least.clients, max(least.survivors, min_cohort)), least.clients):
        limits = replace(least, survivors=survivors)
        if limits.honest(colluding) >= min(min_cohort, survivors - colluding):
            return limits
    return replace(least, survivors=least.clients)


def check_spread(survivors: Sequence[int], ring: Ring, limits: Thresholds) -> str:
    """What is wrong with a survivor set of a k-regular graph, as a sentence's end; "" if nothing.

    Of every k / 2 places in a row on the ring ``window`` must have survived, of every k + 1 the
    threshold: without these nothing could be opened, and every gap could be a lie.

    Parameters
    ----------
    survivors : their positions
    ring : all positions, in their order on the ring
    """
    present = np.zeros(limits.clients, np.int64)
    present[list(survivors)] = 1
    around = np.tile(present[np.asarray(ring)], 2)
    sums = np.concatenate([[0], np.cumsum(around)])
    n, degree = limits.clients, limits.degree
    for places, least in ((degree // 2, limits.window), (degree + 1, limits.threshold)):
        fewest = int((sums[places : places + n] - sums[:n]).min())
        if fewest < least:
            return (
                f"of {places} hospitals in a row on the ring {fewest} uploaded, and it takes "
                f"{least}"
            )
    return ""


@functools.lru_cache(maxsize=4)  # a simulation asks once per client, for the same group
def neighbours(names: tuple[str, ...], degree: int, seed: bytes) -> dict[int, list[int]]:
    """For each position in ``names`` its neighbours' positions, ascending; symmetric.

    The order on the ring is that of SHA-256(seed, name), so it is the same for everyone.
    """
    n = len(names)
    if degree == n - 1:
        return {i: [j for j in range(n) if j != i] for i in range(n)}
    ring = ring_order(names, seed)
    near = range(1, degree // 2 + 1)
    return {
        client: sorted({ring[(place + s) % n] for step in near for s in (step, -step)})
        for place, client in enumerate(ring)
    }


@functools.lru_cache(maxsize=4)  # as above
def ring_bytes(names: tuple[str, ...], degree: int, seed: bytes) -> bytes:
    """``ring_order`` as two bytes each, to be stored; b"" of a complete graph."""
    if degree == len(names) - 1:
        return b""
    return np.array(ring_order(names, seed), _PLACE).tobytes()


def ring_places(data: bytes) -> NDArray[np.uint16]:
    """What ``ring_bytes`` wrote."""
    return np.frombuffer(data, _PLACE)


@functools.lru_cache(maxsize=4)
def ring_order(names: tuple[str, ...], seed: bytes) -> tuple[int, ...]:
    """Positions in ``names``, ordered by a hash of the seed and the name."""
    ranks = [hashlib.sha256(encode_parts(seed, name.encode())).digest() for name in names]
    return tuple(sorted(range(len(names)), key=ranks.__getitem__))
