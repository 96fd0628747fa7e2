"""How the hospitals' numbers come together: in plain, one reply after the other.

A *gatherer* turns requests into sums and means. This one sees every hospital's reply and keeps
none (but for a strategy that compares single updates); ``server/secagg/gatherer.py`` has the one
that sees sums only. The round loop doesn't know which it uses.

Floating-point sums depend on their order. Replies are added in the order of the hospitals' names,
whoever was fast, so a run between machines gives what a simulation gives, bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from wardround.common.config.load import Config
from wardround.common.errors import BudgetSpent, ReplyRefused
from wardround.common.figures.sums import Sums, add_sums
from wardround.common.flower.arrays import Arrays, Layout, encode_arrays
from wardround.common.privacy.claims import Claim
from wardround.common.protocol import names as m
from wardround.common.tasks.base import Task
from wardround.server.gathering.exchange import exchange
from wardround.server.gathering.faults import round_failed
from wardround.server.gathering.fitting import unused_sums
from wardround.server.gathering.order import InOrder
from wardround.server.gathering.replies import (
    Update,
    check_evaluation,
    check_statistics,
    check_update,
)
from wardround.server.gathering.requests import Totals, queries
from wardround.server.members.member import Member
from wardround.server.observer import Observer
from wardround.server.privacy.round import Release
from wardround.server.strategies import StrategyPlan
from wardround.server.strategies.aggregation import RunningMean, conform

Refusal = dict[str, str]


@dataclass(frozen=True)
class Expected:
    """What a training reply must hold.

    layout : of the shared model
    parameters : names of what optimisers move in it
    records : the strategy's further records
    received : the shared model as it was sent
    release : in a private run, what the hospitals release together
    """

    layout: Layout
    parameters: list[str]
    records: Mapping[str, Layout]
    received: Arrays
    release: Release | None = None

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


@dataclass
class Evaluated:
    """Metric sums by split: added up, and of each hospital where the server may see them.

    answered : by split, whose sums are in it
    """

    sums: dict[str, Sums] = field(default_factory=dict)
    hospitals: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    bytes_up: int = 0
    bytes_down: int = 0
    answered: dict[str, list[str]] = field(default_factory=dict)


class Gatherer(ABC):
    """Asks hospitals and combines what they answer."""

    def __init__(
        self, grid: Grid, config: Config, task: Task[Any], plan: StrategyPlan, observer: Observer
    ) -> None:
        self.grid, self.config, self.task, self.plan = grid, config, task, plan
        self.observer = observer
        self.spent: set[str] = set()
        """Hospitals whose privacy budget doesn't allow another round."""

    @abstractmethod
    def statistics(self, members: Sequence[Member], phase: int, totals: Totals) -> Sums:
        """All members' sums of one phase. Raises RoundFailed, naming a hospital that failed; Unfit
        in phase 0 for those that don't fit the others."""

    @abstractmethod
    def train(
        self, server_round: int, requests: list[Message], cohort: list[Member], expected: Expected
    ) -> Trained:
        """Means of what the cohort trained. Raises RoundFailed if too few answers are usable."""

    @abstractmethod
    def evaluate(
        self, server_round: int, requests: list[Message], members: list[Member], what: str = ""
    ) -> Evaluated:
        """Added metric sums of the members.

        what : which model, where it isn't the round's own
        """

    def groups(self, members: list[Member]) -> list[list[Member]]:
        """Whom one message is for: each hospital by itself."""
        return [[member] for member in members]

    def evaluating(self, members: list[Member]) -> list[Member]:
        """Whom to ask for metric sums: those that have held-out rows."""
        return [x for x in members if x.sizes["validation"] or x.sizes["test"]]

    def summarise(self, sums: Sums) -> dict[str, float]:
        """The task's figures of sums. Raises ReplyRefused if they don't fit it."""
        try:
            return {k: float(v) for k, v in self.task.summarise(sums).items()}
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ReplyRefused(f"its metric sums don't fit the task ({error})") from None

    def exchange(
        self,
        requests: Sequence[Message],
        members: Sequence[Member],
        enough: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[Member, Message, Message | None]]:
        """Send, and yield (member, request, reply) as replies arrive; None for a late one."""
        by_node = {member.node_id: member for member in members}
        timeout_s = self.config.federation.round_timeout_s
        pairs = exchange(self.grid, requests, timeout_s, enough)
        # not a loop, whose variables would keep a reply while the next one is made
        return map(lambda pair: (by_node[pair[0].metadata.dst_node_id], *pair), pairs)

    def in_time(self, reply: Message | None) -> Message:
        """The reply. Raises ReplyRefused if there is none."""
        if reply is None:
            limit = self.config.federation.round_timeout_s
            raise ReplyRefused(f"late: no answer within federation.round_timeout_s = {limit:g}")
        return reply

    def note_claim(self, result: Trained, claim: Claim) -> None:
        """Keep a hospital's claim, and whether it can take part again."""
        result.claims[claim.hospital] = claim
        if not claim.more:
            self.spent.add(claim.hospital)

    def note_spent(self, name: str, error: ReplyRefused) -> None:
        """Keep in mind who refused for its budget."""
        if isinstance(error, BudgetSpent):
            self.spent.add(name)

    @property
    def needed(self) -> int:
        """Answers that a round of single replies must have."""
        return max(self.config.federation.min_clients, self.plan.fewest)

    def check_enough(self, accepted: int, cohort: int, refused: list[Refusal], needed: int) -> None:
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


class PlainGatherer(Gatherer):
    """Sees each hospital's reply."""

    def statistics(self, members: Sequence[Member], phase: int, totals: Totals) -> Sums:
        requests = queries(m.STATISTICS, members, {m.PHASE: phase}, totals)
        total: Sums = {}
        keys: dict[str, frozenset[str]] = {}
        order = InOrder[tuple[str, Sums]](member.name for member in members)
        name = ""
        try:
            for member, _, reply in self.exchange(requests, members):
                name = member.name
                sums = check_statistics(self.in_time(reply))
                keys[name] = frozenset(sums)
                size_bytes = sum(value.nbytes for value in sums.values())
                for one, part in order.put(name, (name, sums), size_bytes):
                    name = one
                    total = add_sums([total, part])
        except (ReplyRefused, ValueError) as error:
            found = [refusal(name, "statistics", error)]
            raise round_failed("data preparation stopped", found) from None
        if phase == 0:
            unused = unused_sums(self.task, keys, self.observer)
            total = {key: value for key, value in total.items() if key not in unused}
        return total

    def train(
        self, server_round: int, requests: list[Message], cohort: list[Member], expected: Expected
    ) -> Trained:
        fold = _Fold(self.plan, expected)
        result = Trained([], fold.accepted, bytes_down=sizes(requests))
        order = InOrder[tuple[Update, Member, Message]](_asked(requests, cohort))
        for member, request, reply in self.exchange(requests, cohort):
            ready, size_bytes = None, 0
            try:
                reply = self.in_time(reply)
                result.bytes_up += m.payload_bytes(reply.content) if reply.has_content() else 0
                roster = expected.release.roster if expected.release else None
                records = expected.all_records
                update = check_update(reply, expected.layout, records, member, roster)
                ready, size_bytes = (update, member, request), update.memory_bytes
                if update.claim is not None:
                    self.note_claim(result, update.claim)
                self.observer.replied(member.name, "train", None)
            except ReplyRefused as error:
                self.note_spent(member.name, error)
                result.refused.append(refusal(member.name, "train", error))
                self.observer.replied(member.name, "train", str(error))
            for next_one in order.put(member.name, ready, size_bytes):
                fold.add(*next_one)
        self.check_enough(len(fold.accepted), len(cohort), result.refused, self.needed)
        result.replies, result.quantile = fold.replies()
        return result

    def evaluate(
        self, server_round: int, requests: list[Message], members: list[Member], what: str = ""
    ) -> Evaluated:
        result = Evaluated(bytes_down=sizes(requests))
        order = InOrder[tuple[str, dict[str, Sums]]](_asked(requests, members))
        for member, _, reply in self.exchange(requests, members):
            ready = None
            try:
                reply = self.in_time(reply)
                ready = member.name, check_evaluation(reply)
                result.bytes_up += m.payload_bytes(reply.content)
            except ReplyRefused as error:
                self._refuse_figures(result, member.name, error)
            for name, sums in order.put(member.name, ready):
                self._add_figures(result, name, sums)
        return result

    def _add_figures(self, result: Evaluated, name: str, sums: dict[str, Sums]) -> None:
        try:
            figures = {split: self.summarise(part) for split, part in sums.items()}
            result.sums |= {
                split: _added(result.sums.get(split), part) for split, part in sums.items()
            }
            result.hospitals[name] = figures
            for split in sums:
                result.answered.setdefault(split, []).append(name)
            self.observer.replied(name, "evaluate", None)
        except ReplyRefused as error:
            self._refuse_figures(result, name, error)

    def _refuse_figures(self, result: Evaluated, name: str, error: ReplyRefused) -> None:
        result.refused.append(refusal(name, "evaluate", error))
        self.observer.replied(name, "evaluate", str(error))


def refusal(hospital: str, step: str, error: Exception) -> Refusal:
    """A line of what was refused, for the report."""
    return {"hospital": hospital, "step": step, "reason": str(error)}


def sizes(messages: Sequence[Message]) -> int:
    """Payload bytes of all messages."""
    return sum(m.payload_bytes(message.content) for message in messages)


def mean_reply(
    request: Message,
    records: Mapping[str, Mapping[str, NDArray[Any]]],
    metrics: dict[str, float],
    weight: float,
) -> Message:
    """A training reply as a strategy expects it."""
    content: dict[str, ArrayRecord | MetricRecord | ConfigRecord] = {
        name: encode_arrays(arrays) for name, arrays in records.items()
    }
    content[m.METRICS] = MetricRecord({**metrics, m.NUM_EXAMPLES: weight})
    return Message(RecordDict(content), reply_to=request)


class _Fold:
    """Accepted updates of one attempt: a running mean, or all of them for a robust rule."""

    def __init__(self, plan: StrategyPlan, expected: Expected) -> None:
        self.accepted: list[str] = []
        self._plan = plan
        self._mean = RunningMean(expected.layout)
        self._expected = expected
        self._record_means = {
            name: RunningMean(part) for name, part in expected.all_records.items()
        }
        self._metrics = {m.TRAIN_LOSS: 0.0, m.LOCAL_STEPS: 0.0}
        self._single: list[Message] = []
        self._request: Message | None = None

    def add(self, update: Update, member: Member, request: Message) -> None:
        """Fold one checked update in."""
        weight = float(update.num_examples) if self._plan.weighting == "examples" else 1.0
        self._request = self._request or request
        self.accepted.append(member.name)
        if self._plan.individual:
            records = {m.ARRAYS: update.arrays}
            self._single.append(mean_reply(request, records, update.metrics, weight))
            return
        self._mean.add(update.arrays, weight)
        for name, arrays in update.records.items():
            self._record_means[name].add(arrays, 1.0)
        for key, value in update.metrics.items():
            self._metrics[key] += value * weight

    def replies(self) -> tuple[list[Message], float | None]:
        """What the strategy sees: one reply with the means, or every single one; and the mean
        quantile coordinate. Central noise is on both."""
        if self._plan.individual:
            return self._single, None
        assert self._request is not None  # only asked after enough updates were added
        weight = self._mean.weight
        records = {m.ARRAYS: self._mean.mean()}
        records |= {name: mean.mean() for name, mean in self._record_means.items()}
        release = self._expected.release
        if release is not None and release.central:
            records = _with_central_noise(records, self._expected, release, len(self.accepted))
        quantile = records.pop(m.QUANTILE, None)
        metrics = {key: value / weight for key, value in self._metrics.items()}
        reply = mean_reply(self._request, records, metrics, weight)
        return [reply], float(quantile[m.QUANTILE][0]) if quantile else None


def _with_central_noise(
    records: dict[str, Arrays], expected: Expected, release: Release, hospitals: int
) -> dict[str, Arrays]:
    """The means with the noise of a trusted server on the change of the parameters."""
    model = records[m.ARRAYS]
    change = {
        name: np.subtract(model[name], expected.received[name], dtype=np.float64)
        for name in expected.parameters
    }
    noised = release.add_to_mean(change | records.get(m.QUANTILE, {}), hospitals)
    quantile = {m.QUANTILE: {m.QUANTILE: noised.pop(m.QUANTILE)}} if m.QUANTILE in noised else {}
    moved = {
        name: conform(expected.received[name] + value, expected.layout[name].dtype)
        for name, value in noised.items()
    }
    return records | {m.ARRAYS: model | moved} | quantile


def _asked(requests: Sequence[Message], members: Sequence[Member]) -> list[str]:
    """Names of whom the requests go to, in their order."""
    names = {member.node_id: member.name for member in members}
    return [names[request.metadata.dst_node_id] for request in requests]


def _added(so_far: Sums | None, part: Sums) -> Sums:
    try:
        return add_sums([so_far, part]) if so_far else part
    except ValueError as error:
        raise ReplyRefused(f"its metric sums don't fit the others' ({error})") from None
