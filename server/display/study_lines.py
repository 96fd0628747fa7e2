"""What a network's board keeps of each study: one bounded line, and its events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from wardround.common.text import one_line
from wardround.server.display.board_rows import short

Word = Literal["waiting", "accepted", "rejected"]
OVER = frozenset({"complete", "failed", "aborted", "expired"})
MOST_HOSPITALS = 1000
_PURPOSE = 500


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a hospital has said of a study: it is 'waiting' for a person there, or has decided.

    reason : a person's, of a rejection; the coordinator, the owner and the hospital itself see it
    """

    word: Word = "waiting"
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class StudyLine:
    """One study as its list shows it; times are seconds since 1970.

    Attributes
    ----------
    id : 64 hexadecimal digits
    name, purpose : in its researcher's words
    owner : the researcher's name
    state : a word of the study's life, from 'submitted' to 'complete', 'failed', 'aborted' or
        'expired'
    rounds : how many are planned
    hospitals : those that are wanted, each with its word; nobody else's people see the study
    reason : of the state, such as why it failed; '' where there is nothing to say
    submitted, changed : when it came, and when its state last changed
    ends : its end date, in ISO; '' unknown
    """

    id: str
    name: str
    owner: str
    state: str
    rounds: int = 0
    purpose: str = ""
    hospitals: Mapping[str, Said] = field(default_factory=dict)
    reason: str = ""
    submitted: float = 0.0
    changed: float = 0.0
    ends: str = ""

    @property
    def over(self) -> bool:
        """Nothing follows its state."""
        return self.state in OVER

    def shown(self, server_round: int) -> dict[str, Any]:
        """Ready for JSON, every text cut; ``server_round`` is the one that runs, or ran last."""
        said = sorted(self.hospitals.items())[:MOST_HOSPITALS]
        return {
            "id": self.id,
            "name": short(self.name),
            "owner": short(self.owner),
            "purpose": one_line(self.purpose, _PURPOSE) if self.purpose else "",
            "state": short(self.state),
            "over": self.over,
            "round": server_round,
            "rounds": self.rounds,
            "hospitals": [
                {"name": short(name), "word": one.word, "reason": _cut(one.reason)}
                for name, one in said
            ],
            "waiting_for": self.waiting_for(),
            "reason": _cut(self.reason),
            "submitted": self.submitted,
            "changed": self.changed,
            "ends": short(self.ends),
        }

    def waiting_for(self) -> list[str]:
        """Who has to do something before it goes on: hospitals by name, 'the server' or, of a study
        in the queue, 'a free place'; nobody of one that runs or is over."""
        if self.state == "waiting":
            open_ones = [name for name, one in self.hospitals.items() if one.word == "waiting"]
            return sorted(short(name) for name in open_ones)[:MOST_HOSPITALS] or ["the server"]
        return {"submitted": ["the server"], "queued": ["a free place"]}.get(self.state, [])


@dataclass(frozen=True, kw_only=True)
class StudyEvent:
    """What happened to a study: when (seconds since 1970), from what to what, who and why.

    number : grows with every event of the network, as the database counts them; one that the board
        has already is not shown twice. Nobody is shown it: it tells of other studies
    kind : 'state' or 'claim' (a server took it in hand): ``old`` and ``new`` are states;
        'decision': the words of the hospital ``who``; 'delivery': to it
    """

    number: int
    time: float
    old: str
    new: str
    who: str = ""
    reason: str = ""
    kind: str = "state"

    def shown(self) -> dict[str, Any]:
        """Ready for JSON, every text cut."""
        return {
            "kind": short(self.kind),
            "time": self.time,
            "old": short(self.old),
            "new": short(self.new),
            "who": short(self.who),
            "reason": _cut(self.reason),
        }


def _cut(text: str) -> str:
    return one_line(text) if text else ""
