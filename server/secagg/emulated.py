"""Sums of a simulation whose masks are emulated: asked for, added, and opened without a key.

The protocol's own rules decide (``ring_sum.py``, ``common/secagg/graph.py``): who may be in a
group, how many must have uploaded and where on the ring, how many of which neighbours must help to
open it, what is held for another attempt. What is missing is what masks are made of: keys, shares,
and the order on the ring, which a group's keys decide there and the run's seed here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from wardround.common.config.load import Config
from wardround.common.errors import ProtocolRefused
from wardround.common.secagg import messages as wire
from wardround.common.secagg.emulated import emulated_group
from wardround.common.secagg.encoding import VectorLayout
from wardround.common.secagg.graph import check_spread, ring_order
from wardround.common.secagg.ring import RingVector
from wardround.common.trust.identity import digest
from wardround.server.members.member import Member
from wardround.server.secagg.group_limits import check_groups, group_limits
from wardround.server.secagg.reconstruction import too_few_shares
from wardround.server.secagg.ring_sum import Phase, RingSum, Total


class EmulatedGroup:
    """Hospitals without keys. As ``ring_sum.SumGroup``.

    seed : decides their order on the ring
    """

    def __init__(self, names: Sequence[str], config: Config, seed: bytes) -> None:
        self.names, self.accepted = sorted(names), set(names)
        self.limits = group_limits(config, len(self.names))
        self.id, self._seed = emulated_group(len(self.names)), seed

    @property
    def ring(self) -> Sequence[int]:
        """Positions in their order on the ring."""
        return ring_order(tuple(self.names), self._seed)

    def gap(self, survivors: Collection[int]) -> str:
        """What is wrong with the places of these survivors; "" if nothing."""
        if self.limits.complete or len(survivors) == len(self.names):
            return ""
        return check_spread(sorted(survivors), self.ring, self.limits)


class EmulatedGroups:
    """Makes groups; a sum has one of its own.

    Raises ConfigError for settings that can't work, as the exchange of keys does.
    """

    def __init__(self, config: Config, members: Sequence[Member], trains: int) -> None:
        self.members, self._config, self._made = members, config, 0
        check_groups(config, trains, len(members))

    def group(self, members: Sequence[Member], purpose: str) -> EmulatedGroup:
        """Of these members. Raises RoundFailed if they are too few."""
        self._made += 1
        seed = self._config.federation.seed.to_bytes(16, "big", signed=True)
        ring = digest("emulated ring", seed, purpose.encode(), self._made.to_bytes(8, "big"))
        return EmulatedGroup([one.name for one in members], self._config, ring)

    def forget_groups(self) -> None:
        """After a failure: there is no key to burn."""


class EmulatedSum(RingSum):
    """One aggregation without masks."""

    def __init__(self, group: EmulatedGroup, task: wire.TaskRequest, layout: VectorLayout) -> None:
        vector = RingVector(task.bits, layout.update_size, layout.exact_size)
        super().__init__(group, task, layout, vector)
        self._group = group

    def add_group(self, names: Sequence[str], vector: bytes | memoryview) -> None:
        """Add the sum of these members' vectors, which whoever runs them has added."""
        self.expect(Phase.UPLOADING, "its upload came after the survivor set was fixed")
        places = {self.position(name, name) for name in names}
        if len(places) < len(names) or places & self.survivors:
            raise ProtocolRefused("a member uploaded twice")
        self._vector.add_bytes(vector)
        self.survivors |= places

    def unmask_requests(self) -> dict[str, bytes]:
        self.fix_survivors()
        return dict.fromkeys(self.survivor_names(), b"")

    def add_shares(self, name: str, data: bytes) -> None:
        self.answers[name] = data

    def enough(self) -> bool:
        return self._lacking() is None

    def open(self) -> Total:
        self.expect(Phase.UNMASKING, "there is nothing to open")
        if (lacking := self._lacking()) is not None:
            position, came = lacking
            threshold, name = self._group.limits.threshold, self._group.names[position]
            raise too_few_shares(came, threshold, name)
        return self.opened("the sum doesn't count its hospitals")

    def _lacking(self) -> tuple[int, int] | None:
        """The first hospital whose secret too few of its holders have helped to open, and how many
        did; of those whose masks a sum with keys would hold. None where there is none."""
        limits = self._group.limits
        if limits.complete:
            came = len(self.answers)
            return None if came >= limits.threshold else (min(self.survivors, default=0), came)
        if len(self.answers) == len(self.survivors):
            return None  # of survivors without a gap: ``fix_survivors`` has looked
        helped, uploaded = (
            _around(self._group.ring, self._present(of), limits.degree // 2)
            for of in ([self._positions[name] for name in self.answers], self.survivors)
        )
        short = np.flatnonzero((helped < limits.threshold) & (uploaded > 0))
        return (int(short[0]), int(helped[short[0]])) if len(short) else None

    def _present(self, positions: Collection[int]) -> NDArray[np.int64]:
        found = np.zeros(len(self._group.names), np.int64)
        found[list(positions)] = 1
        return found


def _around(ring: Sequence[int], present: NDArray[np.int64], reach: int) -> NDArray[np.int64]:
    """For each of n positions, how many of ``present`` (n, 0 or 1, by position) are among itself
    and the ``reach`` places before and after it on the ring; n, by position."""
    order = np.asarray(ring, np.int64)
    wide = np.concatenate([present[order[-reach:]], present[order], present[order[:reach]]])
    sums = np.concatenate([[0], np.cumsum(wide)])
    counts = np.empty(len(order), np.int64)
    counts[order] = sums[2 * reach + 1 :] - sums[: len(order)]
    return counts
