"""Checks every reply before anything of it is used: the server trusts no client.

Each function returns checked values or raises ReplyRefused with a reason for people. A reply is
refused as a whole: nothing of it is counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord

from wardround.common.errors import BudgetSpent, ReplyRefused
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import (
    MAX_ABS_SUM,
    Layout,
    RecordArrays,
    checked_arrays,
    decode_arrays,
)
from wardround.common.names import RULE, is_name
from wardround.common.privacy.claims import Claim
from wardround.common.protocol import names as m
from wardround.common.protocol.describe import DEVICE, DEVICES, MOST_WARNINGS
from wardround.common.text import one_line
from wardround.common.trust.identity import Roster
from wardround.server.members.member import Member

MAX_STATISTICS = 100_000
MAX_STATISTIC_ELEMENTS = 10_000_000


@dataclass(frozen=True)
class Update:
    """An accepted training reply, its arrays still in the message: decoded when looked at.

    ``records`` are the strategy's further arrays by record name.
    """

    arrays: RecordArrays
    records: dict[str, RecordArrays]
    metrics: dict[str, float]
    num_examples: int
    claim: Claim | None = None

    @property
    def memory_bytes(self) -> int:
        """What it keeps occupied; nothing of what lies on a disk."""
        return sum(part.memory_bytes for part in (self.arrays, *self.records.values()))


def check_error(reply: Message) -> None:
    """Raise ReplyRefused if the client reported a failure."""
    if reply.has_error():
        reason = one_line(reply.error.reason)
        if reason.startswith(m.BUDGET):
            raise BudgetSpent(reason)
        raise ReplyRefused(f"failed: {one_line(reply.error.reason)}")
    if not reply.has_content() or not reply.content:
        raise ReplyRefused("the reply is empty")


def check_description(reply: Message) -> Member:
    """The reply to ``query.describe``."""
    check_error(reply)
    describe, sizes = reply.content.get("describe"), reply.content.get(m.SIZES)
    if not isinstance(describe, ConfigRecord) or not isinstance(sizes, MetricRecord):
        raise ReplyRefused("the description lacks its records")
    name, warnings = describe.get("hospital"), describe.get("warnings", [])
    if not isinstance(name, str) or not is_name(name):
        raise ReplyRefused(f"it can't be called {str(name)[:80]!r}; {RULE}")
    if not isinstance(warnings, list) or len(warnings) > MOST_WARNINGS:
        raise ReplyRefused("its warnings are not a short list")
    counts = {split: _whole(sizes, split) for split in m.SPLITS}
    if not any(counts.values()):
        raise ReplyRefused("it has no rows")
    device = describe.get(DEVICE.key)
    return Member(
        name,
        reply.metadata.src_node_id,
        counts,
        [one_line(str(line)) for line in warnings],
        str(device) if device in DEVICES else "",
    )


def check_statistics(reply: Message) -> Sums:
    """The reply to ``query.statistics``: named float64 arrays of bounded number and size."""
    check_error(reply)
    record = _only_arrays(reply)
    if len(record) > MAX_STATISTICS:
        raise ReplyRefused(f"it sent {len(record)} statistics; at most {MAX_STATISTICS}")
    elements = sum(math.prod(array.shape) for array in record.values())
    if elements > MAX_STATISTIC_ELEMENTS:
        raise ReplyRefused(f"its statistics hold {elements} numbers, too many")
    sums = decode_arrays(record, max_abs=MAX_ABS_SUM)
    for name, value in sums.items():
        if len(name) > 256 or not name.isprintable():
            raise ReplyRefused("a statistic's name is not printable or longer than 256")
        if value.dtype.name != "float64":
            raise ReplyRefused(f"statistic '{name}' is {value.dtype.name}, expected float64")
    return sums


def check_update(
    reply: Message,
    layout: Layout,
    records: Mapping[str, Layout],
    member: Member,
    claims: Roster | None = None,
) -> Update:
    """A training reply against the model's layout and further records.

    claims : in a private run, whose keys may sign a claim; the reply then has one, and no loss
    """
    check_error(reply)
    private = claims is not None
    expected = {m.ARRAYS, m.METRICS, *records, *([m.PRIVACY] if private else [])}
    if found := sorted(set(reply.content) ^ expected):
        raise ReplyRefused(f"record '{found[0][:100]}' is missing or not expected")
    metrics = reply.content[m.METRICS]
    if not isinstance(metrics, MetricRecord):
        raise ReplyRefused(f"record '{m.METRICS}' is not a metric record")
    names = [m.NUM_EXAMPLES, m.LOCAL_STEPS] + ([] if private else [m.TRAIN_LOSS])
    if set(metrics) != set(names):
        raise ReplyRefused(f"its metrics are not {', '.join(names)}")
    num_examples, steps = _whole(metrics, m.NUM_EXAMPLES), _whole(metrics, m.LOCAL_STEPS)
    if not 0 < num_examples <= member.sizes["train"]:
        raise ReplyRefused(
            f"{m.NUM_EXAMPLES} is {num_examples}, but it announced {member.sizes['train']} rows"
        )
    if steps == 0:
        raise ReplyRefused(f"{m.LOCAL_STEPS} is 0: it did not train")
    loss = math.nan if private else metrics[m.TRAIN_LOSS]
    if not isinstance(loss, int | float) or not (private or math.isfinite(loss)):
        raise ReplyRefused(f"{m.TRAIN_LOSS} is not a finite number; lower training.lr?")
    claim = None
    if claims is not None:
        record = reply.content[m.PRIVACY]
        data = record.get(m.CLAIM) if isinstance(record, ConfigRecord) else None
        claim = Claim.read(data, member.name, claims)
    return Update(
        _arrays(reply, m.ARRAYS, layout),
        {name: _arrays(reply, name, records[name]) for name in records},
        {m.LOCAL_STEPS: float(steps), m.TRAIN_LOSS: float(loss)},
        num_examples,
        claim,
    )


def check_evaluation(reply: Message) -> dict[str, Sums]:
    """An evaluation reply: metric sums by split. Whether they make sense is the task's to say."""
    check_error(reply)
    by_split: dict[str, Sums] = {}
    for name, value in check_statistics(reply).items():
        split, slash, key = name.partition("/")
        if split not in ("validation", "test") or not slash:
            raise ReplyRefused(f"its metric sum '{name[:100]}' names no split")
        by_split.setdefault(split, {})[key] = value
    return by_split


def _only_arrays(reply: Message) -> ArrayRecord:
    record = reply.content.get(m.ARRAYS)
    if not isinstance(record, ArrayRecord):
        raise ReplyRefused(f"record '{m.ARRAYS}' is missing or not an array record")
    return record


def _arrays(reply: Message, name: str, layout: Layout) -> RecordArrays:
    record = reply.content.get(name)
    if not isinstance(record, ArrayRecord):
        raise ReplyRefused(f"record '{name}' is not an array record")
    return checked_arrays(record, layout)


def _whole(record: MetricRecord, key: str) -> int:
    value: Any = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ReplyRefused(f"'{key}' is not a whole number of at least 0")
    return value
