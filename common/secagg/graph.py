"""Who masks with whom, and which thresholds are safe.

Up to ``COMPLETE`` clients everyone is everyone's neighbour. Above, each has k neighbours on a ring
in an order that a hash decides (Bell et al. 2020, "Secure single-server aggregation with
(poly)logarithmic overhead"), and its secrets are shared among its k neighbours and itself.

*Complete graph.* A server that tells clients different survivor sets needs t answers with one share
of a client and t with the other. c colluding clients answer both, the n - c others once: it fails
if and only if 2t > n + c.

*k-regular graph*, with fractions ``corrupt`` and ``dropped`` of n clients, by a union bound over
hypergeometric tails, for an honest-but-curious server: with probability at least 1 - 2^-40 each no
client has t corrupt neighbours, and none has only corrupt or dropped ones; with probability at
least 1 - 2^-20 each client keeps t answering neighbours.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from wardround.common.errors import ProtocolRefused, StrategyError
from wardround.common.trust.identity import encode_parts

COMPLETE = 64
"""Largest number of clients with a complete graph."""
_SECURITY_BITS, _CORRECTNESS_BITS = 40, 20
CORRUPT_SHARE, DROPPED_SHARE = 0.05, 0.1
"""What a k-regular graph is sized for: shares of all clients."""


@dataclass(frozen=True)
class Thresholds:
    """Parameters of a group of n clients.

    degree : neighbours of each client, n - 1 in a complete graph
    threshold : t, shares that open a secret, of the degree + 1 that exist
    survivors : fewest clients whose sum may be opened
    """

    clients: int
    degree: int
    threshold: int
    survivors: int

    def check(self, colluding: int) -> None:
        """Raise ProtocolRefused unless the parameters are safe with ``colluding`` clients.

        Both sides call it: the client with its own policy's number.
        """
        n, holders, t = self.clients, self.degree + 1, self.threshold
        complete = self.degree == n - 1
        sparse = not complete and (n <= COMPLETE or self.degree % 2)
        if n < 2 or not 1 <= self.degree <= n - 1 or sparse:
            raise ProtocolRefused(f"{n} hospitals with {self.degree} neighbours each is no graph")
        if t > holders or not 2 * t > holders + (colluding if complete else 0):
            raise ProtocolRefused(
                f"threshold {t} of {holders} is not above ({holders} + {colluding}) / 2: a server "
                "that shows hospitals different survivor sets could open one hospital's update"
            )
        if not complete:
            degree, least = k_regular(n)
            if self.degree < degree or t < least:
                raise ProtocolRefused(
                    f"{self.degree} neighbours with threshold {t} are too few for {n} hospitals; "
                    f"it takes {degree} and {least}"
                )
            self._check_neighbourhoods(colluding)
        if self.survivors > n or self.survivors < (t if complete else n // 2 + 1):
            raise ProtocolRefused(f"a sum of {self.survivors} of {n} hospitals is not allowed")

    def _check_neighbourhoods(self, colluding: int) -> None:
        """Two survivor sets can't both be answered about one client, whoever its neighbours are.

        Of a client's k + 1 holders c_v collude and answer both sets, so two answers of t each need
        2 t <= k + 1 + c_v. With c colluding of n clients, c_v is hypergeometric: for all clients
        together the chance of c_v >= 2 t - k - 1 must stay below 2^-40.
        """
        spare = 2 * self.threshold - (self.degree + 1)  # more than 0: checked before
        if colluding < spare:
            return
        from scipy.stats import hypergeom

        others = self.clients - 1
        chance = hypergeom.sf(spare - 1, others, min(colluding, others), self.degree)
        if self.clients * chance >= 2.0**-_SECURITY_BITS:
            raise ProtocolRefused(
                f"threshold {self.threshold} of {self.degree + 1} holders withstands {spare - 1} "
                f"colluding neighbours, and {colluding} of {self.clients} hospitals may collude: "
                f"draw at most {COMPLETE} with federation.clients_per_round"
            )


def thresholds(clients: int, share: float = 0.667) -> Thresholds:
    """Parameters for n clients: t = floor(share * n) + 1 in a complete graph, so by default
    floor(2n / 3) + 1; above ``COMPLETE`` a k-regular graph with its own threshold."""
    if clients <= COMPLETE:
        t = int(share * clients) + 1
        return Thresholds(clients, clients - 1, t, t)
    degree, t = k_regular(clients)
    return Thresholds(clients, degree, t, clients // 2 + 1)


@functools.lru_cache(maxsize=64)
def k_regular(clients: int) -> tuple[int, int]:
    """The smallest even degree k, with its threshold t, that keeps the bounds in the module's
    docstring for ``CORRUPT_SHARE`` and ``DROPPED_SHARE``. Raises StrategyError if none does."""
    from scipy.stats import hypergeom  # half a second to import, and only needed here

    others = clients - 1
    corrupt, dropped = int(CORRUPT_SHARE * clients), int(DROPPED_SHARE * clients)
    security, correctness = 2.0**-_SECURITY_BITS, 2.0**-_CORRECTNESS_BITS
    for degree in range(4, others, 2):
        # a client all of whose neighbours are corrupt or gone has nobody to hide behind
        lost = clients * hypergeom.sf(degree - 1, others, min(others, corrupt + dropped), degree)
        if lost >= security:
            continue
        # t above half of the holders: there are no two disjoint sets of so many
        for t in range((degree + 1) // 2 + 1, degree + 1):
            opened = clients * hypergeom.sf(t - 1, others, corrupt, degree)
            stuck = clients * hypergeom.cdf(t - 1, others, others - dropped, degree)
            if opened < security and stuck < correctness:
                return degree, t
    raise StrategyError(
        f"no graph of masks for {clients} clients; draw at most {COMPLETE} with "
        "federation.clients_per_round"
    )


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


def ring_order(names: Sequence[str], seed: bytes) -> list[int]:
    """Positions in ``names``, ordered by a hash of the seed and the name."""
    ranks = [hashlib.sha256(encode_parts(seed, name.encode())).digest() for name in names]
    return sorted(range(len(names)), key=ranks.__getitem__)
