"""``query.sums``: a hospital's named sums for one step of a procedure (``common/procedures``).

What is asked for in a step follows from the plan and the totals of the steps before; the hospital
works it out itself, and a request says only how far the procedure has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from flwr.app import ConfigRecord

from wardround.common.decided import data, position
from wardround.common.errors import RequestRefused
from wardround.common.figures.sums import Sums
from wardround.common.protocol import names as m
from wardround.common.protocol.leaf import Leaf
from wardround.common.protocol.masked import MaskedTask
from wardround.common.protocol.message import (
    REQUEST,
    Came,
    Content,
    Records,
    SentArrays,
    Value,
    values,
    whole,
)
from wardround.common.protocol.statistics import StatisticsReply, sums_leaves
from wardround.common.protocol.totals import DIGEST, Totals
from wardround.common.settings import PrivacyTable, SecureAggregationTable

MOST_STEPS = 100_000
STEP = Value(
    m.CONFIG,
    "step",
    whole(0, MOST_STEPS),
    decided=position(
        "one that the accepted plan's procedure has, and that its totals lead to; with masks one "
        "sum of each, in their order",
        "client.requests.steps.begin_step",
    ),
)
BEFORE = SentArrays(
    m.TOTALS,
    data(
        "of each step before exactly the sums that the procedure asks for; with masks those that "
        "the step before was asked with, and no others; or a state (`trees`) of its step and its "
        "form, which with masks goes on from the last one's, byte by byte",
        "client.secagg.contributions.Contributions.check",
    ),
)


@dataclass(frozen=True)
class SumsRequest:
    """Asks for the sums of a step.

    step : from 0
    totals : the sums of all steps before, or the state they led to, as ``joined`` names them
    masked : with secure aggregation, which sums are asked for and under which keys
    """

    type: ClassVar = m.SUMS
    step: int
    totals: Totals
    masked: MaskedTask | None = None

    def to_records(self) -> Content:
        config, records = values((STEP, self.step)), Records()
        self.totals.add_to(records, config)
        content = Content({m.CONFIG: ConfigRecord(config), **records})
        if self.masked is not None:
            self.masked.add_to(content)
        return content

    @classmethod
    def from_records(cls, content: Content) -> SumsRequest:
        """Raises RequestRefused."""
        came = Came(content, REQUEST)
        came.config()
        totals = Totals(came.arrays(BEFORE), came.find(DIGEST))
        return cls(came.take(STEP), totals, MaskedTask.read(content))


@dataclass(frozen=True, eq=False)
class SumsReply(StatisticsReply):
    """The hospital's sums, in plain: float64 arrays."""

    type: ClassVar = m.SUMS

    @staticmethod
    def leaves(
        secure: SecureAggregationTable, privacy: PrivacyTable, own: Iterable[str]
    ) -> list[Leaf]:
        """What leaves. ``own``: as of ``MaskedReply.sums_leaves``."""
        return sums_leaves(m.SUMS, secure, own, privacy.enabled)


def joined(earlier: Sequence[Sums]) -> Sums:
    """The totals of all steps as one, each under 'STEP/NAME'.

    >>> import numpy as np
    >>> list(joined([{"rows": np.ones(1)}, {"squares": np.ones(1)}]))
    ['0/rows', '1/squares']
    """
    return {f"{step}/{key}": one for step, sums in enumerate(earlier) for key, one in sums.items()}


def parted(totals: Sums, steps: int) -> list[Sums]:
    """The reverse of ``joined``, of so many steps. Raises RequestRefused for other names."""
    found: list[Sums] = [{} for _ in range(steps)]
    for key, value in totals.items():
        step, slash, name = key.partition("/")
        if not slash or not name or step not in map(str, range(steps)):
            raise RequestRefused("the totals that came are not those of the steps before")
        found[int(step)][name] = value
    return found
