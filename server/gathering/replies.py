"""Checks every reply before anything of it is used: the server trusts no client.

What a reply must hold is its class's to say (``common/protocol``); here it is held against what the
server knows of the hospital. Each function returns checked values or raises ReplyRefused with a
reason for people. A reply is refused as a whole: nothing of it is counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import Message

from wardround.common.compression.scales import SCALES
from wardround.common.errors import (
    BudgetSpent,
    EvaluatesLater,
    HospitalStopped,
    ReplyRefused,
    SharesGiven,
)
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Layout, RecordArrays
from wardround.common.privacy.claims import Claim
from wardround.common.protocol import names as m
from wardround.common.protocol.describe import DescribeReply
from wardround.common.protocol.errors import Code, code_of, failed
from wardround.common.protocol.evaluate import EvaluateReply
from wardround.common.protocol.statistics import StatisticsReply
from wardround.common.protocol.train import TrainReply
from wardround.common.text import one_line
from wardround.common.trust.identity import Roster
from wardround.server.members.member import Member

_MEANING: dict[Code, type[ReplyRefused]] = {
    Code.BUDGET: BudgetSpent,
    Code.FAILURES: HospitalStopped,
    Code.NOT_NOW: EvaluatesLater,
    Code.GAVE_SHARES: SharesGiven,
}


@dataclass(frozen=True, eq=False)
class Update:
    """An accepted training reply, its arrays still in the message: decoded when looked at."""

    reply: TrainReply
    claim: Claim | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """What is averaged besides arrays."""
        loss = self.reply.train_loss
        return {
            m.LOCAL_STEPS: float(self.reply.local_steps),
            m.TRAIN_LOSS: math.nan if loss is None else loss,
        }

    @property
    def memory_bytes(self) -> int:
        """What it keeps occupied; nothing of what lies on a disk."""
        parts = (self.reply.arrays, *self.reply.records.values())
        return sum(part.memory_bytes for part in parts if isinstance(part, RecordArrays))


def check_error(reply: Message) -> None:
    """Raise ReplyRefused if the client reported a failure, of the kind that its code says."""
    if reply.has_error():
        reason = one_line(reply.error.reason)
        kind = _MEANING.get(code_of(reply.error.code))
        raise kind(reason) if kind else ReplyRefused(failed(reason))
    if not reply.has_content() or not reply.content:
        raise ReplyRefused("the reply is empty")


def check_description(reply: Message) -> Member:
    """The reply to ``query.describe``, of a hospital that has rows."""
    check_error(reply)
    said = DescribeReply.from_records(reply.content)
    if not any(said.sizes.values()):
        raise ReplyRefused("it has no rows")
    node_id = reply.metadata.src_node_id
    return Member(said.hospital, node_id, dict(said.sizes), list(said.warnings), said.device)


def check_sums(reply: Message, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Sums:
    """The reply to ``query.statistics`` or ``query.sums``: named float64 arrays of bounded number
    and size, and just those of ``shapes`` where it is known what was asked for."""
    check_error(reply)
    sums = StatisticsReply.from_records(reply.content).sums
    if shapes is not None and {name: value.shape for name, value in sums.items()} != dict(shapes):
        raise ReplyRefused("its sums are others than were asked for")
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
    found = TrainReply.from_records(reply.content, layout, records, claims is not None)
    if not 0 < found.num_examples <= member.sizes["train"]:
        raise ReplyRefused(
            f"{m.NUM_EXAMPLES} is {found.num_examples}, but it announced "
            f"{member.sizes['train']} rows"
        )
    ratios = found.records.get(SCALES, {}).get(SCALES)
    if ratios is not None and not ((ratios >= 0) & (ratios <= 1)).all():
        raise ReplyRefused("what it adds for the next round's scales isn't in [0, 1]")
    claim = Claim.read(found.claim, member.name, claims) if claims is not None else None
    return Update(found, claim)


def check_evaluation(reply: Message) -> Mapping[str, Sums]:
    """An evaluation reply: metric sums by split. Whether they make sense is the task's to say."""
    check_error(reply)
    return EvaluateReply.from_records(reply.content).sums
