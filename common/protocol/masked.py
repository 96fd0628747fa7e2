"""Messages of secure aggregation: what each carries is bytes of ``common/secagg/messages.py``.

``query.hello``, ``query.group`` and ``query.keys`` make keys, once per session and bundle;
``query.layout`` asks for names and shapes of sums, no value; ``query.unmask`` opens a sum. Requests
for sums and updates carry a ``MaskedTask``, and are answered with nothing but a ``MaskedReply``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flwr.app import ConfigRecord

from wardround.common.decided import derived, keys, position
from wardround.common.errors import ReplyRefused, RequestRefused
from wardround.common.protocol import names as m
from wardround.common.protocol.leaf import Leaf, Protection, leaf_of
from wardround.common.protocol.message import (
    REQUEST,
    Came,
    Content,
    Value,
    Words,
    data,
    values,
    whole,
)

MESSAGE = Value(
    m.SECAGG,
    m.MESSAGE,
    data(),
    decided=keys(
        "exactly one message of its kind, every field of it in its range; the next table",
        "common.secagg.messages.Message.from_bytes",
    ),
)
VECTOR = Value(m.SECAGG, m.VECTOR, data(long=True))
SUMS_LAYOUT = Value(
    m.SECAGG,
    m.SUMS_LAYOUT,
    data(),
    decided=derived(
        "names and shapes of sums that it has itself", "client.secagg.masking.mask_sums"
    ),
)
BLIND_KEY = Value(
    m.SECAGG,
    "blind-key",
    data(),
    decided=keys(
        "of an update in a blind run: the name of the last key that it was dealt, by hospitals of "
        "its roster, in this session",
        "client.secagg.blind.BlindModels.mask",
    ),
)
SEALED = Value(
    m.SECAGG,
    "sealed",
    data(long=True),
    decided=keys(
        "sealed by a hospital that has the key, as the model of this sum; only where it lacks it",
        "client.secagg.blind.BlindModels.take_over",
    ),
)
CLAIM = Value(m.SECAGG, m.CLAIM, data())
ROUND = Value(
    m.CONFIG,
    m.ROUND,
    whole(),
    decided=position(
        "nothing: a sum is opened by the number of its aggregation; this one is for the log"
    ),
)
MOST_CLAIM_BYTES = 2048
KEY_MESSAGES = (m.HELLO, m.GROUP, m.KEYS, m.UNMASK)
BLIND_MESSAGES = (m.DEAL, m.DEALT, m.MODEL, m.TAKE)

_TASK = Words(
    RequestRefused,
    f"the request has no '{{record}}' record with '{m.MESSAGE}'",
    "the request has no '{record}' record with '{key}'",
)
_ANSWER = Words(
    ReplyRefused, "its answer is not one of secure aggregation", "its answer lacks '{key}'"
)


@dataclass(frozen=True)
class MaskedTask:
    """What a request is answered with a masked vector for.

    message : a TaskRequest: keys, purpose, encoding
    layout : a SumsLayout: names and shapes of the sums that are asked for; None for an update,
        whose layout is the model's
    blind_key : with ``secure_aggregation.blind``, the name of the hospitals' key that an update is
        masked by besides
    """

    message: bytes
    layout: bytes | None = None
    blind_key: bytes | None = None

    def add_to(self, content: Content) -> None:
        """Put it into a request."""
        content[m.SECAGG] = ConfigRecord(
            values(
                (MESSAGE, self.message),
                (SUMS_LAYOUT, self.layout),
                (BLIND_KEY, self.blind_key),
            )
        )

    @classmethod
    def read(cls, content: Content) -> MaskedTask | None:
        """From a request; None from one for plain values. Raises RequestRefused."""
        if m.SECAGG not in content:
            return None
        came = Came(content, _TASK)
        return cls(came.take(MESSAGE), came.find(SUMS_LAYOUT), came.find(BLIND_KEY))

    def sums_layout(self) -> bytes:
        """The layout that a request for sums must have. Raises RequestRefused."""
        if self.layout is None:
            raise _TASK.is_wrong(SUMS_LAYOUT)
        return self.layout


@dataclass(frozen=True)
class KeyRequest:
    """A message of hello, group, keys or unmask, which its type tells apart.

    message : Hello, Group, Keys or Unmask of the server
    server_round : of an unmask; 0 for statistics
    """

    message: bytes
    server_round: int | None = None

    def to_records(self) -> Content:
        return Content(
            {
                m.SECAGG: ConfigRecord(values((MESSAGE, self.message))),
                m.CONFIG: ConfigRecord(values((ROUND, self.server_round))),
            }
        )

    @classmethod
    def from_records(cls, content: Content) -> KeyRequest:
        """Raises RequestRefused."""
        message = Came(content, _TASK).take(MESSAGE)
        came = Came(content, REQUEST)
        return cls(message, came.find(ROUND) if m.CONFIG in content else None)


@dataclass(frozen=True)
class KeyReply:
    """The hospital's answer to such a message, or to ``query.layout``: one message of the
    protocol."""

    message: bytes

    def to_records(self) -> Content:
        return Content({m.SECAGG: ConfigRecord(values((MESSAGE, self.message)))})

    @classmethod
    def from_records(cls, content: Content) -> KeyReply:
        """Raises ReplyRefused."""
        return cls(_answer(content).take(MESSAGE))

    @staticmethod
    def leaves(dealt: bool = False) -> list[Leaf]:
        """What leaves: keys, shares and signatures; and names and shapes of sums. ``dealt``:
        whether hospitals share a key that one of them deals."""
        kinds = KEY_MESSAGES + (BLIND_MESSAGES if dealt else ())
        keys = [_message(kind, "keys") for kind in kinds]
        return [*keys, _message(m.LAYOUT, "sizes")]


@dataclass(frozen=True)
class MaskedReply:
    """The masked answer to a request for sums or an update: nothing else leaves with it.

    message : the upload's header, signed
    vector : update coordinates of 1 to 8 bytes, then exact ones of 24; of a large model
        ``StoredBytes``
    claim : in a private run, what the hospital says of its budget, signed
    """

    message: bytes
    vector: bytes
    claim: bytes | None = None

    def to_records(self) -> Content:
        record = values((MESSAGE, self.message), (VECTOR, self.vector), (CLAIM, self.claim))
        return Content({m.SECAGG: ConfigRecord(record)})

    @classmethod
    def from_records(cls, content: Content) -> MaskedReply:
        """Raises ReplyRefused."""
        came = _answer(content)
        return cls(came.take(MESSAGE), came.take(VECTOR), came.find(CLAIM))

    @staticmethod
    def sums_leaves(
        message_type: str, own: Iterable[str], protection: Protection = "masked"
    ) -> list[Leaf]:
        """What leaves where sums are asked for. ``own``: coordinates that every vector has."""
        return [
            _message(message_type, "keys"),
            vector_leaf(message_type, None, protection),
            *own_leaves(message_type, own),
        ]


@dataclass(frozen=True)
class SealedModel:
    """A blind run's model from a hospital that has it, and to one that lacks it.

    sealed : of all hospitals that have the key alone; with its optimiser's state
    about : a ``Blind``, which says which it is; None in the answer of who gives it
    key : the key's name; likewise
    """

    sealed: bytes
    about: bytes | None = None
    key: bytes | None = None

    def to_records(self) -> Content:
        record = values((MESSAGE, self.about), (SEALED, self.sealed), (BLIND_KEY, self.key))
        return Content({m.SECAGG: ConfigRecord(record)})

    @classmethod
    def from_request(cls, content: Content) -> SealedModel:
        """Raises RequestRefused."""
        came = Came(content, _TASK)
        return cls(came.take(SEALED), came.take(MESSAGE), came.take(BLIND_KEY))

    @classmethod
    def from_reply(cls, content: Content) -> SealedModel:
        """Raises ReplyRefused."""
        return cls(_answer(content).take(SEALED))

    @staticmethod
    def leaves() -> list[Leaf]:
        """What leaves."""
        return [SEALED.leaf(m.GIVE, "sealed", None)]


def ask_to_seal(content: Content, key: bytes) -> None:
    """Have a request for a model ask for it sealed with this key."""
    content[m.SECAGG] = ConfigRecord(values((BLIND_KEY, key)))


def key_to_seal(content: Content) -> bytes:
    """Of a request to give a model: which key to seal it with. Raises RequestRefused."""
    return Came(content, _TASK).take(BLIND_KEY)


def _answer(content: Content) -> Came:
    if len(content) != 1:
        raise _ANSWER.lacks(m.SECAGG)
    came = Came(content, _ANSWER)
    came.config(m.SECAGG)
    return came


def own_leaves(message_type: str, own: Iterable[str]) -> list[Leaf]:
    """Single numbers inside the masked vector."""
    return [leaf_of(message_type, m.SECAGG, name, (1,), "float64", "masked") for name in own]


def vector_leaf(message_type: str, size_bytes: int | None, protection: Protection) -> Leaf:
    """The masked vector; None: its size is known only once the model is."""
    return VECTOR.leaf(message_type, protection, None if size_bytes is None else (size_bytes,))


def message_leaf(message_type: str) -> Leaf:
    """The header of a masked vector."""
    return _message(message_type, "keys")


def _message(message_type: str, protection: Protection) -> Leaf:
    return MESSAGE.leaf(message_type, protection, None)
