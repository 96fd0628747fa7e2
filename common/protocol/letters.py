"""``query.letters``: a step of a joint procedure. Letters come from other parties and go to them,
each sealed for its receiver (``common/joint/sealing.py``); the server carries them.

Before the first step each party is asked for a key of the run (step 0), then shown everybody's
(step 1, which is the procedure's first).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from flwr.app import ConfigRecord, MetricRecord

from wardround.common.decided import keys, position
from wardround.common.errors import ReplyRefused
from wardround.common.protocol import names as m
from wardround.common.protocol.leaf import Leaf
from wardround.common.protocol.message import (
    REPLY,
    REQUEST,
    Came,
    Content,
    Kind,
    SentValues,
    Value,
    data,
    text,
    values,
    whole,
)
from wardround.common.protocol.sums import MOST_STEPS

T = TypeVar("T")
RECORD, PUBLIC, IN, OUT, TOLD = "joint", "public-keys", "letters-in", "letters", "told"
MOST_PARTIES = 6
"""With the coordinator."""
SIGNED_KEY_BYTES = 96
"""An X25519 key and an Ed25519 signature."""
SEAL_BYTES = 16
"""By how much a letter is longer once it is sealed."""
_ANSWER = "client.joint.answer.answer_letters"
STEP = Value(
    RECORD,
    "step",
    whole(0, MOST_STEPS),
    decided=position(
        "the one after the last that it took, of the accepted plan's; each is taken once, and "
        "asked again with the same bytes it gives the same bytes",
        _ANSWER,
    ),
)
KEYS = SentValues(
    PUBLIC,
    data(),
    keys(
        "in step 1: one of each party of the plan, signed by its key in the roster (the "
        "coordinator's by the server's); its own among them",
        "common.joint.sealing.Session.of",
    ),
)
LETTERS = SentValues(
    IN,
    data(),
    keys(
        "sealed by that party for this one, in this run, of the step before; what it says is the "
        "procedure's to check",
        "common.joint.sealing.Session.opened",
    ),
)
PUBLIC_KEY = Value(RECORD, "key", data())
OVER = Value(m.METRICS, "over", whole(0, 1))


@dataclass(frozen=True)
class LettersRequest:
    """Asks for a step.

    step : 0 for the key; n + 1 for step n of the procedure
    keys : with step 1: each party's key of the run and its signature, by name
    letters : sealed, by sender
    """

    type: ClassVar = m.LETTERS
    step: int
    keys: Mapping[str, bytes] = field(default_factory=dict)
    letters: Mapping[str, bytes] = field(default_factory=dict)

    def to_records(self) -> Content:
        content = Content({RECORD: ConfigRecord(values((STEP, self.step)))})
        for name, record in ((PUBLIC, self.keys), (IN, self.letters)):
            if record:
                content[name] = ConfigRecord(dict(record))
        return content

    @classmethod
    def from_records(cls, content: Content) -> LettersRequest:
        """Raises RequestRefused."""
        came = Came(content, REQUEST)
        step = came.take(STEP)
        return cls(step, came.every(KEYS, MOST_PARTIES), came.every(LETTERS, MOST_PARTIES))


@dataclass(frozen=True)
class LettersReply:
    """A hospital's turn.

    key : of step 0: its key of the run (32 bytes) and its signature (64)
    letters : sealed, by receiver
    over : it needs no more letters
    told : texts for all who take part, by file name
    """

    type: ClassVar = m.LETTERS
    key: bytes | None = None
    letters: Mapping[str, bytes] = field(default_factory=dict)
    over: bool = False
    told: Mapping[str, str] = field(default_factory=dict)

    def to_records(self) -> Content:
        content = Content({m.METRICS: MetricRecord(values((OVER, int(self.over))))})
        if self.key is not None:
            content[RECORD] = ConfigRecord(values((PUBLIC_KEY, self.key)))
        if self.letters:
            content[OUT] = ConfigRecord(dict(self.letters))
        if self.told:
            content[TOLD] = ConfigRecord(dict(self.told))
        return content

    @classmethod
    def from_records(cls, content: Content) -> LettersReply:
        """Raises ReplyRefused."""
        came = Came(content, REPLY)
        if unknown := sorted(set(content) - {m.METRICS, RECORD, OUT, TOLD}):
            raise REPLY.lacks(unknown[0][:100])
        key = came.find(PUBLIC_KEY) if RECORD in content else None
        if key is not None and len(key) != SIGNED_KEY_BYTES:
            raise ReplyRefused("its key of the run is of an impossible size")
        letters = _values(came, OUT, data())
        told = _values(came, TOLD, text())
        return cls(key, letters, bool(came.take(OVER)), told)

    @staticmethod
    def leaves(parties: Mapping[str, int], told: Mapping[str, int]) -> list[Leaf]:
        """What leaves.

        parties : the most bytes of a letter to each, before it is sealed
        told : the most characters of each text
        """
        return [
            PUBLIC_KEY.leaf(m.LETTERS, "keys", (SIGNED_KEY_BYTES,)),
            OVER.leaf(m.LETTERS, "keys"),
            *(
                Value(OUT, name, data()).leaf(m.LETTERS, "sealed", (most + SEAL_BYTES,))
                for name, most in parties.items()
            ),
            *(
                Value(TOLD, name, text()).leaf(m.LETTERS, "none", (most,))
                for name, most in told.items()
            ),
        ]


def _values(came: Came, record: str, kind: Kind[T]) -> dict[str, T]:
    """Of a record that may be lacking. Raises ReplyRefused."""
    if record not in came.content:
        return {}
    found = {key: kind.take(one) for key, one in came.config(record).items()}
    if len(found) > MOST_PARTIES or None in found.values():
        raise REPLY.lacks(record)
    return {key: one for key, one in found.items() if one is not None}
