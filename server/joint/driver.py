"""A joint procedure's run at the server: step after step, until every party is over.

A step counts once all turns of it are on disk; a server that is killed asks for the next one, or
for the same again, which each party answers with the same bytes. A party that says no ends the run:
nobody is asked for anything after that.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict

from wardround.common.durable.files import write_atomically
from wardround.common.durable.records import DurableState
from wardround.common.errors import (
    JointRefused,
    NobodyContributed,
    ReplyRefused,
    RequestRefused,
    RoundFailed,
)
from wardround.common.flower.hosting import Grid
from wardround.common.joint.known import make_joint
from wardround.common.joint.party import COORDINATOR, Me, Party, check_parties
from wardround.common.joint.sealing import Setting
from wardround.common.joint.seat import Seat, Who, simulated_secret, with_rows
from wardround.common.protocol.errors import Code, code_of, failed
from wardround.common.protocol.letters import SEAL_BYTES, LettersReply, LettersRequest
from wardround.server.gathering.faults import round_failed
from wardround.server.gathering.host import Attempts
from wardround.server.gathering.messenger import Messenger
from wardround.server.members.member import Member
from wardround.server.observer import Phase
from wardround.server.rounds.parts import FederationParts
from wardround.server.rounds.setup import describe
from wardround.server.rounds.stepping import Answered

STATE = "joint"
"""In a run directory: the letters on their way, and the coordinator's own state."""
_RUN, _KEYS, _TO, _TOLD = "run", "keys", "to/", "told/"
_POLL_S = 0.2
_QUIET_S = 2.0
"""Between two lines on how far it has come."""


class JointRun:
    """One run of a joint procedure, against any Flower ``Grid``."""

    def __init__(self, parts: FederationParts) -> None:
        self._parts, self._config, self._host = parts, parts.config, parts.host
        self._procedure = make_joint(parts.config, parts.task)
        self._store = DurableState(parts.run_directory.path / STATE) if parts.keep_journal else None
        self._records = self._store.records if self._store else RecordDict()
        self._seat = self._own_seat() if self._procedure.has_coordinator else None
        self._said = 0.0

    def run(self, grid: Grid) -> Answered:
        """All steps that are left; writes what is published. Raises WardroundError subclasses."""
        members = self._gather(grid)
        self._parts.run_directory.update(
            name=self._config.federation.name,
            status="running",
            hospitals=[{"hospital": name} for name in sorted(members)],
            absent=[],
        )
        self._parts.observer.phase(Phase.PREPARING)
        while self._asked():
            if self._step > self._procedure.most_steps:
                raise RoundFailed("the joint procedure has more steps than its plan")
            self._tell_progress()
            self._commit(self._turns(grid, members))
        return self._finish()

    # --- where it is -----------------------------------------------------------------------------
    @property
    def _step(self) -> int:
        """The next one."""
        found = self._records.get(_RUN)
        return int(found["step"]) if isinstance(found, ConfigRecord) else 0  # type: ignore[arg-type]

    def _over(self) -> set[str]:
        return {name.removeprefix(_TOLD) for name in self._records if name.startswith(_TOLD)}

    def _asked(self) -> list[str]:
        """Parties that aren't over, the coordinator's among them."""
        own = [COORDINATOR] if self._procedure.has_coordinator else []
        return sorted({*self._procedure.parties, *own} - self._over())

    def _letters(self, name: str) -> dict[str, bytes]:
        return _bytes(self._records.get(_TO + name, {}))

    def _request(self, name: str) -> LettersRequest:
        keys = _bytes(self._records[_KEYS]) if self._step == 1 else {}
        return LettersRequest(self._step, keys, self._letters(name))

    def _tell_progress(self) -> None:
        now = time.monotonic()
        if now - self._said > _QUIET_S:
            self._said = now
            name, most = self._procedure.name, self._procedure.most_steps
            self._parts.observer.progress(f"'{name}', step {self._step} of {most} at most")

    # --- parties ---------------------------------------------------------------------------------
    def _gather(self, grid: Grid) -> dict[str, Member]:
        """All parties, by name. Raises RoundFailed where one doesn't come."""
        federation = self._config.federation
        self._parts.observer.phase(Phase.WAITING)
        attempts = Attempts(federation.round_attempts, self._host)
        for _ in attempts:
            self._host.wait_ready(True)
            deadline = time.monotonic() + federation.round_timeout_s
            wanted = len(self._procedure.parties)
            while len(nodes := sorted(grid.get_node_ids())) < wanted:
                if time.monotonic() > deadline:
                    break
                time.sleep(_POLL_S)
            found, refused = describe(grid, nodes, self._config, [])
            self._host.on_members(found)
            self._parts.observer.members(found, refused)
            if not refused:
                check_parties(self._procedure, [one.name for one in found])
                return {one.name: one for one in found}
            if not attempts.another():
                raise round_failed("every party must take part", refused)
            time.sleep(federation.retry_wait_s)
        raise AssertionError("unreachable: attempts don't end by themselves")

    def _own_seat(self) -> Seat:
        parts, run = self._parts, self._parts.run_directory.path.name
        assert parts.identity is not None
        seed, procedure = self._config.federation.seed, self._procedure

        def fresh(purpose: str) -> bytes:
            if parts.keep_journal:
                return secrets.token_bytes(32)
            return simulated_secret(seed, purpose, COORDINATOR)

        def make(me: Me) -> Party:
            return procedure.coordinator(with_rows(me, study=self._config.federation.name))

        roster = {**parts.roster, COORDINATOR: parts.identity.public}
        who = Who(COORDINATOR, parts.identity, roster, fresh)
        run = run if parts.keep_journal else ""  # of a simulation, whose hospitals know no name
        return Seat(who, Setting.of(self._config, procedure, run), procedure, self._records, make)

    # --- a step ----------------------------------------------------------------------------------
    def _turns(self, grid: Grid, members: Mapping[str, Member]) -> dict[str, LettersReply]:
        """Every party's turn of the present step. Raises RoundFailed."""
        asked = self._asked()
        with ThreadPoolExecutor(1) as pool:
            own = None
            if self._seat is not None and COORDINATOR in asked:
                own = pool.submit(self._seat.take, self._request(COORDINATOR))
            turns = self._hospitals(grid, [members[x] for x in asked if x in members])
            if own is not None:
                try:
                    turns[COORDINATOR] = own.result()
                except (JointRefused, RequestRefused) as error:
                    raise NobodyContributed(f"the joint procedure ends: {error}") from None
        return turns

    def _hospitals(self, grid: Grid, members: list[Member]) -> dict[str, LettersReply]:
        messenger = Messenger(
            grid=grid,
            timeout_s=self._config.federation.round_timeout_s,
            observer=self._parts.observer,
        )
        turns: dict[str, LettersReply] = {}
        attempts = Attempts(self._config.federation.round_attempts, self._host)
        for attempt in attempts:
            left = [one for one in members if one.name not in turns]
            refused = self._ask(messenger, left, turns)
            if not refused:
                return turns
            error = round_failed("every party must answer each step", refused)
            if not attempts.another():
                raise error
            self._parts.observer.round_failed(0, attempt, str(error))
            time.sleep(self._config.federation.retry_wait_s)
            self._host.wait_ready(True)
        raise AssertionError("unreachable: attempts don't end by themselves")

    def _ask(
        self, messenger: Messenger, members: list[Member], turns: dict[str, LettersReply]
    ) -> list[dict[str, str]]:
        """Ask these for the present step; their turns are added. Gives why others lack."""
        requests = [
            Message(self._request(one.name).to_records(), one.node_id, LettersRequest.type)
            for one in members
        ]
        refused = []
        for member, _, reply in messenger.exchange(requests, members):
            try:
                turns[member.name] = self._turn(member, messenger.in_time(reply))
                messenger.tell_used(member.name, "letters")
            except ReplyRefused as error:
                refused.append(messenger.tell_refused(member.name, "letters", error))
        return refused

    def _turn(self, member: Member, reply: Message) -> LettersReply:
        if reply.has_error():
            reason = reply.error.reason or "no reason"
            if code_of(reply.error.code) is Code.JOINT_ENDS:
                raise NobodyContributed(f"the joint procedure ends: {reason}", who=member.name)
            raise ReplyRefused(failed(reason))
        turn = LettersReply.from_records(reply.content)
        if (turn.key is None) == (self._step == 0):
            raise ReplyRefused("its key of the run is lacking or not expected")
        others = set(self._asked()) | self._over()
        most = self._procedure.letter_bytes + SEAL_BYTES
        if not set(turn.letters) <= others - {member.name} or any(
            len(one) > most for one in turn.letters.values()
        ):
            raise ReplyRefused("its letters are not those of the plan")
        told = self._procedure.told
        if (turn.told and not turn.over) or not all(
            len(text) <= told.get(name, -1) for name, text in turn.told.items()
        ):
            raise ReplyRefused("what it tells is not what the plan has")
        return turn

    def _commit(self, turns: Mapping[str, LettersReply]) -> None:
        """The step counts from now on."""
        if self._step == 0:
            keys = {name: turn.key for name, turn in turns.items() if turn.key is not None}
            self._records[_KEYS] = ConfigRecord(dict(keys))
        for name in [one for one in self._records if one.startswith(_TO)]:
            del self._records[name]
        for name in self._asked():
            letters = {who: one.letters[name] for who, one in turns.items() if name in one.letters}
            if letters:
                self._records[_TO + name] = ConfigRecord(dict(letters))
        for name, turn in turns.items():
            if turn.over:
                self._records[_TOLD + name] = ConfigRecord(dict(turn.told))
        self._records[_RUN] = ConfigRecord({"step": self._step + 1})
        if self._store is not None:
            self._store.save()

    # --- the end ---------------------------------------------------------------------------------
    def _finish(self) -> Answered:
        told: dict[str, str] = {}
        for party in sorted(self._over()):
            for name, text in _texts(self._records[_TOLD + party]).items():
                if told.setdefault(name, text) != text:
                    raise NobodyContributed(
                        f"the parties tell different things ({name}): the run's result is none"
                    )
        files = self._procedure.published(told)
        for name, text in files.items():
            write_atomically(self._parts.run_directory.path / name, text.encode())
        names = sorted(self._procedure.parties)
        self._parts.run_directory.update(
            status="complete",
            procedure=self._procedure.name,
            published=sorted(files),
            answered=names,
        )
        return Answered([], names, files)


def _bytes(record: Any) -> dict[str, bytes]:
    return {str(name): bytes(one) for name, one in record.items()}


def _texts(record: Any) -> dict[str, str]:
    return {str(name): str(one) for name, one in record.items()}
