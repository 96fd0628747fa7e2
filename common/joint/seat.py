"""A party at work: its key, its turns, and what it must not forget.

What a step gives is kept with the party's state before it leaves, in the records of whoever hosts
the party, who stores them first. Asked again by the same bytes, a seat gives the same bytes; asked
something else for a step that it has taken, or out of turn, it refuses. So no letter is sealed
twice under one nonce with other contents, and no correlated randomness meets two inputs, whoever
was killed when.

What a party refuses it has refused for good. Whoever carries letters and works together with one
party could else try one letter after the other on the same step, and read of each refusal a bit of
the rows that it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from numpy.typing import NDArray

from wardround.common.errors import JointRefused, RequestRefused
from wardround.common.joint.party import JointProcedure, Me, Party, State, Turn
from wardround.common.joint.sealing import Session, Setting, signed_key
from wardround.common.protocol.letters import LettersReply, LettersRequest
from wardround.common.rng import derive_seed
from wardround.common.trust.identity import Identity, Roster, digest

_OWN, _KEYS, _OUT, _TOLD, _STATE = "joint", "joint/keys", "joint/letters", "joint/told", "joint:"
_ENDED = "ended"
_NO_DIGEST = b"\0" * 32


@dataclass(frozen=True)
class Who:
    """A party as its host knows it.

    roster : the long-term key of every party, the coordinator's among them
    fresh : gives 32 secret bytes for a purpose
    keep : is given what a party keeps for itself at the end, before that is told
    """

    name: str
    identity: Identity
    roster: Roster
    fresh: Callable[[str], bytes]
    keep: Callable[[Turn, bytes], None] = lambda turn, session: None


class Seat:
    """One party of one run.

    Parameters
    ----------
    records : what its host stores; keys of ours begin with 'joint'
    make : the party, of what the seat knows of it; with its last state where it goes on
    """

    def __init__(
        self,
        who: Who,
        setting: Setting,
        procedure: JointProcedure,
        records: RecordDict,
        make: Callable[[Me], Party],
    ) -> None:
        self._who, self._setting, self._procedure = who, setting, procedure
        self._records, self._make = records, make
        self._party: Party | None = None
        self._session: Session | None = None
        self._live: State = {}

    def take(self, request: LettersRequest) -> LettersReply:
        """The turn that a request asks for. Raises RequestRefused out of turn, JointRefused."""
        own = self._own()
        if own["step"] >= 0 and request.step == own["step"]:
            if own["asked"] != _asked(request):
                raise RequestRefused("this step was taken already, with other letters")
            return self._kept()
        if own.get(_ENDED):
            raise JointRefused(own[_ENDED])
        if request.step != own["step"] + 1 or own["over"]:
            raise RequestRefused(
                f"step {request.step} of the joint procedure is not this party's next one"
            )
        if request.step == 0:
            if request.keys or request.letters:
                raise RequestRefused("the first request brings neither keys nor letters")
            self._keep(own, request, Turn(), {})
            return self._kept()
        session = self._with_session(own, request)
        letters = session.opened(request.step - 1, request.letters)
        if request.step == 1 and letters:
            raise RequestRefused("there are no letters before the first step")
        self._check_sizes(letters)
        party, self._party = self._party or self._make(self._me(own, session)), None
        try:
            turn = party.step(request.step - 1, letters)
            self._check(turn)
            if turn.over:
                self._who.keep(turn, session.digest)
        except JointRefused as error:
            self._records[_OWN] = ConfigRecord({**own, _ENDED: str(error)})
            raise
        self._party = party  # one that failed on its way isn't asked again: its state is of before
        self._keep(own, request, turn, session.sealed(request.step, turn.letters), party.state())
        return self._kept()

    # --- what it knows ---------------------------------------------------------------------------
    def _own(self) -> dict[str, Any]:
        """Of this run; what an earlier run left is forgotten."""
        found = self._records.get(_OWN)
        if isinstance(found, ConfigRecord) and found["run"] == self._setting.run:
            return dict(found)
        for name in [one for one in self._records if one.startswith(_OWN)]:
            del self._records[name]
        return {
            "run": self._setting.run,
            "step": -1,
            "asked": _NO_DIGEST,
            "over": False,
            "secret": self._who.fresh("secret"),
            "key": self._who.fresh("key"),
        }

    def _with_session(self, own: Mapping[str, Any], request: LettersRequest) -> Session:
        shown: Mapping[str, bytes] = request.keys
        if request.step > 1:
            if shown:
                raise RequestRefused("keys are shown once")
            shown = _bytes(self._records[_KEYS])
        if self._session is None or request.step == 1:
            roster = self._who.roster
            self._session = Session.of(self._setting, self._who.name, own["key"], shown, roster)
            self._records[_KEYS] = ConfigRecord(dict(shown))
        return self._session

    def _me(self, own: Mapping[str, Any], session: Session) -> Me:
        state = {
            name.removeprefix(_STATE): _array(record)
            for name, record in self._records.items()
            if name.startswith(_STATE) and isinstance(record, ConfigRecord)
        }
        self._live = dict(state)
        return Me(
            name=self._who.name,
            parties=self._procedure.parties,
            secret=own["secret"],
            session=session.digest,
            rows=None,
            state=state if own["step"] >= 1 else None,
        )

    # --- what it gives ---------------------------------------------------------------------------
    def _check_sizes(self, letters: Mapping[str, bytes]) -> None:
        if any(len(text) > self._procedure.letter_bytes for text in letters.values()):
            raise JointRefused("a letter is longer than the plan has it")

    def _check(self, turn: Turn) -> None:
        """A mistake of the procedure's own."""
        others = set(self._setting.parties) - {self._who.name}
        if not set(turn.letters) <= others:
            raise JointRefused("a party writes to somebody who is none")
        if turn.over and turn.letters:
            raise JointRefused("a party that is over writes letters")
        self._check_sizes(turn.letters)
        most = self._procedure.told
        if not all(
            len(text) <= most.get(name, -1) and text.isprintable()
            for name, text in turn.told.items()
        ):
            raise JointRefused("what a party tells is not what the plan has")

    def _keep(
        self,
        own: Mapping[str, Any],
        request: LettersRequest,
        turn: Turn,
        sealed: Mapping[str, bytes],
        state: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        now = {**own, "step": request.step, "asked": _asked(request), "over": turn.over}
        self._records[_OWN] = ConfigRecord(now)
        self._records[_OUT] = ConfigRecord(dict(sealed))
        self._records[_TOLD] = ConfigRecord(dict(turn.told))
        state = dict(state or {}) if not turn.over else {}  # of no use any more
        for name in [one for one in self._live if one not in state]:
            self._records.pop(_STATE + name, None)
        for name, array in state.items():
            if self._live.get(name) is not array:
                self._records[_STATE + name] = _record(array)
        self._live = dict(state)

    def _kept(self) -> LettersReply:
        own = self._own()
        key = None
        if own["step"] == 0:
            key = signed_key(self._setting, self._who.name, own["key"], self._who.identity)
        told = {name: str(text) for name, text in self._part(_TOLD).items()}
        letters = _bytes(self._part(_OUT))
        return LettersReply(key, letters, bool(own["over"]), told)

    def _part(self, name: str) -> ConfigRecord:
        found = self._records[name]
        assert isinstance(found, ConfigRecord)
        return found


def with_rows(me: Me, **what: Any) -> Me:
    """The same with what only its host knows: rows, links, study, workers."""
    return replace(me, **what)


def simulated_secret(seed: int, purpose: str, name: str) -> bytes:
    """What a simulated party draws, 32 bytes: the same in each run of a seed."""
    drawn = derive_seed(seed, "joint", purpose, name)
    return digest("simulated joint secret", drawn.to_bytes(8, "big"))


def _asked(request: LettersRequest) -> bytes:
    """A digest of all that a request brings."""
    parts = [request.step.to_bytes(8, "big")]
    for record in (request.keys, request.letters):
        parts.append(len(record).to_bytes(8, "big"))
        for name in sorted(record):
            parts += [name.encode(), record[name]]
    return digest("joint request", *parts)


def _bytes(record: Any) -> dict[str, bytes]:
    return {str(name): bytes(one) for name, one in record.items()}


def _record(array: NDArray[Any]) -> ConfigRecord:
    """An array of any numbers as a record: type, sides, bytes."""
    array = np.asarray(array)
    sides = ",".join(map(str, array.shape))
    return ConfigRecord({"type": array.dtype.str, "shape": sides, "data": array.tobytes()})


def _array(record: ConfigRecord) -> NDArray[Any]:
    sides = [int(side) for side in str(record["shape"]).split(",") if side]
    data = record["data"]
    assert isinstance(data, bytes)
    found: NDArray[Any] = np.frombuffer(data, np.dtype(str(record["type"]))).reshape(sides)
    return found
