"""What goes over a stream: frames, each one gRPC message of at most about 1 MiB.

The first byte tells the kind; a ``Chunk`` is a piece of a message's body, all others are small JSON
objects, checked strictly: another type, an unknown key or an impossible number is refused.

A message has an ``id``, the same wherever and however often it is sent, and on each connection a
``number`` that its sender gives it, from 1 and without a gap: the two directions count apart. What
a receiver says of a message that is coming (Have, Got) names the number; what is said for good
(Done, Failed, Drop) names the id, and so may also come over a later connection.

    hospital                                   server
    Hello                              ->
                                       <-      Welcome, or Refused
    Start, Chunk ...                   <->     Start, Chunk ...       messages, both ways
    Have (go on from here), Got, Done, Failed  about the other side's messages
    Ping                               <->     Ping                   every heartbeat
    Heads                              <->     Heads                  audit heads, countersigned
    Again                              ->                             decided: show the plan again
"""

from __future__ import annotations

import struct
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wardround.common.errors import TransportError
from wardround.common.text import one_line

CHUNK_BYTES = 1 << 20
MOST_FRAME_BYTES = 8 << 20
"""The signed description travels in one frame, a Welcome."""
_MOST_CONTROL_BYTES = 1 << 16
WIRE_VERSION = 4
"""Version of these frames; both sides must speak the same."""
METHOD = "/wardround.Federation/Connect"
TIME_METHOD = "/wardround.Federation/Time"
_CHUNK = 0
_HEAD = struct.Struct(">BIQ")

MOST_TEXT = 2000
Text = Annotated[str, Field(max_length=MOST_TEXT)]
Short = Annotated[str, Field(max_length=100, pattern=r"^[ -~]*$")]
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
StudyId = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
Instance = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Number = Annotated[int, Field(ge=0, lt=2**32)]
Size = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class Frame(BaseModel):
    """A control frame."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def to_bytes(self) -> bytes:
        """As it travels."""
        return bytes([_TAGS[type(self)]]) + self.model_dump_json().encode()


class Hello(Frame):
    """A hospital introduces itself. ``instance`` is new with every start of its process;
    ``description``: the version of the signed description that it has, ``issued`` when that was
    signed (ISO 8601)."""

    wire: Number
    version: Short
    instance: Instance
    description: Number
    issued: Short


class Welcome(Frame):
    """The server accepts. ``description``: the signed description, if the hospital's is older.

    Said once more on a connection when the description has changed, or was signed anew; only that
    counts then.
    """

    instance: Instance
    heartbeat_s: Seconds
    lease_s: Seconds
    most_bytes: Size
    description: str = ""


class Refused(Frame):
    """The server doesn't accept; ``code`` for programs, ``reason`` for people."""

    code: Literal["enrolment", "revoked", "twin", "version", "busy", "limits"]
    reason: Text


class Start(Frame):
    """A message begins: ``number`` names its chunks on this connection, ``id`` everywhere.
    ``study``: which study of a network it is about; '' in a federation that is one.

    An error has a reason for people, a code for programs (``common/protocol/errors.py``; 0: none)
    and no body.
    """

    number: Number
    id: Id
    kind: Literal["request", "reply", "error"]
    type: Short
    study: StudyId = ""
    reply_to: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    size_bytes: Size = 0
    digest: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    reason: Text = ""
    code: Number = 0


class Have(Frame):
    """So much of a message is here (0 of a new one); send the rest. A large message's sender waits
    for it: what came over an earlier connection isn't sent twice."""

    number: Number
    offset: Size


class Got(Frame):
    """So much of a message has come; the sender may send more. For large messages only: it keeps
    few chunks on their way, and tells the sender how fast the link is."""

    number: Number
    offset: Size


class Done(Frame):
    """A message is here as a whole, and its sender may forget it."""

    id: Id


class Failed(Frame):
    """A message is refused. ``again``: it was damaged on the way, so send it once more, from its
    beginning; a sender does so twice."""

    id: Id
    reason: Text
    again: bool = False


class Drop(Frame):
    """A message is no longer of interest: don't begin to answer it, forget what came of it."""

    id: Id


class Ping(Frame):
    """Sign of life."""


class Heads(Frame):
    """The sender's signed audit head, and its countersignature (hex) of the receiver's last one.

    head : ``SignedHead.to_bytes``; '' where there is none to be countersigned
    countersigned : the receiver's head that ``signature`` is over, as it came; '' for no signature
    """

    head: Text
    countersigned: Text = ""
    signature: Annotated[str, Field(pattern=r"^([0-9a-f]{128})?$")] = ""


class Again(Frame):
    """A hospital says that its people have decided something of a study, or edited its rules: show
    its plan again now. ``study``: as ``Start`` has it."""

    study: StudyId


class Bye(Frame):
    """The sender ends the connection on purpose."""

    reason: Text


class Chunk(NamedTuple):
    """Bytes of the body of message ``number``, from ``offset``."""

    number: int
    offset: int
    data: bytes

    def to_bytes(self) -> bytes:
        """As it travels."""
        return _HEAD.pack(_CHUNK, self.number, self.offset) + self.data


_KINDS: list[type[Frame]] = [
    Hello,
    Welcome,
    Refused,
    Start,
    Have,
    Done,
    Failed,
    Drop,
    Ping,
    Heads,
    Bye,
    Got,
    Again,
]
# a kind's tag on the wire is its place in the list: a new one goes to the end
_TAGS = {kind: tag for tag, kind in enumerate(_KINDS, 1)}


def read_frame(data: bytes) -> Frame | Chunk:
    """The frame in ``data``. Raises TransportError for anything but exactly one."""
    if not data or len(data) > MOST_FRAME_BYTES:
        raise TransportError(
            f"a frame of {len(data)} bytes is none; the most is {MOST_FRAME_BYTES}"
        )
    if data[0] == _CHUNK:
        if not _HEAD.size < len(data) <= _HEAD.size + CHUNK_BYTES:
            raise TransportError("a chunk is empty or too large")
        _, number, offset = _HEAD.unpack_from(data)
        return Chunk(number, offset, data[_HEAD.size :])
    if data[0] > len(_KINDS):
        raise TransportError(f"a frame of unknown kind {data[0]}; install the same version")
    kind = _KINDS[data[0] - 1]
    if len(data) > _MOST_CONTROL_BYTES and kind is not Welcome:
        raise TransportError(f"a {kind.__name__} frame of {len(data)} bytes is too large")
    try:
        return kind.model_validate_json(data[1:])
    except ValidationError as error:
        first = error.errors()[0]
        place = one_line(".".join(str(part) for part in first["loc"]) or "as a whole", 60)
        raise TransportError(f"a {kind.__name__} frame is malformed at '{place}'") from None
