"""What the round loop asks of hospitals, whichever way their numbers come together.

A *gatherer* turns requests into sums and means. ``plain.py`` has the one that sees every reply,
``cohorts.py`` the one that asks a whole cohort by one message, and ``server/secagg/gatherer.py``
the one that sees sums only. The round loop doesn't know which it uses.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from wardround.common.compression.scales import MOST_RATIO, SCALES
from wardround.common.compression.writing import Writing
from wardround.common.config.load import Config
from wardround.common.errors import BudgetSpent, EvaluatesLater, HospitalStopped, ReplyRefused
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Arrays, Layout, encode_arrays
from wardround.common.privacy.claims import Claim
from wardround.common.procedures.words import Words
from wardround.common.protocol import names as m
from wardround.common.protocol.evaluate import EvaluateRequest
from wardround.common.protocol.statistics import StatisticsRequest
from wardround.common.protocol.sums import SumsRequest
from wardround.common.secagg.messages import Blind
from wardround.common.tasks.base import Task
from wardround.server.gathering.faults import round_failed
from wardround.server.gathering.fitting import Fits
from wardround.server.gathering.messenger import Refusal
from wardround.server.members.member import Member
from wardround.server.privacy.round import Release
from wardround.server.strategies import StrategyPlan

FiguresOf = Callable[[Sums], Mapping[str, float]]


@dataclass(frozen=True)
class Question:
    """Named sums that all members are asked for, once: a phase of the preparation, a step of a
    procedure.

    purpose : of the masked sum, 'statistics 0'; no two questions of a run have one
    request : what each is sent
    shapes : names and shapes of the sums; None: those that the hospitals have, which they are asked
        for before under masks
    fits : says, by the names of each hospital's sums, who can take part and which are of no use;
        None: all are asked for the same
    what : what stops when a hospital fails, for people
    words : which of the sums are words under masks; None: all are exact
    """

    purpose: str
    request: StatisticsRequest | SumsRequest | EvaluateRequest
    shapes: Mapping[str, tuple[int, ...]] | None
    fits: Fits | None
    what: str
    words: Words | None = None

    @property
    def step(self) -> int:
        """Of the procedure, or phase, from 0."""
        if isinstance(self.request, StatisticsRequest):
            return self.request.phase
        return self.request.step if isinstance(self.request, SumsRequest) else 0


@dataclass(frozen=True)
class Expected:
    """What a training reply must hold.

    layout : of the shared model
    parameters : names of what optimisers move in it
    records : the strategy's further records
    received : the shared model as it was sent
    release : in a private run, what the hospitals release together
    largest_weight : under masks, what a hospital's update counts for at most
    writing : how updates are written, with ``[compression]``; its ratios are among ``records``
    blind : what the model is worked out from, where only hospitals can: ``received`` isn't it
    """

    layout: Layout
    parameters: list[str]
    records: Mapping[str, Layout]
    received: Arrays
    release: Release | None = None
    largest_weight: int = 1
    writing: Writing | None = None
    blind: Blind | None = None

    @property
    def all_records(self) -> dict[str, Layout]:
        """The strategy's records and those of privacy."""
        return {**self.records, **(self.release.records() if self.release else {})}


@dataclass
class Trained:
    """Training replies as a strategy gets them: one that holds the means, or every single one.

    clipped : share of the update's coordinates that were clipped; None where nothing is
    resolution : size of the update over that of its rounding; below 1 it is mostly rounding
    claims : what hospitals say of their privacy budgets, by name
    quantile : mean quantile coordinate, where the clipping norm adapts
    failed : how many had nothing to add to the masked sum, of which so nothing is known
    factors_error : by how much averaging low-rank factors has missed the mean of their products
    ratios : with ``[compression]``, the layers' mean squares over those of their scales
    sent_on : of a blind run, where there are no replies to see: the sum under the hospitals' mask,
        and what they read it by; ``loss``: their mean one
    """

    replies: list[Message]
    accepted: list[str]
    refused: list[Refusal] = field(default_factory=list)
    bytes_up: int = 0
    bytes_down: int = 0
    clipped: float | None = None
    resolution: float | None = None
    claims: dict[str, Claim] = field(default_factory=dict)
    quantile: float | None = None
    failed: int = 0
    factors_error: float | None = None
    ratios: NDArray[Any] | None = None
    sent_on: tuple[Arrays, Blind] | None = None
    loss: float = math.nan


@dataclass
class Evaluated:
    """Metric sums by split: added up, and of each hospital where the server may see them.

    answered : by split, whose sums are in it
    failed : by split, how many of these added nothing to a masked sum
    """

    sums: dict[str, Sums] = field(default_factory=dict)
    hospitals: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    bytes_up: int = 0
    bytes_down: int = 0
    answered: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What all requests of a run are made by, and all replies are judged by.

    plan : of the strategy: what it needs of a reply, and how replies are weighted
    """

    config: Config
    task: Task[Any]
    plan: StrategyPlan

    @property
    def fewest_replies(self) -> int:
        """Single replies that a round must have."""
        return max(self.config.federation.min_clients, self.plan.fewest)

    def check_enough(
        self, accepted: int, *, cohort: int, needed: int, refused: Sequence[Refusal]
    ) -> None:
        """Raise RoundFailed, with reasons, if fewer than ``needed`` answers are usable."""
        if accepted < needed:
            why = f"the round needs {needed}"
            if needed == self.config.federation.min_clients:
                why = f"federation.min_clients is {needed}"
            elif needed == self.plan.fewest:
                why = f"strategy '{self.plan.name}' needs {needed}"
            raise round_failed(
                f"{accepted} of {cohort} hospitals answered usefully, {why}", refused
            )


class Budgets:
    """Hospitals that will refuse what they are asked, by what they say of it.

    It outlives a gatherer: they are not asked again by the next one either.

    spent : whose privacy budget doesn't allow another round
    stopped : who failed too often in this run
    later : who evaluates in the last round only
    refused : whose last answers were refused, whatever the reason; emptied by who looks
    """

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.spent: set[str] = set()
        self.stopped: set[str] = set()
        self.later: set[str] = set()

    def evaluating(self, members: Sequence[Member], last: bool) -> list[Member]:
        """Those whom it is any use to ask for figures; ``last``: of the plan's last round."""
        out = self.stopped if last else self.stopped | self.later
        return [one for one in members if one.name not in out] if out else list(members)

    def note_claim(self, claim: Claim) -> None:
        """An accepted reply's claim says whether its hospital can take part again."""
        if not claim.more:
            self.spent.add(claim.hospital)

    def note_refusal(self, name: str, error: ReplyRefused) -> None:
        """Keep in mind who refused, and for a reason that stays."""
        self.refused.add(name)
        if isinstance(error, BudgetSpent):
            self.spent.add(name)
        elif isinstance(error, HospitalStopped):
            self.stopped.add(name)
        elif isinstance(error, EvaluatesLater):
            self.later.add(name)


class Gatherer(ABC):
    """Asks hospitals and combines what they answer."""

    @abstractmethod
    def addressees(
        self, members: Sequence[Member], *, evaluating: bool = False
    ) -> list[list[Member]]:
        """Whom one message is for: a hospital by itself, or several that one process runs.
        ``evaluating``: it asks for figures."""

    @abstractmethod
    def sums(self, members: Sequence[Member], question: Question) -> Sums:
        """All members' named sums, added. Raises RoundFailed, naming a hospital that failed; Unfit
        for those that don't fit the others."""

    @abstractmethod
    def train(
        self, server_round: int, requests: list[Message], cohort: list[Member], expected: Expected
    ) -> Trained:
        """Means of what the cohort trained. Raises RoundFailed if too few answers are usable."""

    @abstractmethod
    def evaluate(
        self,
        server_round: int,
        requests: list[Message],
        members: list[Member],
        figures: FiguresOf,
        what: str = "",
    ) -> Evaluated:
        """Added metric sums of the members.

        figures : of one hospital's sums, where these can be seen. Raises ReplyRefused
        what : which model, where it isn't the round's own
        """


def take_ratios(records: dict[str, Arrays]) -> NDArray[Any] | None:
    """Out of the means of a round, for ``Trained.ratios``; None where there are none."""
    found = records.pop(SCALES, None)
    return None if found is None else MOST_RATIO * np.asarray(found[SCALES], np.float64)


def summarise(task: Task[Any], sums: Sums) -> dict[str, float]:
    """The task's figures of sums. Raises ReplyRefused if they don't fit it."""
    try:
        return {k: float(v) for k, v in task.summarise(sums).items()}
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ReplyRefused(f"its metric sums don't fit the task ({error})") from None


def mean_reply(
    request: Message,
    records: Mapping[str, Mapping[str, NDArray[Any]]],
    metrics: dict[str, float],
    weight: float,
) -> Message:
    """A training reply as a strategy expects it: records of arrays, and of metrics with the weight
    under ``num-examples``.

    metrics : means over what the reply stands for
    weight : examples, or hospitals, that it stands for
    """
    content: dict[str, ArrayRecord | MetricRecord | ConfigRecord] = {
        name: encode_arrays(arrays) for name, arrays in records.items()
    }
    content[m.METRICS] = MetricRecord({**metrics, m.NUM_EXAMPLES: weight})
    return Message(RecordDict(content), reply_to=request)
