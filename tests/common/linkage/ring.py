"""Parties of a linkage in one process: who sends whom what, with all letters kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.joint.party import COORDINATOR, Me, Party, State, Turn
from wardround.common.linkage.procedure import Linkage
from wardround.common.settings import LinkageOptions

SESSION = b"s" * 32


@dataclass
class Ring:
    """A run.

    rows : keys of each party's rows
    restarts : steps before which every party is made again, of its state
    seen : by party, every letter that it was sent: (step, sender, text)
    """

    rows: Mapping[str, Sequence[bytes | None]]
    options: dict[str, Any]
    restarts: frozenset[int] = frozenset()
    session: bytes = SESSION
    links: Mapping[str, Any] = field(default_factory=dict)
    seen: dict[str, list[tuple[int, str, bytes]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = tuple(sorted(self.rows))
        self.procedure = Linkage(self.names, LinkageOptions(**self.options))
        self.here = (*self.names, *([COORDINATOR] if self.procedure.has_coordinator else []))

    def secret(self, name: str) -> bytes:
        """A party's own."""
        return name.encode().ljust(32, b"!")

    def party(self, name: str, state: State | None) -> Party:
        """One of them, new or with its state."""
        me = Me(
            name=name,
            parties=self.names,
            secret=self.secret(name),
            session=self.session,
            rows=SimpleNamespace(keys=self.rows.get(name)),
            links=self.links.get(name),
            state=state,
        )
        make = self.procedure.coordinator if name == COORDINATOR else self.procedure.party
        return make(me)

    def change(self, number: int, sender: str, letters: dict[str, bytes]) -> dict[str, bytes]:
        """What a sender sends instead; for tests of those who don't follow."""
        return letters

    def run(self) -> dict[str, Turn]:
        """All steps; the last turn of each."""
        parties = {name: self.party(name, None) for name in self.here}
        post: dict[str, dict[str, bytes]] = {name: {} for name in self.here}
        last: dict[str, Turn] = {}
        for number in range(self.procedure.most_steps):
            sent: dict[str, dict[str, bytes]] = {name: {} for name in self.here}
            for name in self.here:
                if name in last:
                    continue
                if number in self.restarts:
                    parties[name] = self.party(name, {**parties[name].state()})
                turn = parties[name].step(number, post[name])
                if turn.over:
                    assert not turn.letters
                    last[name] = turn
                for to, text in self.change(number, name, dict(turn.letters)).items():
                    assert len(text) <= self.procedure.letter_bytes
                    sent[to][name] = text
                    self.seen.setdefault(to, []).append((number, name, text))
            post = sent
        assert set(last) == set(self.here)
        return last

    def linked(self) -> dict[str, list[int]]:
        """Row numbers in the agreed order, by party."""
        found: dict[str, NDArray[np.int64]] = {
            name: turn.kept["rows"] for name, turn in self.run().items() if name in self.names
        }
        return {name: rows.tolist() for name, rows in found.items()}
