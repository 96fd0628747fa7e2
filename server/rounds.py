"""One round: configure, train, aggregate, evaluate. Committing it is ``server/federation.py``'s.

Replies are checked and folded one by one as they arrive; nothing of a reply is kept after that,
unless the strategy compares single updates.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from wardround.common import messages as m
from wardround.common.arrays import (
    Arrays,
    Layout,
    check_finite,
    check_names,
    decode_arrays,
    encode_arrays,
    layout_of,
)
from wardround.common.config import Config
from wardround.common.errors import ReplyRefused, RoundFailed, StrategyError
from wardround.common.hosting import CohortGrid
from wardround.common.metrics import add_sums
from wardround.common.rng import seeded_globals
from wardround.common.tasks.base import Sums, Task
from wardround.server.aggregation import RunningMean, conform
from wardround.server.exchange import exchange
from wardround.server.observer import Observer
from wardround.server.replies import Member, Update, check_evaluation, check_update
from wardround.server.requests import Totals, complete
from wardround.server.strategies import StrategyPlan

Refusal = dict[str, str]


@dataclass
class TrainResult:
    """What training gave: the next shared model and who contributed."""

    model: Arrays
    loss: float
    accepted: list[str]
    refused: list[Refusal]
    bytes_down: int
    bytes_up: int
    seconds: float


@dataclass
class EvaluationResult:
    """Figures by split: of the added sums (overall) and of each hospital."""

    overall: dict[str, dict[str, float]] = field(default_factory=dict)
    hospitals: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    bytes_down: int = 0
    bytes_up: int = 0
    seconds: float = 0.0


class RoundRunner:
    """Runs rounds against a grid. Holds what doesn't change between rounds."""

    def __init__(
        self,
        grid: Grid,
        config: Config,
        task: Task[Any],
        plan: StrategyPlan,
        totals: Totals,
        trainable: list[str],
        local_keys: list[str],
        observer: Observer,
    ) -> None:
        self.grid, self.config, self.task, self.plan = grid, config, task, plan
        self.totals, self.trainable, self.local_keys = totals, trainable, local_keys
        self.observer = observer

    def train(
        self,
        server_round: int,
        shared: Arrays,
        cohort: list[Member],
        state_rounds: dict[str, int],
    ) -> TrainResult:
        """Train one cohort and aggregate. Raises RoundFailed if too few replies are accepted."""
        started = time.monotonic()
        layout = layout_of(shared)
        requests = self._train_requests(server_round, shared, cohort, state_rounds)
        bytes_down = sum(m.payload_bytes(request.content) for request in requests)
        fold = _Fold(self.plan, layout, self._record_layouts(layout))
        refused: list[Refusal] = []
        by_node = {member.node_id: member for member in cohort}
        bytes_up = 0
        for request, reply in exchange(self.grid, requests, self.config.federation.round_timeout_s):
            member = by_node[request.metadata.dst_node_id]
            try:
                reply = self._in_time(reply)
                bytes_up += m.payload_bytes(reply.content) if reply.has_content() else 0
                fold.add(check_update(reply, layout, fold.records, member), member, request)
                self.observer.replied(member.name, "train", None)
            except ReplyRefused as error:
                refused.append({"hospital": member.name, "step": "train", "reason": str(error)})
                self.observer.replied(member.name, "train", str(error))
        needed = self.config.federation.min_clients
        if len(fold.accepted) < needed:
            why = "; ".join(f"{r['hospital']}: {r['reason']}" for r in refused[:3])
            raise RoundFailed(
                f"{len(fold.accepted)} of {len(cohort)} hospitals answered usefully, "
                f"federation.min_clients is {needed}" + (f" ({why})" if why else "")
            )
        model, loss = self._aggregate(server_round, fold, layout)
        seconds = time.monotonic() - started
        return TrainResult(model, loss, fold.accepted, refused, bytes_down, bytes_up, seconds)

    def evaluate(
        self,
        server_round: int,
        shared: Arrays,
        members: list[Member],
        state_rounds: dict[str, int],
    ) -> EvaluationResult:
        """Metric sums of every hospital that has held-out rows, added up."""
        started = time.monotonic()
        held_out = [x for x in members if x.sizes["validation"] or x.sizes["test"]]
        result = EvaluationResult()
        if not held_out:
            return result
        requests = self._evaluate_requests(server_round, shared, held_out, state_rounds)
        result.bytes_down = sum(m.payload_bytes(request.content) for request in requests)
        by_node = {member.node_id: member.name for member in held_out}
        added: dict[str, Sums] = {}
        for request, reply in exchange(self.grid, requests, self.config.federation.round_timeout_s):
            name = by_node[request.metadata.dst_node_id]
            try:
                reply = self._in_time(reply)
                sums = check_evaluation(reply)
                figures = {split: self._summarise(part) for split, part in sums.items()}
                trial = {split: _added(added.get(split), part) for split, part in sums.items()}
                added |= trial
                result.hospitals[name] = figures
                result.bytes_up += m.payload_bytes(reply.content)
                self.observer.replied(name, "evaluate", None)
            except ReplyRefused as error:
                refusal = {"hospital": name, "step": "evaluate", "reason": str(error)}
                result.refused.append(refusal)
                self.observer.replied(name, "evaluate", str(error))
        result.overall = {split: self._summarise(part) for split, part in added.items()}
        self._tell_strategy(server_round, requests, result)
        result.seconds = time.monotonic() - started
        return result

    # --- requests --------------------------------------------------------------------------
    def _train_requests(
        self, server_round: int, shared: Arrays, cohort: list[Member], states: dict[str, int]
    ) -> list[Message]:
        seed = self.config.federation.seed
        with seeded_globals(seed, "strategy", server_round, "configure"):
            messages = self.plan.strategy.configure_train(
                server_round,
                encode_arrays(shared),
                ConfigRecord(),
                CohortGrid(self.grid, [member.node_id for member in cohort]),
            )
        ours = self.plan.ours
        extra = {k: encode_arrays(v) for k, v in ours.request_records().items()} if ours else {}
        config: dict[str, Any] = {m.ALGORITHM: self.plan.algorithm, m.ROUND: server_round}
        config |= ours.request_config() if ours else {}
        config |= self._personal()
        return complete(messages, cohort, self.totals, extra, config, states)

    def _evaluate_requests(
        self, server_round: int, shared: Arrays, members: list[Member], states: dict[str, int]
    ) -> list[Message]:
        with seeded_globals(self.config.federation.seed, "strategy", server_round, "evaluate"):
            messages = self.plan.strategy.configure_evaluate(
                server_round,
                encode_arrays(shared),
                ConfigRecord(),
                CohortGrid(self.grid, [member.node_id for member in members]),
            )
        config: dict[str, Any] = {m.ROUND: server_round} | self._personal()
        return complete(messages, members, self.totals, {}, config, states)

    def _personal(self) -> dict[str, Any]:
        return {m.LOCAL_KEYS: list(self.local_keys)} if self.local_keys else {}

    def _record_layouts(self, layout: Layout) -> dict[str, Layout]:
        ours = self.plan.ours
        trainable = {name: layout[name] for name in self.trainable}
        return ours.reply_records(trainable) if ours else {}

    # --- replies ---------------------------------------------------------------------------
    def _in_time(self, reply: Message | None) -> Message:
        if reply is None:
            limit = self.config.federation.round_timeout_s
            raise ReplyRefused(f"late: no answer within federation.round_timeout_s = {limit:g}")
        return reply

    def _summarise(self, sums: Sums) -> dict[str, float]:
        try:
            return {k: float(v) for k, v in self.task.summarise(sums).items()}
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ReplyRefused(f"its metric sums don't fit the task ({error})") from None

    def _aggregate(self, server_round: int, fold: _Fold, layout: Layout) -> tuple[Arrays, float]:
        ours = self.plan.ours
        if ours:
            ours.accepted = len(fold.accepted)
        with seeded_globals(self.config.federation.seed, "strategy", server_round, "aggregate"):
            try:
                arrays, metrics = self.plan.strategy.aggregate_train(server_round, fold.replies())
            except Exception as error:
                raise StrategyError(
                    f"strategy '{self.plan.name}' failed in round {server_round}: "
                    f"{type(error).__name__}: {error}"
                ) from error
        if arrays is None:
            raise RoundFailed(f"strategy '{self.plan.name}' returned no model")
        return _conforming(self.plan.name, arrays, layout), _loss(metrics)

    def _tell_strategy(
        self, server_round: int, requests: list[Message], result: EvaluationResult
    ) -> None:
        """Hand the overall figures to strategies that steer by them."""
        figures = {
            f"{split}-{name}": value
            for split, part in result.overall.items()
            for name, value in part.items()
        }
        if figures:
            record = MetricRecord(figures | {m.NUM_EXAMPLES: 1})  # type: ignore[arg-type]
            reply = Message(RecordDict({m.METRICS: record}), reply_to=requests[0])
            self.plan.strategy.aggregate_evaluate(server_round, [reply])


class _Fold:
    """Accepted updates of one attempt: a running mean, or all of them for a robust rule."""

    def __init__(self, plan: StrategyPlan, layout: Layout, records: dict[str, Layout]) -> None:
        self.records = records
        self.accepted: list[str] = []
        self._plan = plan
        self._mean = RunningMean(layout)
        self._record_means = {name: RunningMean(part) for name, part in records.items()}
        self._metrics = {m.TRAIN_LOSS: 0.0, m.LOCAL_STEPS: 0.0}
        self._single: list[Message] = []
        self._request: Message | None = None

    def add(self, update: Update, member: Member, request: Message) -> None:
        """Fold one checked update in."""
        weight = float(update.num_examples) if self._plan.weighting == "examples" else 1.0
        self._request = self._request or request
        self.accepted.append(member.name)
        if self._plan.individual:
            self._single.append(_reply(request, {m.ARRAYS: update.arrays}, update.metrics, weight))
            return
        self._mean.add(update.arrays, weight)
        for name, arrays in update.records.items():
            self._record_means[name].add(arrays, 1.0)
        for key, value in update.metrics.items():
            self._metrics[key] += value * weight

    def replies(self) -> Iterable[Message]:
        """What the strategy sees: one reply with the means, or every single one."""
        if self._plan.individual:
            return self._single
        assert self._request is not None  # only asked after enough updates were added
        weight = self._mean.weight
        records = {m.ARRAYS: self._mean.mean()}
        records |= {name: mean.mean() for name, mean in self._record_means.items()}
        metrics = {key: value / weight for key, value in self._metrics.items()}
        return [_reply(self._request, records, metrics, weight)]


def _reply(
    request: Message, records: dict[str, Arrays], metrics: dict[str, float], weight: float
) -> Message:
    content: dict[str, ArrayRecord | MetricRecord | ConfigRecord] = {
        name: encode_arrays(arrays) for name, arrays in records.items()
    }
    content[m.METRICS] = MetricRecord({**metrics, m.NUM_EXAMPLES: weight})
    return Message(RecordDict(content), reply_to=request)


def _added(so_far: Sums | None, part: Sums) -> Sums:
    try:
        return add_sums([so_far, part]) if so_far else part
    except ValueError as error:
        raise ReplyRefused(f"its metric sums don't fit the others' ({error})") from None


def _conforming(name: str, record: ArrayRecord, layout: Layout) -> Arrays:
    """A strategy's result in the model's own dtypes. Raises StrategyError if it doesn't fit."""
    try:
        check_names(record.keys(), layout)
        arrays = {}
        for key, value in decode_arrays(record).items():
            if value.shape != layout[key].shape:
                raise ReplyRefused(f"array '{key}' has shape {value.shape}")
            arrays[key] = conform(value, layout[key].dtype)
            check_finite(key, arrays[key])
    except ReplyRefused as error:
        raise StrategyError(f"strategy '{name}' returned an unusable model: {error}") from None
    return arrays


def _loss(metrics: MetricRecord | None) -> float:
    value = metrics.get(m.TRAIN_LOSS) if metrics else None
    return float(value) if isinstance(value, int | float) else float("nan")
