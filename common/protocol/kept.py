"""``train.begin`` and the ``train`` of a buffered run: an update is made first and sent later.

``train.begin`` is a ``TrainRequest``: the same records, under another type. Its answer says nothing
but that the hospital is done. ``train`` then asks for what is kept, without a model where masks
are on; its answer is a ``TrainReply``, or a masked one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord

from wardround.common.decided import bound
from wardround.common.flower.arrays import Arrays, Layout, decode_arrays
from wardround.common.protocol import names as m
from wardround.common.protocol.leaf import Leaf
from wardround.common.protocol.masked import MaskedTask
from wardround.common.protocol.message import (
    REPLY,
    REQUEST,
    Came,
    Content,
    Value,
    as_request,
    values,
    whole,
)
from wardround.common.protocol.model import ROUND
from wardround.common.protocol.train import ALGORITHM

KEPT = Value(
    m.CONFIG,
    "kept",
    whole(1, 1),
    "be 1",
    decided=bound(
        "there in the rounds of a buffered run, and in no other's",
        "client.requests.buffered.send_kept",
    ),
)
TRAINED = Value(m.METRICS, m.ROUND, whole(1))


def asks_for_kept(content: Content) -> bool:
    """Whether a training request is for an update that was made before: nothing is trained."""
    record = content.get(m.CONFIG)
    return isinstance(record, ConfigRecord) and KEPT.key in record


def is_work(message_type: str, content: Content) -> bool:
    """Whether a request has a hospital train."""
    return message_type == m.BEGIN or (message_type == m.TRAIN and not asks_for_kept(content))


@dataclass(frozen=True)
class KeptRequest:
    """Asks for the update that a hospital keeps, for the sum of a round.

    algorithm : the hospital's half of the strategy, by name
    present : the model that the round goes on from, not decoded; None under masks
    """

    type: ClassVar = m.TRAIN
    server_round: int
    algorithm: str
    present: ArrayRecord | None = None
    masked: MaskedTask | None = None

    def to_records(self) -> Content:
        config = values((ALGORITHM, self.algorithm), (ROUND, self.server_round), (KEPT, 1))
        content = Content({m.CONFIG: ConfigRecord(config)})
        if self.present is not None:
            content[m.ARRAYS] = self.present
        if self.masked is not None:
            self.masked.add_to(content)
        return content

    @classmethod
    def from_records(cls, content: Content) -> KeptRequest:
        """Raises RequestRefused, also for what such a request never has."""
        came = Came(content, REQUEST)
        came.take(KEPT)
        masked = MaskedTask.read(content)
        came.only({m.CONFIG, m.ARRAYS if masked is None else m.SECAGG})
        present = content.get(m.ARRAYS)
        return cls(
            came.take(ROUND),
            came.find(ALGORITHM) or "plain",
            present if isinstance(present, ArrayRecord) else None,
            masked,
        )

    def decoded(self, layout: Layout) -> Arrays:
        """The present model. Raises RequestRefused unless it is of ``layout``."""
        if self.present is None:
            raise REQUEST.lacks(m.ARRAYS)
        with as_request():
            return decode_arrays(self.present, layout)


@dataclass(frozen=True)
class BeginReply:
    """An update is kept, or under masks none could be made: it is the same answer.

    server_round : of the request
    """

    type: ClassVar = m.BEGIN
    server_round: int

    def to_records(self) -> Content:
        return Content({m.METRICS: MetricRecord(values((TRAINED, self.server_round)))})

    @classmethod
    def from_records(cls, content: Content) -> BeginReply:
        """Raises ReplyRefused."""
        came = Came(content, REPLY)
        came.only({m.METRICS})
        return cls(came.take(TRAINED))

    @staticmethod
    def leaves() -> list[Leaf]:
        """What leaves: nothing of the data."""
        return [TRAINED.leaf(m.BEGIN, "keys")]
