"""``query.study_file`` and ``query.study_ended``: a run's results, to a hospital that took part.

Answered by a hospital's process, not by its app. The signed list (``common/results/package.py``)
comes first, then its files in pieces, then that the study has ended. Nothing of a hospital's is in
an answer: it says that a message was taken, or an error why not, and figures that a hospital works
out of a model that has come this way are for nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord

from wardround.common.decided import data as as_data
from wardround.common.decided import keys, position
from wardround.common.errors import RequestRefused
from wardround.common.flower.arrays import decode_array, encode_array, record_of
from wardround.common.protocol import names as m
from wardround.common.protocol.message import (
    REPLY,
    REQUEST,
    Came,
    Content,
    SentArrays,
    Value,
    as_request,
    data,
    text,
    values,
    whole,
)

RECORD, PIECE = "results", "piece"
PIECE_BYTES = 8 * 2**20
"""Most bytes of a file in one message; fewer where ``server.max_message_mb`` is small."""
MOST_REASON = 500
_LIST = "common.results.package.Package.read"
_STAGING = "common.results.staging.Staging.put"

STUDY = Value(
    RECORD,
    "study",
    text(64),
    decided=position(
        "the study that this part of its process is for; '' in a federation that is one",
        "client.results.receiver.Receiver.file",
    ),
)
NAME = Value(
    RECORD,
    "name",
    text(128, 1),
    decided=keys("a name in the list that the server signed: nothing else is written", _STAGING),
)
OFFSET = Value(
    RECORD,
    "offset",
    whole(),
    decided=keys("no more than has come, and within the size that the list says", _STAGING),
)
BYTES = SentArrays(
    PIECE,
    as_data(
        "the whole file's digest is in the signed list; what is worked out with it is never sent",
        _STAGING,
    ),
)
STATE = Value(
    RECORD,
    "state",
    text(20, 1),
    decided=keys("nothing: a line for people"),
)
REASON = Value(
    RECORD,
    "reason",
    text(MOST_REASON),
    decided=keys("nothing: a line for people"),
)
FILES = Value(
    RECORD,
    "files",
    data(),
    decided=keys("signed by the server, of this study and run; no larger than it takes", _LIST),
)
TAKEN = Value(RECORD, "taken", text(10, 1))


@dataclass(frozen=True)
class StudyFile:
    """A piece of a file of a run's results.

    study : its id; '' in a federation that is one study
    name : as the signed list has it; 'files.json' for that list, which comes first
    offset : of the first byte
    data : at most ``PIECE_BYTES`` of it; travels as an array of uint8
    """

    type: ClassVar = m.STUDY_FILE
    study: str
    name: str
    offset: int
    data: bytes

    def to_records(self) -> Content:
        said = values((STUDY, self.study), (NAME, self.name), (OFFSET, self.offset))
        array = encode_array(np.frombuffer(self.data, np.uint8))
        return Content({RECORD: ConfigRecord(said), PIECE: record_of({"bytes": array})})

    @classmethod
    def from_records(cls, content: Content) -> StudyFile:
        """Raises RequestRefused."""
        came = Came(content, REQUEST)
        study, name, offset = came.take(STUDY), came.take(NAME), came.take(OFFSET)
        return cls(study, name, offset, _bytes(came.arrays(BYTES)))


def _bytes(record: ArrayRecord) -> bytes:
    if list(record) != ["bytes"]:
        raise RequestRefused("the request's piece is not one array of bytes")
    array = record["bytes"]
    if array.dtype != "uint8" or len(array.shape) != 1 or array.shape[0] > PIECE_BYTES:
        raise RequestRefused(f"the request's piece is not a row of at most {PIECE_BYTES} bytes")
    with as_request():
        return decode_array("bytes", array).tobytes()


@dataclass(frozen=True)
class StudyEnded:
    """A study is over.

    state : 'complete', 'failed', 'aborted' or 'expired'
    reason : why, in a line; '' where nothing is to be said
    files : of a complete one the signed list, which has come before; else b''
    """

    type: ClassVar = m.STUDY_ENDED
    study: str
    state: str
    reason: str = ""
    files: bytes = b""

    def to_records(self) -> Content:
        said = values(
            (STUDY, self.study), (STATE, self.state), (REASON, self.reason), (FILES, self.files)
        )
        return Content({RECORD: ConfigRecord(said)})

    @classmethod
    def from_records(cls, content: Content) -> StudyEnded:
        """Raises RequestRefused."""
        came = Came(content, REQUEST)
        study, state, reason = (came.take(value) for value in (STUDY, STATE, REASON))
        return cls(study, state, reason, came.take(FILES))


@dataclass(frozen=True)
class StudyReply:
    """A hospital has it on its disk. The same for every message and hospital."""

    def to_records(self) -> Content:
        return Content({RECORD: ConfigRecord(values((TAKEN, "ok")))})

    @classmethod
    def from_records(cls, content: Content) -> StudyReply:
        """Raises ReplyRefused."""
        came = Came(content, REPLY)
        came.only([RECORD])
        came.take(TAKEN)
        return cls()
