"""``query.describe``: who a hospital is and how many rows it has, before anything else is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from flwr.app import ConfigRecord, MetricRecord

from wardround.common.decided import bound
from wardround.common.errors import ReplyRefused, RequestRefused
from wardround.common.names import RULE, is_name
from wardround.common.protocol import names as m
from wardround.common.protocol.leaf import Leaf, Protection
from wardround.common.protocol.message import (
    MOST_WHOLE,
    REPLY,
    REQUEST,
    Came,
    Content,
    Records,
    Value,
    text,
    texts,
    values,
    whole,
)
from wardround.common.protocol.totals import Totals
from wardround.common.settings import PrivacyTable, SecureAggregationTable
from wardround.common.text import one_line

RECORD = "describe"
DEVICES = ("cpu", "cuda")
"""All that is told of a hospital's machine; another kind isn't told."""
MOST_WARNINGS, MOST_WARNING_CHARACTERS = 20, 2000

PROTOCOL = Value(
    m.CONFIG,
    "protocol",
    whole(),
    decided=bound("equal to its own", "common.protocol.describe.DescribeRequest.from_records"),
)
HOSPITAL = Value(RECORD, "hospital", text(64))
WARNINGS = Value(RECORD, "warnings", texts(MOST_WARNINGS))
DEVICE = Value(RECORD, "device", text())
SIZES = {split: Value(m.SIZES, split, whole(0, MOST_WHOLE - 1)) for split in m.SPLITS}


@dataclass(frozen=True)
class DescribeRequest:
    """Asks who is there. ``protocol``: the vocabulary's version, the same on both sides.

    totals : none yet; there for the form's sake
    """

    type: ClassVar = m.DESCRIBE
    protocol: int = m.PROTOCOL
    totals: Totals | None = None

    def to_records(self) -> Content:
        config, records = values((PROTOCOL, self.protocol)), Records()
        if self.totals is not None:
            self.totals.add_to(records, config)
        return Content({m.CONFIG: ConfigRecord(config), **records})

    @classmethod
    def from_records(cls, content: Content) -> DescribeRequest:
        """Raises RequestRefused, also for a server of another version."""
        came = Came(content, REQUEST)
        protocol = came.config().get(PROTOCOL.key)
        if protocol != m.PROTOCOL or isinstance(protocol, bool):
            raise RequestRefused(
                f"the server speaks protocol {one_line(repr(protocol), 40)}, this client "
                f"{m.PROTOCOL}; install the same version of wardround on both sides"
            )
        return cls(m.PROTOCOL, Totals.read(came))


@dataclass(frozen=True)
class DescribeReply:
    """A hospital as it says of itself.

    hospital : its name
    sizes : rows per split, or units under privacy; with noise where that protects them
    warnings : lines about its data, as it may tell them; of at most 2000 characters
    device : 'cpu' or 'cuda'; '' where it doesn't say
    """

    type: ClassVar = m.DESCRIBE
    hospital: str
    sizes: Mapping[str, int]
    warnings: tuple[str, ...] = field(default=())
    device: str = ""

    def to_records(self) -> Content:
        said = values(
            (HOSPITAL, self.hospital), (WARNINGS, self.warnings), (DEVICE, self.device or None)
        )
        return Content({RECORD: ConfigRecord(said), m.SIZES: MetricRecord(dict(self.sizes))})

    @classmethod
    def from_records(cls, content: Content) -> DescribeReply:
        """Raises ReplyRefused. A device that isn't known is not an error: it isn't kept."""
        said, sizes = content.get(RECORD), content.get(m.SIZES)
        if not isinstance(said, ConfigRecord) or not isinstance(sizes, MetricRecord):
            raise ReplyRefused("the description lacks its records")
        name, warnings = said.get(HOSPITAL.key), WARNINGS.kind.take(said.get(WARNINGS.key, []))
        if not isinstance(name, str) or not is_name(name):
            raise ReplyRefused(f"it can't be called {str(name)[:80]!r}; {RULE}")
        if warnings is None:
            raise ReplyRefused("its warnings are not a short list")
        came = Came(content, REPLY)
        counts = {split: came.take(value) for split, value in SIZES.items()}
        device = said.get(DEVICE.key)
        return cls(
            name,
            counts,
            tuple(map(one_line, warnings)),
            str(device) if device in DEVICES else "",
        )

    @staticmethod
    def leaves(secure: SecureAggregationTable, privacy: PrivacyTable) -> list[Leaf]:
        """What leaves: what a warning says of one hospital's rows is not for a server that may see
        sums only."""
        shown = not (secure.enabled or privacy.enabled)
        lines = (MOST_WARNINGS, MOST_WARNING_CHARACTERS) if shown else (0, 0)
        sizes: Protection = "noised" if privacy.unit in ("example", "patient") else "sizes"
        return [
            HOSPITAL.leaf(m.DESCRIBE, "keys", (64,)),
            DEVICE.leaf(m.DESCRIBE, "keys", (max(map(len, DEVICES)),)),
            WARNINGS.leaf(m.DESCRIBE, "none" if shown else "keys", lines),
            *(value.leaf(m.DESCRIBE, sizes) for value in SIZES.values()),
        ]
