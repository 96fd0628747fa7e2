"""What the database of studies holds, as values: times are Unix seconds of the database's clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from wardround.common.errors import StudyRefused
from wardround.common.names import HOSPITAL_NAME
from wardround.common.study.states import State

Word = Literal["waiting", "accepted", "rejected"]
"""What a hospital has said to a study."""
What = Literal["results", "ended"]
"""What a hospital is owed when a study is over: files, and the notice."""
Kind = Literal["state", "claim", "decision", "delivery"]

ID = re.compile(r"[0-9a-f]{64}")
MOST_NAME, MOST_WHO, MOST_REASON = 100, 200, 1000
MOST_BODY_BYTES, MOST_HOSPITALS = 1 << 20, 1000


@dataclass(frozen=True)
class NewStudy:
    """A study to be kept. Raises StudyRefused for one that no network has.

    id : hex SHA-256 of what the researcher signed
    body : the signed study, byte for byte
    hospitals : those that are wanted, and nobody else's business
    ends : after this nothing is computed
    """

    id: str
    name: str
    researcher: str
    hospitals: tuple[str, ...]
    body: bytes
    ends: float

    def __post_init__(self) -> None:
        if not ID.fullmatch(self.id):
            raise StudyRefused("a study's id is 64 hexadecimal digits")
        for name in (self.name, self.researcher, *self.hospitals):
            if not HOSPITAL_NAME.fullmatch(name) or len(name) > MOST_NAME:
                raise StudyRefused(f"'{name[:40]!s}' can't be a name", who=f"study {self.id[:12]}")
        if not 0 < len(self.hospitals) == len(set(self.hospitals)) <= MOST_HOSPITALS:
            raise StudyRefused(
                f"wants from 1 to {MOST_HOSPITALS} hospitals, each once", who=f"study '{self.name}'"
            )
        if len(self.body) > MOST_BODY_BYTES:
            raise StudyRefused(
                f"has {len(self.body)} bytes, and {MOST_BODY_BYTES} are allowed",
                who=f"study '{self.name}'",
                mend="what is large is named by its digest",
            )


@dataclass(frozen=True)
class StudyRow:
    """Where a study stands; its signed bytes are ``StudyStore.body``.

    number : of the event that brought it: studies in the order of their submission
    fence : grows with each claim; a change is made only by who knows the present one
    owner, lease_until : of a running study: which server's, and until when without a word from it
    """

    id: str
    number: int
    name: str
    researcher: str
    hospitals: tuple[str, ...]
    state: State
    fence: int
    owner: str
    lease_until: float
    reason: str
    submitted: float
    changed: float
    ends: float


@dataclass(frozen=True)
class Event:
    """One thing that happened to a study. Numbers of a database have no gap, and rise in the order
    in which the changes were made.

    kind : 'state': of the study, from old to new; 'claim': running, taken over from a server that
        was silent; 'decision': of the hospital ``who``; 'delivery': to the hospital ``who``, and
        ``reason`` says of what
    """

    number: int
    study: str
    time: float
    kind: Kind
    old: str
    new: str
    who: str
    reason: str


@dataclass(frozen=True)
class Decision:
    """What a hospital has said to a study."""

    hospital: str
    word: Word
    reason: str
    time: float


@dataclass(frozen=True)
class Delivery:
    """What a hospital gets, or got, at the end of a study."""

    study: str
    hospital: str
    what: What
    done: bool
    time: float
