"""What a joint procedure is: parties that send each other letters, step after step.

    party 'lab'                          the server                       party 'registry'
    step(n, letters) -> Turn   == sealed letters, carried ==>   step(n + 1, letters) -> Turn

All parties are asked in every step, at the same time, and get what the others sent them in the step
before. Both halves follow from the same settings, as a procedure's of sums do: whom a party writes,
how often and how much at most stands in the plan. A party is a state machine: of the same state,
letters and secret it makes the same bytes, so that one that was killed goes on as if it wasn't.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from numpy.typing import NDArray

from wardround.common.config.load import Config
from wardround.common.errors import ConfigError
from wardround.common.joint.links import Links
from wardround.common.tasks.base import Task

COORDINATOR = "coordinator"
"""The server's own party, in procedures that have one. No hospital of theirs may be called so."""
FEWEST_PARTIES = 2
State = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Turn:
    """What a party gives in a step.

    letters : to parties, by name; to oneself nothing
    over : it needs no more letters, and writes none any more
    told : with ``over``: texts that are published to all who take part, by file name; each one
        printable line, such as JSON. Every party that tells one tells the same
    kept : with ``over``, at a hospital: arrays for its own use that never leave (``Me.links``)
    """

    letters: Mapping[str, bytes] = field(default_factory=dict)
    over: bool = False
    told: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Me:
    """What a party is made of.

    name, parties : its own name, and all parties' in their order; the coordinator isn't among them
    secret : 32 bytes of the operating system's generator, drawn once for a run; in a simulation of
        the run's seed
    session : 32 bytes that stand for run, plan and all parties' keys
    rows : what the task read; None at the coordinator
    study : the study's name
    links : the links that this hospital keeps; None at the coordinator
    workers : processes that may compute at the same time
    state : what ``Party.state`` gave after the last step; None before the first
    """

    name: str
    parties: tuple[str, ...]
    secret: bytes = field(repr=False)
    session: bytes
    rows: Any
    study: str = ""
    links: Links | None = None
    workers: int = 1
    state: State | None = None


class Party(ABC):
    """One party's half."""

    @abstractmethod
    def step(self, number: int, letters: Mapping[str, bytes]) -> Turn:
        """What it gives in a step.

        number : from 0
        letters : by sender, what was sent to it in the step before; each of at most
            ``JointProcedure.letter_bytes``. Nothing else of them was checked

        Raises JointRefused, in fixed words: they are told to everybody.
        """

    @abstractmethod
    def state(self) -> State:
        """All that is needed to go on after the last step. Arrays aren't altered once they were
        given: an array that is the same object isn't written again."""


def check_parties(procedure: JointProcedure, hospitals: Sequence[str]) -> None:
    """Raise ConfigError unless just these hospitals are the procedure's parties."""
    lacking = sorted(set(procedure.parties) - set(hospitals))
    beside = sorted(set(hospitals) - set(procedure.parties))
    if lacking or beside:
        what = f"has no hospital '{lacking[0]}'" if lacking else f"has '{beside[0]}' too"
        raise ConfigError(
            f"the parties of '{procedure.name}' are {', '.join(procedure.parties)}, and the "
            f"federation {what}",
            mend="name in [task.parties] all hospitals that take part, and no other (a network's "
            "study of some of them: study.hospitals)",
        )


class JointProcedure(ABC):
    """A joint procedure; one object for both sides, made of the same settings.

    name : as ``procedure.name`` has it
    has_coordinator : whether the server is a party
    """

    name: ClassVar[str]
    has_coordinator: bool = False

    @classmethod
    @abstractmethod
    def of(cls, config: Config, task: Task[Any]) -> Self:
        """The one that the settings ask for. Raises ConfigError, by key."""

    @property
    @abstractmethod
    def parties(self) -> tuple[str, ...]:
        """Names of the hospitals that take part, ordered: all of a federation or study."""

    @property
    @abstractmethod
    def most_steps(self) -> int:
        """The most steps that it may take: it stands in the plan."""

    @property
    @abstractmethod
    def letter_bytes(self) -> int:
        """The most bytes of a letter, before it is sealed: it stands in the plan."""

    def reads(self, name: str) -> bool:
        """Whether a party needs the rows that it has."""
        return True

    @property
    def told(self) -> Mapping[str, int]:
        """Names of the texts that are told at the end, each with its most characters."""
        return {}

    @abstractmethod
    def party(self, me: Me) -> Party:
        """A hospital's half. Raises DataError by place, JointRefused."""

    def published(self, told: Mapping[str, str]) -> Mapping[str, str]:
        """At the server, of what was told: the texts of all files that are published, by name.
        JSON is indented; a text that is none stays as it is."""
        return {
            name: _indented(text) if name.endswith(".json") else text for name, text in told.items()
        }

    def coordinator(self, me: Me) -> Party:
        """The server's half, where it has one."""
        raise NotImplementedError


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
    except (ValueError, RecursionError):
        return text
