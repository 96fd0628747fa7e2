"""One round: configure, train, aggregate, evaluate. Committing it is ``federation.py``'s.

What hospitals send is combined by a gatherer; this module makes the requests and lets the strategy
work on the outcome.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from wardround.common.errors import ReplyRefused, RoundFailed, StrategyError
from wardround.common.figures.records import Means
from wardround.common.figures.sums import Sums
from wardround.common.figures.within import means_of, taken_out
from wardround.common.flower.arrays import (
    Arrays,
    Layout,
    check_finite,
    check_names,
    decode_arrays,
    encode_arrays,
    layout_of,
)
from wardround.common.flower.hosting import CohortGrid
from wardround.common.model.saved import ModelForm
from wardround.common.protocol import names as m
from wardround.common.rng import seeded_globals
from wardround.server.gathering.gatherer import (
    Evaluated,
    Expected,
    Gatherer,
    RunSettings,
    Trained,
    summarise,
)
from wardround.server.gathering.messenger import Refusal
from wardround.server.gathering.requests import Totals, complete
from wardround.server.members.member import Member
from wardround.server.members.sampling import holding_out
from wardround.server.privacy.round import PrivacyPlan
from wardround.server.rounds.participants import Participants
from wardround.server.strategies.aggregation import conform
from wardround.server.strategies.view import StrategyView


@dataclass
class TrainResult:
    """What training gave: the next shared model and who contributed.

    clipping_norm : for the next round, in a private run
    """

    model: Arrays
    loss: float
    seconds: float
    gathered: Trained
    clipping_norm: float | None = None


@dataclass
class EvaluationResult:
    """Figures by split: of the added sums (overall) and of each hospital, if they are visible.

    request : one of those that were sent, where any was
    within : means of the hospitals' own figures
    over : names of the hospitals that the figures are over
    """

    overall: dict[str, dict[str, float]] = field(default_factory=dict)
    gathered: Evaluated = field(default_factory=Evaluated)
    seconds: float = 0.0
    request: Message | None = None
    within: dict[str, Means] = field(default_factory=dict)
    over: dict[str, list[str]] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The figures, for a line of ``metrics.jsonl``."""
        return {
            "overall": self.overall,
            "hospitals": self.gathered.hospitals,
            "within": self.within,
            "over": self.over,
        }

    @property
    def hospitals(self) -> dict[str, dict[str, dict[str, float]]]:
        """Figures by hospital and split; empty with secure aggregation."""
        return self.gathered.hospitals

    @property
    def refused(self) -> list[Refusal]:
        """Whose answers were not used."""
        return self.gathered.refused


class RoundRunner:
    """Runs rounds. Holds what doesn't change between them."""

    def __init__(
        self,
        settings: RunSettings,
        *,
        grid: Grid,
        participants: Participants,
        totals: Totals,
        form: ModelForm,
    ) -> None:
        self.config, self.plan, self._task = settings.config, settings.plan, settings.task
        self.grid, self.participants = grid, participants
        self.totals, self.entries, self.frozen = totals, form.entries, form.frozen_digest
        self.view = StrategyView(form.entries, settings.plan.individual)

    @property
    def gatherer(self) -> Gatherer:
        """The present members'."""
        return self.participants.gatherer

    @property
    def privacy(self) -> PrivacyPlan | None:
        """The present members'."""
        return self.participants.privacy

    def train(
        self,
        server_round: int,
        shared: Arrays,
        cohort: list[Member],
        state_rounds: dict[str, int],
        clipping_norm: float | None = None,
    ) -> TrainResult:
        """Train one cohort and aggregate. Raises RoundFailed if too few replies are accepted."""
        started = time.monotonic()
        norm = clipping_norm or self.config.privacy.clipping_norm
        requests = self._train_requests(server_round, shared, cohort, state_rounds, norm)
        expected = self.expected(server_round, shared, len(cohort), norm)
        layout, release = expected.layout, expected.release
        gathered = self.gatherer.train(server_round, requests, cohort, expected)
        model, loss = self._aggregate(server_round, gathered, layout)
        if release is not None and gathered.quantile is not None:
            norm = release.next_norm(norm, gathered.quantile)
        seconds = time.monotonic() - started
        return TrainResult(model, loss, seconds, gathered, norm if release else None)

    def expected(
        self, server_round: int, shared: Arrays, cohort: int, clipping_norm: float
    ) -> Expected:
        """What replies of a round must hold."""
        layout, release = layout_of(shared), None
        if self.privacy is not None:
            release = self.privacy.release(server_round, clipping_norm, cohort)
        records = self._record_layouts(layout)
        return Expected(layout, self.entries.parameters, records, shared, release)

    def evaluate(
        self,
        server_round: int,
        shared: Arrays,
        members: list[Member],
        state_rounds: dict[str, int],
        what: str = "",
        best_round: int | None = None,
    ) -> EvaluationResult:
        """Figures of the metric sums of every hospital that has held-out rows, added up.

        what : which model it is, where it isn't the round's own
        best_round : told where entries are personal: which other model a hospital is to keep
        """
        started = time.monotonic()
        result = EvaluationResult()
        members = holding_out(members)
        if not members:
            return result
        best = {m.BEST_ROUND: best_round} if best_round and self.entries.personal else {}
        requests = self._evaluate_requests(server_round, shared, members, state_rounds, best)
        result.gathered = self.gatherer.evaluate(server_round, requests, members, what)
        for split, sums in result.gathered.sums.items():
            result.overall[split], result.within[split] = self._figures(
                split, sums, result.hospitals
            )
            result.over[split] = sorted(result.gathered.answered.get(split, ()))
        result.request = requests[0]
        result.seconds = time.monotonic() - started
        return result

    def _figures(
        self, split: str, sums: Sums, hospitals: dict[str, dict[str, dict[str, float]]]
    ) -> tuple[dict[str, float], Means]:
        """Figures of the added sums, and means of the hospitals' own."""
        try:
            sums, means = taken_out(sums)
        except ValueError as error:
            raise ReplyRefused(f"the hospitals' means don't add up ({error})") from None
        within = self._task.figure_table().within()
        parts = [part[split] for part in hospitals.values() if split in part]
        return summarise(self._task, sums), means or means_of(parts, within)

    # --- requests --------------------------------------------------------------------------
    def _train_requests(
        self,
        server_round: int,
        shared: Arrays,
        cohort: list[Member],
        states: dict[str, int],
        clipping_norm: float,
    ) -> list[Message]:
        seed = self.config.federation.seed
        addressees = self.gatherer.addressees(cohort)
        with seeded_globals(seed, "strategy", server_round, "configure"):
            messages = self.plan.strategy.configure_train(
                server_round,
                self.view.shown(shared),
                ConfigRecord(),
                CohortGrid(self.grid, [first.node_id for first, *_ in addressees]),
            )
        messages = self.view.completed(messages, shared)
        ours = self.plan.ours
        extra = {k: encode_arrays(v) for k, v in ours.request_records().items()} if ours else {}
        config: dict[str, Any] = {m.ALGORITHM: self.plan.algorithm, m.ROUND: server_round}
        config |= ours.request_config() if ours else {}
        config |= self._of_model()
        if self.privacy is not None:
            config |= self.privacy.request_config(len(cohort), clipping_norm)
        return complete(messages, addressees, self.totals, extra, config, states)

    def _evaluate_requests(
        self,
        server_round: int,
        shared: Arrays,
        members: list[Member],
        states: dict[str, int],
        best: dict[str, int],
    ) -> list[Message]:
        addressees = self.gatherer.addressees(members)
        with seeded_globals(self.config.federation.seed, "strategy", server_round, "evaluate"):
            messages = self.plan.strategy.configure_evaluate(
                server_round,
                encode_arrays(shared),
                ConfigRecord(),
                CohortGrid(self.grid, [first.node_id for first, *_ in addressees]),
            )
        config: dict[str, Any] = {m.ROUND: server_round} | self._of_model() | best
        return complete(messages, addressees, self.totals, {}, config, states)

    def _of_model(self) -> dict[str, Any]:
        """What a request says of entries that it doesn't hold."""
        personal = {m.LOCAL_KEYS: self.entries.personal} if self.entries.personal else {}
        return personal | ({m.FROZEN: self.frozen} if self.frozen else {})

    def _record_layouts(self, layout: Layout) -> dict[str, Layout]:
        ours = self.plan.ours
        trainable = {name: layout[name] for name in self.entries.parameters}
        return ours.reply_records(trainable) if ours else {}

    # --- strategy --------------------------------------------------------------------------
    def _aggregate(
        self, server_round: int, gathered: Trained, layout: Layout
    ) -> tuple[Arrays, float]:
        ours = self.plan.ours
        if ours:
            ours.accepted = len(gathered.accepted)
        with seeded_globals(self.config.federation.seed, "strategy", server_round, "aggregate"):
            try:
                averaged = self.view.taken(gathered.replies)
                arrays, metrics = self._aggregated(server_round, gathered.replies)
            except Exception as error:
                raise StrategyError(
                    f"strategy '{self.plan.name}' failed in round {server_round}: "
                    f"{type(error).__name__}: {error}"
                ) from error
        if arrays is None:
            raise RoundFailed(f"strategy '{self.plan.name}' returned no model")
        moved = {name: spec for name, spec in layout.items() if name not in averaged}
        found = _conforming(self.plan.name, arrays, moved) | averaged
        return {name: found[name] for name in layout}, _loss(metrics)

    def _aggregated(
        self, server_round: int, replies: list[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """What the strategy makes of the replies. FedAvg's mean of one reply is that reply, and
        isn't calculated: for a large model that would take two more copies of it."""
        strategy = self.plan.strategy
        if len(replies) == 1 and type(strategy).aggregate_train is FedAvg.aggregate_train:
            content = replies[0].content
            arrays = m.records_of(content, ArrayRecord).get(m.ARRAYS)
            return arrays, m.records_of(content, MetricRecord).get(m.METRICS)
        try:
            return strategy.aggregate_train(server_round, replies)
        finally:
            for reply in replies:  # its views of them are cycles that would keep the arrays
                reply.content.clear()

    def tell_strategy(self, server_round: int, result: EvaluationResult) -> None:
        """Hand a round's overall figures, once, to strategies that steer by them."""
        figures = {
            f"{split}-{name}": value
            for split, part in result.overall.items()
            for name, value in part.items()
        }
        if figures and result.request is not None:
            record = MetricRecord(figures | {m.NUM_EXAMPLES: 1})  # type: ignore[arg-type]
            reply = Message(RecordDict({m.METRICS: record}), reply_to=result.request)
            self.plan.strategy.aggregate_evaluate(server_round, [reply])


def _conforming(name: str, record: ArrayRecord, layout: Layout) -> Arrays:
    """A strategy's result in the model's own dtypes. Raises StrategyError if it doesn't fit."""
    try:
        check_names(record.keys(), layout)
        arrays = {}
        for key, value in decode_arrays(record).items():
            if value.shape != layout[key].shape:
                raise ReplyRefused(f"array '{key}' has shape {value.shape}")
            arrays[key] = conform(value, layout[key].dtype)
            if arrays[key] is not value:  # else it was checked when it was decoded
                check_finite(key, arrays[key])
    except ReplyRefused as error:
        raise StrategyError(f"strategy '{name}' returned an unusable model: {error}") from None
    return arrays


def _loss(metrics: MetricRecord | None) -> float:
    value = metrics.get(m.TRAIN_LOSS) if metrics else None
    return float(value) if isinstance(value, int | float) else float("nan")
