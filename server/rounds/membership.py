"""Who belongs to a running federation: those of the beginning, and those that come and go later.

Looked at before every attempt of every step. A hospital that connects later is asked who it is and
takes part from then on; one that is no longer in the roster is left out. Who is merely away stays a
member.
A host with a virtual population says who its members are in one word, and they stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

from wardround.common.config.load import Config
from wardround.common.flower.hosting import Grid
from wardround.common.trust.identity import Roster
from wardround.server.gathering.host import Host
from wardround.server.members.lazy import VirtualMembers
from wardround.server.members.member import Member
from wardround.server.observer import Observer
from wardround.server.rounds.setup import describe, gather_members

_TRIES = 3
"""How often one that can't say who it is is asked again, an attempt later."""


@runtime_checkable
class HostsPopulation(Protocol):
    """A ``Grid`` whose host may say who its members are without asking them."""

    members: VirtualMembers | None


class Membership:
    """The members, ordered by name.

    Parameters
    ----------
    roster : names and public keys; may be a live view of a roster that changes. Empty where the
        host has none.

    Attributes
    ----------
    refused : by name, why those who are connected and no members can't take part
    """

    def __init__(
        self, *, grid: Grid, config: Config, observer: Observer, roster: Roster, host: Host
    ) -> None:
        self._host, self._standing = host, host.standing()
        self._grid, self._config, self._observer, self._roster = grid, config, observer, roster
        self.members: Sequence[Member]
        self.refused: dict[str, str] = {}
        virtual = grid.members if isinstance(grid, HostsPopulation) else None
        self._stay = virtual is not None
        self.roster: dict[str, bytes] = dict(roster)
        if virtual is not None:
            self.members = virtual
            observer.population(len(virtual), virtual.same_sizes)
            return
        self.members, refused = gather_members(grid, config, observer, host)
        self.refused = {row["hospital"]: row["reason"] for row in refused}
        self._asked = Counter({member.node_id: _TRIES for member in self.members})
        self.roster = dict(roster)  # as it is now
        if host.standing() != self._standing:  # while they were asked
            self.members = [member for member in self.members if member.name in self.roster]

    def leave_out(self, names: Collection[str]) -> None:
        """Go on without these, who stay connected; they are asked again when the host's standing
        changes."""
        self.members = [member for member in self.members if member.name not in names]

    def changed(self) -> bool:
        """Look again. True if members, or keys of the roster, are others than before.

        The order: who isn't in the roster any more leaves; then those who are connected and unknown
        are asked who they are, each a few times, and anew once the host's standing is another.
        """
        if self._stay:
            return False
        before, known = list(self.members), self.roster
        self.roster = dict(self._roster)
        if self.roster:
            self.members = [member for member in self.members if member.name in self.roster]
        if (standing := self._host.standing()) != self._standing:
            self._standing = standing  # who couldn't take part before may be able to now
            self._asked = Counter({member.node_id: _TRIES for member in self.members})
        new = sorted(x for x in self._grid.get_node_ids() if self._asked[x] < _TRIES)
        if new:
            self._asked.update(new)
            found, refused = describe(self._grid, new, self._config, self.members)
            self._asked.update({member.node_id: _TRIES for member in found})
            self._host.on_members(found)
            joined = sorted([*self.members, *found], key=lambda member: member.name)
            self.members = joined
            news = [row for row in refused if self.refused.get(row["hospital"]) != row["reason"]]
            self.refused |= {row["hospital"]: row["reason"] for row in refused}
            for member in found:
                self.refused.pop(member.name, None)
            if found or news:  # the same refusal is told once
                self._observer.members(joined, news)
        return list(self.members) != before or self.roster != known
