"""The keys of secure aggregation, as the server gets them from its hospitals.

A group of all hospitals, or of all that train, makes keys for many aggregations at once, a cohort
drawn for one round for that round only. Whoever doesn't answer is left out, and greeted again in
the next group.
"""

from __future__ import annotations

from collections.abc import Sequence

from wardround.common.procedures.known import steps_of
from wardround.common.protocol import names as m
from wardround.common.secagg import messages as wire
from wardround.common.secagg.content import descriptor
from wardround.common.secagg.context import session_id
from wardround.common.trust.identity import Roster
from wardround.server.gathering.gatherer import RunSettings
from wardround.server.members.member import Member
from wardround.server.members.sampling import evaluated, splits_by_holders, training
from wardround.server.secagg.group_limits import check_groups, group_limits
from wardround.server.secagg.journal import Entry, Journal
from wardround.server.secagg.messenger import SecureMessenger, with_message
from wardround.server.secagg.sum import KeyGroup, SecureSession

_SPARE = 4
"""Aggregations prepared beyond those that are planned: rounds may have to be repeated."""


class KeyExchange:
    """A session of secure aggregation with the members of a federation, and its groups.

    Parameters
    ----------
    roster : every hospital's name and public key
    members : the federation; a group of all of them, or of all that train, prepares keys for many
        aggregations at once
    journal : sums in it that aren't opened yet are lost once a member is greeted anew

    Raises ConfigError, before any hospital is asked, for settings that can't work.
    """

    def __init__(
        self,
        *,
        settings: RunSettings,
        messenger: SecureMessenger,
        roster: Roster,
        members: Sequence[Member],
        journal: Journal,
    ) -> None:
        config = settings.config
        self.members = members
        self._config, self._table = config, config.secure_aggregation
        self._messenger, self._journal = messenger, journal
        trains = training(members)
        evaluating = splits_by_holders(evaluated(members, config))
        self._lasting = {names_of(trains), *evaluating}
        self._descriptor = descriptor(config)
        self.session = SecureSession(self._descriptor, roster)
        self._groups: dict[frozenset[str], KeyGroup] = {}
        self._used: list[KeyGroup] = []
        sums = settings.task.phases + 2 * config.federation.rounds
        self._planned = _SPARE + (sums if config.procedure.trains else steps_of(config))
        check_groups(config, len(trains), len(members))

    def session_of(self, entry: Entry) -> bytes:
        """The session that a journal's sum would be of, if it is of these settings."""
        return session_id(self._descriptor, entry.roster, entry.nonce)

    def forget_groups(self) -> None:
        """After a failure: whoever is gone isn't counted on in the next attempt."""
        self._groups.clear()

    def ready_group(self, members: Sequence[Member], again: bool = False) -> KeyGroup:
        """A group of the members with keys for another aggregation: the present one, or new.

        Raises RoundFailed where too few answer. Groups that may be asked again (all who train, all
        who evaluate, and where ``again`` says so) prepare keys for what the run still plans, at
        most 64 at once; a drawn cohort won't come again, so it prepares one.
        """
        names = names_of(members)
        lasting = again or names in self._lasting
        if lasting and names in self._groups and self._groups[names].left:
            self._use(self._groups[names])
            return self._groups[names]
        group = self._make_group(
            members, min(wire.MOST_AGGREGATIONS, self._planned if lasting else 1)
        )
        self._planned = max(_SPARE, self._planned - wire.MOST_AGGREGATIONS)
        if lasting:
            self._groups[names] = group
        return group

    def _use(self, group: KeyGroup) -> None:
        """Note that hospitals use this group now, and forget those that they have forgotten."""
        self._used = [*(one for one in self._used if one is not group), group][-wire.OPEN_GROUPS :]
        self._groups = {name: one for name, one in self._groups.items() if one in self._used}

    def _make_group(self, members: Sequence[Member], count: int) -> KeyGroup:
        """Keys of those who answer; a group is made again without the others."""
        present = self.greeted(members)
        while True:
            if len(present) < len(members):
                count = min(count, _SPARE)  # so that the others can come back soon
            limits = group_limits(self._config, len(present))
            group = self.session.group([member.name for member in present], count, limits)
            self._use(group)
            requests = dict.fromkeys(group.names, group.request)
            messages = self._messenger.messages(m.GROUP, present, requests)
            self._messenger.ask(messages, present, "keys", with_message(group.add_bundle))
            missing = group.missing()
            if not missing:
                break
            for name in missing:
                del self.session.hellos[name]  # it may have restarted: greet it again
            present = [member for member in present if member.name not in missing]
        messages = self._messenger.messages(m.KEYS, present, dict(group.keys_requests()))
        self._messenger.ask(messages, present, "keys", with_message(group.add_accepted))
        return group

    def greeted(self, members: Sequence[Member]) -> list[Member]:
        """Those of the members that have said hello in this session; who hasn't is greeted."""
        self._say_hello(members)
        return [member for member in members if member.name in self.session.hellos]

    def _say_hello(self, members: Sequence[Member]) -> None:
        new = [member for member in members if member.name not in self.session.hellos]
        if new:  # a new session: they forget the keys of an older one
            self._journal.drop_unopened()
        requests = dict.fromkeys((member.name for member in new), self.session.request())
        messages = self._messenger.messages(m.HELLO, new, requests)
        self._messenger.ask(messages, new, "keys", with_message(self.session.add_hello))


def names_of(members: Sequence[Member]) -> frozenset[str]:
    """Who they are, in whatever order."""
    return frozenset(member.name for member in members)
