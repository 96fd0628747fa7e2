"""Messages as they cross the in-process grid, written down line by line.

A request is written before its client sees it, a reply as the server gets it: one line for each
record, and one for each of its keys, in order. ``tests/protocol/scenarios.py`` says which messages;
the first lines say what of a message is another one in each process (``VARYING``), and why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from unittest.mock import patch

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

from wardround.common.flower.content import encode_content
from wardround.common.secagg.content import content_digest
from wardround.simulations.grid import InProcessGrid

Tamper = Callable[[Message], None]
MOST_BITS = {"int8": 8, "float32": 22, "float64": 50, "int64": 63, "uint8": 8}
"""Digits of a number that calculating had no need to round."""
_SHORT = 96
"""Bytes that stand in a vector as they are; of more, their digest does."""


@dataclass(frozen=True)
class Varying:
    """What of a value isn't frozen.

    cut : from where to where bytes vary (None: the end), and no more than their number is kept
    json : behind how many bytes text begins, of which ``keys`` vary, with their length
    keys : of that text
    first : the value that doesn't vary
    """

    why: str
    cut: tuple[tuple[int, int | None], ...] = ()
    json: int = 0
    keys: tuple[str, ...] = ()
    first: object = None

    def text(self, value: bytes) -> str:
        """What is kept of bytes."""
        if self.json:
            found = value[self.json :].decode()
            for key in self.keys:
                found = re.sub(rf'("{key}": )("[^"]*"|[^,}}]*)', r"\1?", found)
            return f"{self.json} bytes, then {found}"
        data = bytearray(value)
        for start, end in self.cut:
            data[start:end] = bytes(len(data[start:end]))
        return f"{len(data)} bytes {data.rstrip(bytes(1)).hex()}"


_SESSION = "the server's nonce, and what is derived of it, are drawn anew"
_KEYS = "keys and signatures are drawn anew"
_GROUP = "the group's number is a digest over keys"
_CLAIM = Varying(
    "the signature is of a new key, the run's name has the time in it, epsilon is of exp and log",
    json=64,
    keys=("run", "epsilon"),
)
VARYING: dict[str, Varying] = {
    "query.hello > secagg/message": Varying(_SESSION, ((1, None),)),
    "query.hello < secagg/message": Varying(_KEYS, ((1, 33), (-96, None))),
    "query.group > secagg/message": Varying(_KEYS, ((1, 33), (49, None))),
    "query.group < secagg/message": Varying(_KEYS, ((1, None),)),
    "query.keys > secagg/message": Varying(_KEYS, ((1, None),)),
    "query.keys < secagg/message": Varying(_KEYS, ((1, 33), (-32, None))),
    "query.sums > secagg/message": Varying(_GROUP, ((1, 33),)),
    "query.sums < secagg/message": Varying(_GROUP, ((1, 33),)),
    "query.sums < secagg/vector": Varying("masked", ((0, None),)),
    "query.statistics > secagg/message": Varying(_GROUP, ((1, 33),)),
    "query.statistics < secagg/message": Varying(_GROUP, ((1, 33),)),
    "query.statistics < secagg/vector": Varying("masked", ((0, None),)),
    "query.letters < joint/key": Varying(_KEYS, ((0, None),)),
    **{
        f"query.letters {record}/{name}": Varying(why, ((0, None),))
        for name in ("coordinator", "lab", "ward")
        for record, why in (
            ("> public-keys", _KEYS),
            ("> letters-in", "sealed"),
            ("< letters", "sealed"),
        )
    },
    "train > secagg/message": Varying(_GROUP, ((1, 33),)),
    "train < secagg/message": Varying(_GROUP, ((1, 33),)),
    "train < secagg/vector": Varying("masked", ((0, None),)),
    "train < secagg/claim": _CLAIM,
    "train < privacy/claim": _CLAIM,
    "train > config/run": Varying("has the time in it"),
    "train > config/clipping-norm": Varying(
        "an adaptive one follows exp and what was measured, but for the first", first=1.0
    ),
    "evaluate > secagg/message": Varying(_GROUP, ((1, 33),)),
    "evaluate < secagg/message": Varying(_GROUP, ((1, 33),)),
    "evaluate < secagg/vector": Varying("masked", ((0, None),)),
    # behind the group stand the aggregation's index and how many survivors or letters follow
    "query.unmask > secagg/message": Varying("encrypted shares", ((1, 33), (41, None))),
    "query.unmask < secagg/message": Varying("shares", ((1, 33), (41, None))),
    "query.deal > secagg/message": Varying(_KEYS, ((1, None),)),
    "query.deal < secagg/message": Varying(_KEYS, ((1, None),)),
    "query.dealt > secagg/message": Varying(_KEYS, ((1, None),)),
    "query.dealt < secagg/message": Varying(_KEYS, ((1, 33), (-64, None))),
    "query.model < secagg/message": Varying(_KEYS, ((-32, None),)),
    "query.take < secagg/message": Varying(_KEYS, ((-32, None),)),
    "query.take > secagg/message": Varying(_KEYS, ((9, 73),)),
    "query.take > secagg/sealed": Varying("sealed", ((0, None),)),
    "query.give < secagg/sealed": Varying("sealed", ((0, None),)),
    # behind two rounds stand the key and the aggregation that a sum is of
    **{
        f"{kind} > config/blind": Varying(_KEYS, ((9, 73),))
        for kind in ("train", "evaluate", "query.model", "query.give")
    },
    **{
        f"{kind} > secagg/blind-key": Varying(_KEYS, ((0, None),))
        for kind in ("train", "query.give", "query.take")
    },
}
"""By place: type, > for a request and < for a reply, record and key."""


@dataclass
class Crossed:
    """A message that crossed. ``lines``: the error's reason, or records with their keys."""

    type: str
    direction: str
    hospital: str
    lines: list[str]

    @property
    def head(self) -> str:
        """Which message it is."""
        return f"{self.type} {self.direction} {self.hospital}"


@dataclass
class Capture:
    """What crosses.

    exact : whether numbers are the same on every machine; else of floats the shape alone is kept
    single : whether every client is asked by itself, as between machines
    tamper : may change a request before it is sent
    """

    exact: bool
    single: bool = False
    tamper: Tamper = lambda message: None
    crossed: list[Crossed] = field(default_factory=list)
    _asked: dict[str, tuple[str, str]] = field(default_factory=dict)

    def asked(self, message: Message, hospital: str) -> None:
        """Keep a request that has its number."""
        kind = message.metadata.message_type
        self._asked[message.metadata.message_id] = (kind, hospital)
        lines = self.lines(f"{kind} >", message.content)
        self.crossed.append(Crossed(kind, ">", hospital, lines))

    def answered(self, message: Message) -> None:
        """Keep a reply."""
        kind, hospital = self._asked[message.metadata.reply_to_message_id]
        if message.has_error():
            lines = [f"error {message.error.code} {message.error.reason}"]
        else:
            lines = self.lines(f"{kind} <", message.content)
        self.crossed.append(Crossed(kind, "<", hospital, lines))

    def lines(self, place: str, content: RecordDict) -> list[str]:
        """A content's lines; the last ones are digests of it as a whole, if nothing of it varies.

        place : type and direction
        """
        found, whole = [], True
        for name, record in content.items():
            found.append(f"{name} {type(record).__name__}")
            for key, value in record.items():
                text, fixed = self._value(f"{place} {name}/{key}", record, value)
                found.append(f"{name}/{key} {text}")
                whole = whole and fixed
        if whole:
            found += whole_lines(content)
        return found

    def _value(self, place: str, record: object, value: Any) -> tuple[str, bool]:
        """A value's text, and whether it says all of the value."""
        if isinstance(record, ArrayRecord):
            floats = value.dtype.startswith("float") and not self.exact
            floats |= place.endswith((" arrays/update", " arrays/exact"))  # a sum that is masked
            shape = "x".join(map(str, value.shape)) or "scalar"
            text = f"{value.dtype} {shape} {value.stype} {len(value.data)} bytes"
            if floats:
                return text, False
            for one in value.numpy().reshape(-1).tolist():
                assert _bits(one) <= MOST_BITS[value.dtype], f"{place}: {one} may be rounded"
            return f"{text} {_digest(value.data)}", True
        if isinstance(record, MetricRecord) and isinstance(value, float) and not self.exact:
            return "float", False
        varying = VARYING.get(place)
        if varying is not None and value != varying.first:
            if isinstance(value, bytes):
                return f"bytes {varying.text(value)}", False
            return type(value).__name__, False
        if isinstance(value, bytes):
            return f"bytes {len(value)} bytes {_short(value)}", True
        text = _LINE.sub("at a line", json.dumps(value, ensure_ascii=False))
        return f"{type(value).__name__} {text}", True


def whole_lines(content: RecordDict) -> list[str]:
    """Digests of a content as a whole: of its bytes on the wire, and what hospitals bind keys,
    ledgers and masks to."""
    body = encode_content(content)
    data = body.read(0, body.size_bytes)
    return [
        f"= {len(data)} bytes {_digest(data)}",
        f"= body digest {body.digest()[:20]}, content digest {content_digest(content).hex()[:20]}",
    ]


@contextmanager
def capturing(capture: Capture) -> Iterator[None]:
    """Every in-process grid tells ``capture`` what crosses it."""
    push, pull = InProcessGrid.push_messages, InProcessGrid.pull_messages

    def pushed(grid: InProcessGrid, messages: Iterable[Message]) -> Iterable[str]:
        sent = list(messages)
        if capture.single:
            grid.answers_cohorts = False  # before the first round, and never asked again
        for message in sent:
            capture.tamper(message)
        ids = list(push(grid, sent))
        for message in sent:
            capture.asked(message, grid.name(message.metadata.dst_node_id))
        return ids

    def pulled(grid: InProcessGrid, ids: Iterable[str]) -> Iterator[Message]:
        for reply in pull(grid, ids):
            capture.answered(reply)
            yield reply

    with (
        patch.object(InProcessGrid, "push_messages", pushed),
        patch.object(InProcessGrid, "pull_messages", pulled),
    ):
        yield


_LINE = re.compile(r"at \w+\.py:\d+")
"""Where a program's own fault was raised is told, and is no form of a message."""


def _digest(data: bytes) -> str:
    return f"sha256 {sha256(data).hexdigest()[:20]}"


def _short(data: bytes) -> str:
    return data.hex() if len(data) <= _SHORT else _digest(data)


def _bits(value: float) -> int:
    """How many binary digits a number has, between its first and its last 1."""
    numerator, _ = abs(value).as_integer_ratio()
    return numerator.bit_length() - (numerator & -numerator).bit_length() + 1 if numerator else 0
