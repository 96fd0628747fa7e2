"""Buffered rounds: who trains on which version of the model, whose update is ready, who is a group.

FedBuff (Nguyen et al. 2022, arXiv 2106.06639). Version u is the model of round u. Hospitals are
told to train and keep the update (``train.begin``); round u + 1 is of the first K whose updates are
ready, all of whom are known before a key is made for their sum. They begin anew with its model, and
whoever trains meanwhile trains on. An update that is older than ``max_staleness`` is given up.

What is ready when a round is committed is in its checkpoint; whoever was told to train since begins
anew after a crash.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from wardround.common.errors import ReplyRefused, RoundFailed
from wardround.common.flower.arrays import Arrays, encode_arrays
from wardround.common.flower.hosting import Grid, Message
from wardround.common.mends import Mend
from wardround.common.protocol import names as m
from wardround.common.protocol.kept import BeginReply, KeptRequest
from wardround.common.protocol.message import Content
from wardround.common.rng import numpy_generator
from wardround.server.gathering.exchange import KnowsArrivals
from wardround.server.gathering.faults import round_failed
from wardround.server.gathering.messenger import sizes
from wardround.server.gathering.replies import check_error
from wardround.server.members.member import Member
from wardround.server.members.sampling import here, training
from wardround.server.rounds.checkpoint import FederationState
from wardround.server.rounds.parts import FederationParts
from wardround.server.rounds.round import RoundRunner

_LOOK_S = 1.0


@dataclass(frozen=True)
class Ready:
    """An update that a hospital keeps.

    version : of the model that it was trained on
    at_s : when it is here, by the host's clock
    """

    version: int
    at_s: float


@dataclass
class _Training:
    """A hospital that was told to train.

    content : of the request: asked for the same again, a hospital does its work once
    message_id : of the request that is on its way; '' while the hospital is away
    due_s : when its update will be here, where the host knows
    """

    member: Member
    version: int
    content: Content
    message_id: str
    due_s: float | None


@dataclass
class Group:
    """The hospitals of one round, ordered by name, each with its update's staleness.

    dropped : whose updates were given up before it, as they were too old
    bytes_down : of the requests to train since the last group
    """

    members: list[Member] = field(default_factory=list)
    staleness: dict[str, int] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    bytes_down: int = 0


class Buffer:
    """The updates of one run that aren't in a round yet.

    Parameters
    ----------
    ready : those of the checkpoint that the run goes on from
    """

    def __init__(
        self,
        parts: FederationParts,
        runner: RoundRunner,
        grid: Grid,
        algorithm: str,
        ready: Mapping[str, Ready],
    ) -> None:
        self._table, self._host, self._observer = (
            parts.config.federation,
            parts.host,
            parts.observer,
        )
        self._masked = parts.config.secure_aggregation.enabled
        self._grid, self._runner, self._algorithm = grid, runner, algorithm
        self._participants = runner.participants
        self._training: dict[str, _Training] = {}
        self._failed: dict[str, str] = {}  # in this attempt, and why: told again in the next one
        self._shown = 0  # the round whose model the strategy has seen
        self.ready = dict(ready)
        self.group = Group()

    @classmethod
    def of(
        cls,
        parts: FederationParts,
        runner: RoundRunner,
        grid: Grid,
        algorithm: str,
        state: FederationState,
    ) -> Buffer:
        """The buffer of a run that goes on from this state. Evaluations ask nobody from now on who
        trains just then."""
        ready = {name: Ready(*one) for name, one in state.ready.items()}
        found = cls(parts, runner, grid, algorithm, ready)
        runner.participants.at_work = lambda: found.at_work
        return found

    @property
    def at_work(self) -> set[str]:
        """Names of those who train just now, as far as is known here."""
        return set(self._training)

    # --- rounds ------------------------------------------------------------------------------
    def next_group(
        self,
        server_round: int,
        shared: Arrays,
        able: Sequence[Member],
        out: Collection[str] = (),
    ) -> list[Member]:
        """The K hospitals of a round, ordered by name. Tells whoever is idle to train.

        Parameters
        ----------
        shared : the present model
        able : who may be told to train; who isn't, as its privacy budget is spent, may still have
            an update that was paid for
        out : who takes part in no (further) sum of this round

        Raises RoundFailed where K can't come together, or the membership changes meanwhile.
        """
        self._forget_refused()
        stopped = self._participants.budgets.stopped
        members = here(training(self._participants.members), self._host.gone())
        by_name = {member.name: member for member in members if member.name not in stopped}
        able = [member for member in able if member.name in by_name]
        dropped = self._give_up(server_round, by_name)
        standing, told, down = self._host.standing(), False, 0
        self._failed.clear()
        while True:
            self._ask_again()
            down += self._begin(server_round, shared, able, dropped)
            self._take()
            names = self._first(server_round, by_name, out)
            if names is not None:
                break
            if standing != self._host.standing():
                raise RoundFailed("the membership changed while updates were waited for")
            self._check_possible({*by_name} - {*out} - {*self._failed})
            if not told:
                self._tell_waiting(server_round)
                told = True
            self._wait()
        chosen = sorted(names)
        staleness = {name: server_round - 1 - self.ready[name].version for name in chosen}
        before = self.group
        self.group = Group(
            [by_name[name] for name in chosen],
            staleness,
            sorted({*before.dropped, *dropped}),
            before.bytes_down + down,
        )
        return self.group.members

    def _forget_refused(self) -> None:
        """Of an attempt that failed, whose updates can't be had: they begin anew."""
        refused = self._participants.budgets.refused
        for member in self.group.members:
            if member.name in refused:
                self.ready.pop(member.name, None)
        refused.clear()

    def again(self, server_round: int, cohort: list[Member]) -> list[Member]:
        """A group whose sum is being opened. (A server that started again knows no staleness of
        those whose updates came after its checkpoint.)"""
        known = {x.name: self.ready[x.name] for x in cohort if x.name in self.ready}
        staleness = {name: server_round - 1 - one.version for name, one in known.items()}
        self.group = replace(self.group, members=cohort, staleness=staleness)
        return cohort

    def requests(self, server_round: int, shared: Arrays) -> list[Message]:
        """What the group is asked: for what it keeps."""
        present = None if self._masked else encode_arrays(shared)
        request = KeptRequest(server_round, self._algorithm, present)
        return [
            Message(request.to_records(), member.node_id, KeptRequest.type)
            for member in self.group.members
        ]

    def over(self, row: dict[str, Any], last: bool) -> dict[str, tuple[int, float]]:
        """The round is made, or lost: the updates of its group are spent. Gives those that are
        left, for the checkpoint.

        row : the round's line, to which what only buffered rounds have is added
        last : nobody is waited for any more
        """
        found, self.group = self.group, Group()
        for member in found.members:
            self.ready.pop(member.name, None)
        if last:
            self._withdraw(list(self._training))
        row["staleness"], row["given_up"] = found.staleness, found.dropped
        row["bytes_down"] += found.bytes_down
        return {name: (one.version, one.at_s) for name, one in sorted(self.ready.items())}

    # --- telling hospitals to train ----------------------------------------------------------
    def _give_up(self, server_round: int, members: Mapping[str, Member]) -> dict[str, float]:
        """Forget updates that are too old, or no member's any more; of the first kind when each
        was to be here."""
        least = server_round - 1 - self._table.max_staleness
        late = {
            name: one.due_s or 0.0 for name, one in self._training.items() if one.version < least
        }
        late |= {name: one.at_s for name, one in self.ready.items() if one.version < least}
        gone = {*self._training, *self.ready} - set(members)
        self._withdraw([name for name in self._training if name in late or name in gone])
        self.ready = {k: one for k, one in self.ready.items() if k not in late and k not in gone}
        late = {name: at_s for name, at_s in late.items() if name not in gone}
        for name in sorted(late):
            self._observer.warnings(
                [
                    f"{name}'s update is given up: over {self._table.max_staleness} rounds "
                    "(federation.max_staleness) were made since its model"
                ]
            )
        return late

    def _begin(
        self,
        server_round: int,
        shared: Arrays,
        able: Sequence[Member],
        before: Mapping[str, float],
    ) -> int:
        """Tell those who are idle to train on the present model; bytes of the requests."""
        nodes, busy = set(self._grid.get_node_ids()), {*self.ready, *self._training, *self._failed}
        idle = [one for one in able if one.name not in busy and one.node_id in nodes]
        # a strategy sees the present model in each round, also where nobody is told to train
        asked = idle or (list(able)[:1] if self._shown != server_round else [])
        if not asked:
            return 0
        to = [[member] for member in asked]
        terms = self._runner.terms(self._count)
        made = self._runner.strategy.train_requests(server_round, shared, to, {}, terms)
        self._shown = server_round
        if not idle:
            return 0
        due = self._host.due(server_round, {one.name: before.get(one.name, 0.0) for one in idle})
        requests = [Message(one.content, one.metadata.dst_node_id, m.BEGIN) for one in made]
        ids = self._grid.push_messages(requests)
        for member, request, message_id in zip(idle, requests, ids, strict=True):
            due_s = None if due is None else due[member.name]
            self._training[member.name] = _Training(
                member, server_round - 1, request.content, message_id, due_s
            )
        return sizes(requests)

    def _take(self) -> None:
        """Whoever has answered keeps an update, or why not is told."""
        waiting = {one.message_id: name for name, one in self._training.items() if one.message_id}
        for reply in self._grid.pull_messages(list(waiting)):
            name = waiting.get(reply.metadata.reply_to_message_id)
            if name is None:
                continue
            one = self._training[name]
            try:
                check_error(reply)
                found = BeginReply.from_records(reply.content).server_round
                if found != one.version + 1:
                    raise ReplyRefused(f"it has trained for round {found}")
            except ReplyRefused as error:
                if one.member.node_id not in set(self._grid.get_node_ids()):
                    one.message_id = ""  # it is away: asked the same again when it is back
                    continue
                self._participants.budgets.note_refusal(name, error)
                self._observer.replied(name, "train", str(error))
                self._failed[name] = str(error)
                del self._training[name]
                continue
            del self._training[name]
            at_s = reply.metadata.created_at if one.due_s is None else one.due_s
            self.ready[name] = Ready(one.version, at_s)

    def _ask_again(self) -> None:
        """Those who went while they trained, and are back."""
        nodes = set(self._grid.get_node_ids())
        for one in self._training.values():
            if not one.message_id and one.member.node_id in nodes:
                request = Message(one.content, one.member.node_id, m.BEGIN)
                (one.message_id,) = self._grid.push_messages([request])

    def _withdraw(self, names: Collection[str]) -> None:
        ids = [self._training.pop(name).message_id for name in names]
        if isinstance(self._grid, KnowsArrivals):
            self._grid.withdraw([one for one in ids if one])

    # --- who is a group ----------------------------------------------------------------------
    def _first(
        self, server_round: int, members: Mapping[str, Member], out: Collection[str]
    ) -> list[str] | None:
        """The K whose updates were ready first, of those who are here; ties by a draw."""
        nodes = set(self._grid.get_node_ids())
        names = sorted(
            name
            for name in self.ready
            if name in members and name not in out and members[name].node_id in nodes
        )
        order = numpy_generator(self._table.seed, "buffer", server_round).permutation(len(names))
        at_s = {names[k]: self.ready[names[k]].at_s for k in order.tolist()}
        if len(at_s) < self._count:
            return None
        return self._host.first(at_s, self._count)

    @property
    def _count(self) -> int:
        assert self._table.buffer is not None  # the settings say so
        return self._table.buffer

    def _check_possible(self, names: Collection[str]) -> None:
        if len(names) >= self._count:
            return
        what = f"{len(names)} hospitals can be in the round, federation.buffer is {self._count}"
        if not self._failed:
            raise RoundFailed(what, mend=Mend.START_MORE)
        reasons = sorted(self._failed.items())
        raise round_failed(what, [{"hospital": name, "reason": why} for name, why in reasons])

    def _tell_waiting(self, server_round: int) -> None:
        ready, names = len(self.ready), ", ".join(sorted(self._training))
        self._observer.progress(
            f"round {server_round}: {ready} of {self._count} updates are ready; training: {names}"
        )

    def _wait(self) -> None:
        ids = [one.message_id for one in self._training.values() if one.message_id]
        if isinstance(self._grid, KnowsArrivals):
            self._grid.wait(ids, _LOOK_S)
        else:
            time.sleep(_LOOK_S / 50)
