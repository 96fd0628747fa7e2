"""Emulated sums: a simulation's, with the arithmetic of secure aggregation and none of its keys.

Masks cancel. So where one process has all clients anyway, the sum that the protocol opens can be
had without making a mask: the same quantised words are added in the same ring, by the same
functions, and the same survivors are asked for. What differs is that there is nothing to hide from:
an emulated group has no keys, and its id says how many clients it has.

Only a host whose hospitals are simulated emulates (``HostGrid.emulates_masks``,
``Place.emulates_masks``). No request can make a hospital do it: to one that has keys an emulated
group is a group that it doesn't know.
"""

from __future__ import annotations

import functools

from wardround.common.errors import ProtocolRefused
from wardround.common.secagg.graph import Thresholds, thresholds
from wardround.common.settings import SecureAggregationTable
from wardround.common.trust.identity import KEY_BYTES, digest

_NUMBER_BYTES = 4
_TAG = digest("emulated group")[: KEY_BYTES - _NUMBER_BYTES]


def emulated_group(clients: int) -> bytes:
    """The id of a group of so many clients that have no keys, 32 bytes.

    >>> clients_of_group(emulated_group(300))
    300
    """
    return _TAG + clients.to_bytes(_NUMBER_BYTES, "big")


def clients_of_group(group: bytes) -> int:
    """How many clients an emulated group has. Raises ProtocolRefused for another id."""
    clients = int.from_bytes(group[-_NUMBER_BYTES:], "big")
    if group != _TAG + group[-_NUMBER_BYTES:] or clients < 1:
        raise ProtocolRefused("this hospital's masks are emulated, and the group is one with keys")
    return clients


def emulated_limits(clients: int, table: SecureAggregationTable) -> Thresholds:
    """Graph and thresholds that a group of so many would have with keys. Raises ProtocolRefused
    where no such group would be made."""
    return _limits(clients, table.threshold, table.colluding, table.min_cohort)


@functools.lru_cache(maxsize=64)  # a simulation asks once per client and sum
def _limits(clients: int, share: float, colluding: int, min_cohort: int) -> Thresholds:
    limits = thresholds(clients, share, colluding, min_cohort)
    limits.check(colluding, min_cohort)
    return limits
