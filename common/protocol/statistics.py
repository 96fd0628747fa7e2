"""``query.statistics``: a hospital's sums for one phase of the federated preparation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from flwr.app import ConfigRecord

from wardround.common.decided import position
from wardround.common.figures.sums import Sums
from wardround.common.protocol import names as m
from wardround.common.protocol.leaf import Leaf, Protection
from wardround.common.protocol.masked import MaskedReply, MaskedTask
from wardround.common.protocol.message import (
    REPLY,
    REQUEST,
    Came,
    Content,
    Records,
    Value,
    values,
    whole,
)
from wardround.common.protocol.totals import Totals, read_sums, sums_content, sums_leaf
from wardround.common.settings import SecureAggregationTable

PHASE = Value(
    m.CONFIG,
    "phase",
    whole(),
    decided=position(
        "one that its task has; with masks one sum of each, in their order",
        "client.secagg.contributions.Contributions.check",
    ),
)


@dataclass(frozen=True)
class StatisticsRequest:
    """Asks for sums.

    phase : from 0; the task has so many
    totals : the sums of all phases before
    masked : with secure aggregation, which sums are asked for and under which keys
    """

    type: ClassVar = m.STATISTICS
    phase: int
    totals: Totals | None = None
    masked: MaskedTask | None = None

    def to_records(self) -> Content:
        config, records = values((PHASE, self.phase)), Records()
        if self.totals is not None:
            self.totals.add_to(records, config)
        content = Content({m.CONFIG: ConfigRecord(config), **records})
        if self.masked is not None:
            self.masked.add_to(content)
        return content

    @classmethod
    def from_records(cls, content: Content) -> StatisticsRequest:
        """Raises RequestRefused."""
        came = Came(content, REQUEST)
        came.config()
        return cls(came.take(PHASE), Totals.read(came), MaskedTask.read(content))


@dataclass(frozen=True, eq=False)
class StatisticsReply:
    """The hospital's sums, in plain: float64 arrays of any name and shape."""

    type: ClassVar = m.STATISTICS
    sums: Sums

    def to_records(self) -> Content:
        return Content(sums_content(self.sums))

    @classmethod
    def from_records(cls, content: Content) -> StatisticsReply:
        """Raises ReplyRefused."""
        return cls(read_sums(Came(content, REPLY)))


def sums_leaves(
    message_type: str, secure: SecureAggregationTable, own: Iterable[str], noised: bool = False
) -> list[Leaf]:
    """What leaves of statistics, or of metric sums.

    own : as of ``MaskedReply.sums_leaves``
    noised : whether noise is on them
    """
    if not secure.enabled:
        return [sums_leaf(message_type, "noised" if noised else "none")]
    protection: Protection = "masked+noised" if noised else "masked"
    vector = MaskedReply.sums_leaves(message_type, own, protection)
    return [*vector, sums_leaf(message_type, protection)]
