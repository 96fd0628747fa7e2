"""A joint procedure of a few lines, and its parties played against each other without a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from flwr.app import RecordDict

from wardround.common.errors import JointRefused
from wardround.common.joint.party import COORDINATOR, JointProcedure, Me, Party, State, Turn
from wardround.common.joint.sealing import Setting
from wardround.common.joint.seat import Seat, Who
from wardround.common.protocol.letters import LettersReply, LettersRequest
from wardround.common.trust.identity import Identity

TURNS = 3


class Counts(Party):
    """Sends its own sum of what it has got so far, plus its number, to everybody."""

    def __init__(self, me: Me) -> None:
        self.me, self.turns = me, 0
        self.total = np.array([me.secret[0]], np.uint64) if me.state is None else me.state["sum"]
        self._large = np.zeros(5, np.uint16) if me.state is None else me.state["large"]
        self.others = {*me.parties, COORDINATOR} - {me.name}

    def step(self, number: int, letters: Mapping[str, bytes]) -> Turn:
        self.turns += 1
        if number and set(letters) != self.others:
            raise JointRefused("a letter is lacking")
        self.total = self.total + sum(int.from_bytes(one, "big") for one in letters.values())
        if number == TURNS:
            return Turn(over=True, told={"sum.json": "{}"}, kept={"sum": self.total})
        text = int(self.total[0]).to_bytes(8, "big")
        return Turn(dict.fromkeys(self.others, text))

    def state(self) -> State:
        return {"sum": self.total, "large": self._large}


class Counting(JointProcedure):
    """Of parties 'a' and 'b', and the coordinator."""

    name: ClassVar[str] = "counting"
    has_coordinator = True
    parties = ("a", "b")
    most_steps = TURNS + 1
    letter_bytes = 8
    told: Mapping[str, int] = {"sum.json": 2}

    @classmethod
    def of(cls, config: Any, task: Any) -> Self:
        return cls()

    def party(self, me: Me) -> Party:
        return Counts(me)

    coordinator = party


class Table:
    """All seats of a run, and who sits there."""

    def __init__(self, run: str = "run") -> None:
        self.procedure, self.names = Counting(), ("a", "b", COORDINATOR)
        self.identities = {name: Identity.generate() for name in self.names}
        self.records = {name: RecordDict() for name in self.names}
        self.kept: dict[str, Turn] = {}
        self.setting = Setting(run, b"d" * 32, tuple(sorted(self.names)))
        self.seats = {name: self.seat(name) for name in self.names}

    @property
    def roster(self) -> dict[str, bytes]:
        return {name: one.public for name, one in self.identities.items()}

    def seat(self, name: str, identity: Identity | None = None) -> Seat:
        """A process that begins, or begins again."""
        who = Who(
            name,
            identity or self.identities[name],
            self.roster,
            lambda purpose: (name + purpose).encode().ljust(32, b"."),
            lambda turn, session: self.kept.update({name: turn}),
        )
        return Seat(who, self.setting, self.procedure, self.records[name], self.procedure.party)

    def requests(self, step: int, turns: Mapping[str, LettersReply]) -> dict[str, LettersRequest]:
        """What a server makes of the turns of the step before."""
        keys = {name: one.key for name, one in turns.items() if one.key} if step == 1 else {}
        return {
            name: LettersRequest(
                step,
                keys,
                {who: one.letters[name] for who, one in turns.items() if name in one.letters},
            )
            for name in self.names
        }

    def play(
        self, steps: int, again: Mapping[int, str] | None = None
    ) -> list[dict[str, LettersReply]]:
        """So many steps, from the first; ``again``: whose process is another before which."""
        turns: dict[str, LettersReply] = {}
        found = []
        for step in range(steps):
            if name := (again or {}).get(step):
                self.seats[name] = self.seat(name)
            asked = self.requests(step, turns)
            turns = {name: self.seats[name].take(asked[name]) for name in self.names}
            found.append(turns)
        return found
