"""How a simulation's numbers come together where its masks are emulated.

Sums are asked for, judged and decoded as ever (``gatherer.py``, ``sum_runner.py``); only the two
exchanges in which masks travel are others. Where nothing is needed of a single client a whole
cohort is asked by one message (``gathering/cohorts.py``), whose host replies with the sum of the
vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wardround.common.errors import ReplyRefused, RoundFailed
from wardround.common.flower.hosting import HostGrid, Message
from wardround.common.protocol import names as m
from wardround.common.protocol.cohort import CohortMaskedReply, clients_of, with_clients
from wardround.common.protocol.errors import failed
from wardround.common.protocol.masked import MaskedTask
from wardround.server.gathering.gatherer import Budgets, RunSettings
from wardround.server.gathering.host import Host
from wardround.server.gathering.requests import Query, queries_together
from wardround.server.members.member import Member
from wardround.server.secagg.emulated import EmulatedGroups, EmulatedSum
from wardround.server.secagg.gatherer import SecureGatherer
from wardround.server.secagg.journal import Journal
from wardround.server.secagg.layouts import LayoutsTogether
from wardround.server.secagg.messenger import SecureMessenger
from wardround.server.secagg.ring_sum import RingSum
from wardround.server.secagg.sum_runner import SumRequest, SumRunner

MOST_TOGETHER = 500
"""Members whom a message of the preparation or an evaluation asks: after each it is told how far
it has come."""


class EmulatedRunner(SumRunner):
    """Adds up vectors without masks."""

    def __init__(
        self,
        *,
        settings: RunSettings,
        messenger: SecureMessenger,
        budgets: Budgets,
        groups: EmulatedGroups,
        journal: Journal,
        host: Host,
        grid: HostGrid,
    ) -> None:
        super().__init__(
            settings=settings,
            messenger=messenger,
            budgets=budgets,
            keys=groups,
            deal=None,
            journal=journal,
            host=host,
        )
        self._emulated, self._grid = groups, grid

    def _begun(self, asked: SumRequest) -> RingSum:
        group = self._emulated.group(asked.members, asked.purpose)
        return EmulatedSum(group, self._task(asked, group.id, group.limits, 0), asked.layout)

    def _collect(self, asked: SumRequest, masked: RingSum) -> dict[str, bytes]:
        if not clients_of(asked.requests[0].content):
            return super()._collect(asked, masked)
        assert isinstance(masked, EmulatedSum)  # which ``_begun`` makes
        task, step = MaskedTask(masked.task.to_bytes(), asked.sums or None), asked.step
        for request in asked.requests:
            task.add_to(request.content)
        done, of = 0, len(asked.members)
        try:
            for members, content in self._messenger.ask_together(asked.requests, asked.members):
                reply = CohortMaskedReply.from_records(content)
                names = self._messenger.note(step, members, reply.accepted, reply.refused)
                masked.add_group(names, reply.vector)
                self._messenger.traffic.up += len(reply.vector) * len(names)
                done += len(members)
                if len(asked.requests) > 1:
                    self._messenger.observer.progress(f"{asked.purpose}: {done} of {of} clients")
        except ReplyRefused as error:
            raise RoundFailed(f"the cohort could not be asked: {error}") from None
        self._check_enough(asked, masked)
        return {}

    def _ask_shares(
        self,
        asked: SumRequest,
        masked: RingSum,
        members: Sequence[Member],
        requests: Mapping[str, bytes],
    ) -> None:
        """Nobody has a share: who would not have answered doesn't help."""
        nodes = {one.node_id: one.name for one in asked.members if one.name in requests}
        silent = self._grid.silent(m.UNMASK, asked.server_round, list(nodes))
        for node, name in nodes.items():
            if node in silent:
                self._messenger.refuse(name, "unmask", ReplyRefused(failed(silent[node])))
            else:
                masked.add_shares(name, b"")


class EmulatedGatherer(SecureGatherer):
    """Sees sums over simulated hospitals only, whose masks are emulated.

    together : whether a cohort is asked by one message
    """

    def __init__(
        self,
        *,
        settings: RunSettings,
        messenger: SecureMessenger,
        runner: EmulatedRunner,
        host: Host,
        together: bool,
    ) -> None:
        super().__init__(
            settings=settings, messenger=messenger, runner=runner, handing=None, host=host
        )
        self._together = together
        if together:
            self._layouts = LayoutsTogether(messenger)

    def addressees(
        self, members: Sequence[Member], *, evaluating: bool = False
    ) -> list[list[Member]]:
        if self._together and len(members) > 1:
            return [list(members)]
        return super().addressees(members, evaluating=evaluating)

    def _queries(self, request: Query, members: Sequence[Member]) -> list[Message]:
        if not self._together:
            return super()._queries(request, members)
        return queries_together(request, members, MOST_TOGETHER)

    def _requests_to(self, members: Sequence[Member], requests: list[Message]) -> list[Message]:
        if not requests or not clients_of(requests[0].content):
            return super()._requests_to(members, requests)
        first, parts = requests[0], range(0, len(members), MOST_TOGETHER)
        return [
            Message(
                with_clients(first.content, [one.node_id for one in part]),
                part[0].node_id,
                first.metadata.message_type,
            )
            for part in (members[start : start + MOST_TOGETHER] for start in parts)
        ]
