"""Parties of a vertical regression in this process, whose rows stand for ``LinkedRows``. They
differ in scale, have a constant column, a category that nobody or few have, and two-valued ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.common.vertical.table import DEALER, Sent, carried
from wardround.common.joint.links import Link
from wardround.common.joint.party import Me, Party, State, Turn
from wardround.common.settings import VerticalOptions
from wardround.common.tasks.linked.options import LinkedOptions
from wardround.common.vertical.procedure import Vertical

SESSION = b"s" * 32


@dataclass(frozen=True)
class Rows:
    """The interface of ``LinkedRows`` that a regression uses."""

    values: Mapping[str, Any]
    own: Any
    result: Any = None

    @property
    def keys(self) -> list[bytes]:
        return [b"%d" % row for row in range(len(self))]

    def __len__(self) -> int:
        return len(next(iter(self.values.values()), self.result))

    @property
    def columns(self) -> tuple[str, ...]:
        levels = [f"{n}={text}" for n, texts in self.own.categorical.items() for text in texts[1:]]
        return (*self.own.numeric, *levels)

    def numbers(self, column: str) -> Any:
        name, _, text = column.partition("=")
        return (self.values[name] == text).astype(float) if text else self.values[name]

    @property
    def outcome(self) -> Any:
        return self.result

    @property
    def time(self) -> Any:
        return self.result[:, 0]

    @property
    def event(self) -> Any:
        return self.result[:, 1]

    def select(self, rows: Any) -> Rows:
        chosen = {name: values[rows] for name, values in self.values.items()}
        return Rows(chosen, self.own, None if self.result is None else self.result[rows])


@dataclass
class Consortium:
    """Of named columns of parties: numbers, or texts with their levels.

    columns : of each party, its arrays by name
    levels : of those that are texts
    outcome : (holder, array); of survival its columns are time and event
    """

    columns: Mapping[str, Mapping[str, Any]]
    outcome: tuple[str, Any]
    levels: Mapping[str, list[str]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    digests: Mapping[str, bytes] = field(default_factory=dict)
    session: bytes = SESSION

    def __post_init__(self) -> None:
        survival = self.options.get("model") == "cox"
        asked = {"time": "t", "event": "e"} if survival else {"outcome": "y"}
        parties: dict[str, Any] = {
            name: {
                "numeric": [one for one in columns if one not in self.levels],
                "categorical": {one: self.levels[one] for one in columns if one in self.levels},
                **(asked if name == self.outcome[0] else {}),
            }
            for name, columns in self.columns.items()
        }
        self.task = LinkedOptions(identifiers={"nhs_number": "nhs"}, parties=parties)
        given: dict[str, Any] = {"model": "logistic", "link": "l", "padded": 8} | dict(self.options)
        self.procedure = Vertical(VerticalOptions(**given), self.task)

    def party(self, name: str, state: State | None = None) -> Party:
        """One of them, or the dealer; new or with its state."""
        rows = links = None
        if name in self.columns:
            mine = self.outcome[1] if name == self.outcome[0] else None
            rows = Rows(self.columns[name], self.task.parties[name], mine)
            link = Link(np.arange(len(self.outcome[1])), self.digests.get(name, b"d" * 32))
            links = SimpleNamespace(open=lambda *_: link)
        parties = self.procedure.parties
        me = Me(name, parties, name.encode().ljust(32), self.session, rows, "s", links, 1, state)
        dealer = name == DEALER
        return self.procedure.coordinator(me) if dealer else self.procedure.party(me)

    def run(
        self, before: Callable[[int, dict[str, Party]], None] | None = None
    ) -> tuple[dict[str, Turn], Sent]:
        """All steps; last turns, and what was sent."""
        extra = [DEALER] if self.procedure.has_coordinator else []
        parties = {name: self.party(name) for name in (*self.procedure.parties, *extra)}
        return carried(parties, self.procedure.most_steps, before)
