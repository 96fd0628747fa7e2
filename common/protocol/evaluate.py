"""``evaluate``: metric sums of a model on a hospital's held-out rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from wardround.common.decided import position
from wardround.common.errors import ReplyRefused
from wardround.common.figures.sums import Sums
from wardround.common.protocol import names as m
from wardround.common.protocol.masked import MaskedTask
from wardround.common.protocol.message import (
    REPLY,
    REQUEST,
    Came,
    Content,
    Value,
    values,
    whole,
)
from wardround.common.protocol.model import ROUND, SentModel, further, model_content
from wardround.common.protocol.totals import Totals, read_sums, sums_content

BEST_ROUND = Value(
    m.CONFIG,
    "best-round",
    whole(),
    decided=position(
        "before this round; it shapes no answer: which older one of its own models it keeps",
        "client.requests.settings.check_settings",
    ),
)


JUDGE = Value(
    m.CONFIG,
    "judge",
    whole(1, 1),
    decided=position(
        "only where the accepted plan's settings have [judgement], and once in a run, after all "
        "rounds: of a model that it gave figures of, and of the same hospitals",
        "client.secagg.contributions.Contributions.check",
    ),
)


@dataclass(frozen=True)
class EvaluateRequest:
    """Asks for metric sums.

    best_round : the best round before this one, where the best is the result and entries are
        personal: which other model a hospital is to keep; 0: none
    masked : with secure aggregation, which sums are asked for and under which keys
    strategy : settings that the strategy has added
    judge : whether the sums are those of ``[judgement]``, by groups
    """

    type: ClassVar = m.EVALUATE
    model: SentModel
    totals: Totals | None = None
    best_round: int = 0
    masked: MaskedTask | None = None
    strategy: Mapping[str, Any] = field(default_factory=dict)
    judge: bool = False

    def to_records(self, first: Iterable[str] = ()) -> Content:
        """``first``: settings that stand before all others, in the order that a strategy chose."""
        model = self.model
        config = {
            **self.strategy,
            **values((ROUND, model.server_round)),
            **model.of_entries(),
            **values((BEST_ROUND, self.best_round or None), (JUDGE, int(self.judge) or None)),
            **model.of_client(),
        }
        return model_content(model, config, self.totals, self.masked, first)

    def completed(self, model: SentModel, settings: Mapping[str, Any]) -> EvaluateRequest:
        """This request with a strategy's model and the settings that it gave with it."""
        return replace(self, model=model, strategy=further(settings, BEST_ROUND, JUDGE))

    @classmethod
    def from_records(cls, content: Content) -> EvaluateRequest:
        """Raises RequestRefused. The model's arrays aren't decoded."""
        came = Came(content, REQUEST)
        return cls(
            SentModel.read(came),
            Totals.read(came),
            came.find(BEST_ROUND) or 0,
            MaskedTask.read(content),
            further(came.config(), BEST_ROUND, JUDGE),
            came.find(JUDGE) is not None,
        )


@dataclass(frozen=True, eq=False)
class EvaluateReply:
    """The hospital's metric sums, in plain: by split ('validation', 'test'), float64 arrays of any
    name and shape. Whether they make sense is the task's to say."""

    type: ClassVar = m.EVALUATE
    sums: Mapping[str, Sums]

    def to_records(self) -> Content:
        return Content(sums_content(named(self.sums)))

    @classmethod
    def from_records(cls, content: Content) -> EvaluateReply:
        """Raises ReplyRefused."""
        return cls(by_split(read_sums(Came(content, REPLY))))


def named(sums: Mapping[str, Sums]) -> Sums:
    """Sums by split, each called 'split/name'."""
    return {f"{split}/{key}": x for split, part in sums.items() for key, x in part.items()}


def by_split(sums: Sums) -> dict[str, Sums]:
    """Sums that are called 'split/name'. Raises ReplyRefused for one that isn't."""
    found: dict[str, Sums] = {}
    for name, value in sums.items():
        split, slash, key = name.partition("/")
        if split not in m.HELD_OUT or not slash:
            raise ReplyRefused(f"its metric sum '{name[:100]}' names no split")
        found.setdefault(split, {})[key] = value
    return found
