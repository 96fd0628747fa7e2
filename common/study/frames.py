"""What a researcher, coordinator or hospital says to a network's server about studies, and hears.

Each is one JSON object in one gRPC message, checked strictly: another type, an unknown key or an
impossible number is refused. Who says it is in no frame: the certificate of the connection is.

    Submit, List, Show, Abort, Rerun, Describe     a call and its answer
    Watch                                          a call, and a Watched whenever something changed
    Fetch                                          a call, a FileHead, then pieces of raw bytes
"""

from __future__ import annotations

from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wardround.common.errors import TransportError
from wardround.common.names import HospitalName
from wardround.common.study.states import State
from wardround.common.study.study import MOST_BYTES
from wardround.common.text import one_line

SERVICE = "/wardround.Studies/"
PIECE_BYTES = 1 << 20
"""Of a file that is fetched, in one message."""
MOST_REASON = 1000
MOST_LISTED = 1000
_MOST_CALL_BYTES = 1 << 16
_MOST_STUDY_CALL_BYTES = 2 * MOST_BYTES
"""A study's text is escaped once more in JSON."""
_MOST_ANSWER_BYTES = 8 << 20

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Which = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""A study by its name, or by how its id begins."""
Reason = Annotated[str, Field(max_length=MOST_REASON)]
Time = Annotated[float, Field(ge=0, lt=2**40, allow_inf_nan=False)]
"""Unix seconds of the database's clock."""
Count = Annotated[int, Field(ge=0, lt=2**53)]
Short = Annotated[str, Field(max_length=200)]
Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
StudyText = Annotated[str, Field(max_length=MOST_BYTES)]
Names = Annotated[tuple[HospitalName, ...], Field(max_length=10_000)]


class Frame(BaseModel):
    """One object of the interface."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def to_bytes(self) -> bytes:
        """As it travels."""
        return self.model_dump_json().encode()

    @classmethod
    def most_bytes(cls) -> int:
        """More than that is none."""
        return _MOST_CALL_BYTES if issubclass(cls, Call) else _MOST_ANSWER_BYTES

    @classmethod
    def read(cls, data: bytes) -> Self:
        """The frame in ``data``. Raises TransportError for anything but exactly one."""
        name = cls.__name__
        if len(data) > cls.most_bytes():
            raise TransportError(f"{name}: has {len(data)} bytes, and at most {cls.most_bytes()}")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_input=False, include_context=False)[0]
            place = one_line(".".join(str(part) for part in first["loc"]) or "as a whole", 60)
            raise TransportError(f"{name}: '{place}': {one_line(first['msg'], 100)}") from None


F = TypeVar("F", bound=Frame)


# --- what is asked --------------------------------------------------------------------------------
class Call(Frame):
    """What is asked of the server."""


class Submit(Call):
    """A study under its researcher's signature (hexadecimal)."""

    study: StudyText
    signature: Signature

    @classmethod
    def most_bytes(cls) -> int:
        """A study may be large."""
        return _MOST_STUDY_CALL_BYTES


class Rerun(Submit):
    """A study as another one was, with ``repeat`` counted up."""

    of: Id


class List(Call):
    """The newest studies, in these states, or in all."""

    states: Annotated[tuple[State, ...], Field(max_length=20)] = ()
    most: Annotated[int, Field(ge=1, le=MOST_LISTED)] = 100


class Show(Call):
    """One study."""

    study: Which


class Watch(Call):
    """What happens to a study from after event number ``after`` on, until it is over."""

    study: Which
    after: Count = 0


class Abort(Call):
    """End a study."""

    study: Which
    reason: Annotated[str, Field(min_length=1, max_length=MOST_REASON)]


class Fetch(Call):
    """A file of a study's results, from a byte on."""

    study: Which
    name: Annotated[str, Field(min_length=1, max_length=200)]
    offset: Count = 0


class Describe(Call):
    """The network's signed description, if it is newer than the one that has this order."""

    version: Count
    issued: Annotated[str, Field(max_length=40)]


# --- what is answered -----------------------------------------------------------------------------
class Line(Frame):
    """Where a study stands.

    waiting_for : hospitals that haven't decided, while it waits; a hospital is told of itself only
    round, rounds : of a study that runs: what is done, of how many; 0 where there is none
    ends : nothing is computed after it
    """

    id: Id
    name: HospitalName
    researcher: HospitalName
    state: State
    reason: Reason
    hospitals: Names
    waiting_for: Names
    round: Count
    rounds: Count
    submitted: Time
    changed: Time
    ends: Time


class Submitted(Frame):
    """``new``: False where this very study was there already."""

    line: Line
    new: bool


class Listed(Frame):
    """Newest first. ``more``: there are further ones."""

    studies: Annotated[tuple[Line, ...], Field(max_length=MOST_LISTED)]
    more: bool


class Decision(Frame):
    """What a hospital said to a study: waiting, accepted or rejected."""

    hospital: HospitalName
    word: Short
    reason: Reason
    time: Time


class Shown(Frame):
    """A study. ``signed``: ``SignedStudy.to_bytes`` as text; decisions in the study's order."""

    line: Line
    signed: Annotated[str, Field(max_length=2 * MOST_BYTES)]
    decisions: Annotated[tuple[Decision, ...], Field(max_length=10_000)]


class Event(Frame):
    """One thing that happened to a study, numbered from 1 by what the caller is shown of it."""

    number: Count
    time: Time
    kind: Short
    old: Short
    new: Short
    who: Short
    reason: Reason


class Watched(Frame):
    """Events that are new, and the study as it is now; without an event it is a sign of life."""

    line: Line
    events: Annotated[tuple[Event, ...], Field(max_length=1000)]


class Changed(Frame):
    """The study as it is after the change."""

    line: Line


class FileHead(Frame):
    """A file comes: of ``size`` bytes in all, from ``offset`` on, in the messages that follow."""

    name: Annotated[str, Field(max_length=200)]
    size: Count
    offset: Count


class Described(Frame):
    """``federation.signed`` as text; '' where the caller has the newest."""

    description: Annotated[str, Field(max_length=_MOST_ANSWER_BYTES)]
