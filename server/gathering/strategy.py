"""A Flower strategy as the round loop sees it: typed requests out of its messages, arrays out of
its answer.

Strategies get and give Flower's messages and records; nobody above this file looks into one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from wardround.common.compression.scales import SCALES, Scales
from wardround.common.config.load import Config
from wardround.common.errors import ReplyRefused, RoundFailed, StrategyError
from wardround.common.flower.arrays import (
    Arrays,
    Layout,
    check_finite,
    check_names,
    decode_arrays,
    encode_arrays,
)
from wardround.common.flower.conforming import conform
from wardround.common.flower.hosting import CohortGrid
from wardround.common.model.saved import ModelForm
from wardround.common.protocol import names as m
from wardround.common.protocol.evaluate import EvaluateRequest
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.totals import Totals
from wardround.common.protocol.train import PrivacyTerms, TrainRequest
from wardround.common.rng import seeded_globals
from wardround.server.gathering.gatherer import Trained
from wardround.server.gathering.requests import complete
from wardround.server.members.member import Member
from wardround.server.strategies import StrategyPlan
from wardround.server.strategies.view import StrategyView


def check_narrow(config: Config, plan: StrategyPlan, layout: Layout) -> None:
    """Raise StrategyError for entries of bfloat16 where a strategy would calculate with them: the
    weighted mean is rounded once, and that is all that is done in 16 bits."""
    averages = type(plan.strategy).aggregate_train is FedAvg.aggregate_train
    narrow = [name for name, spec in layout.items() if spec.dtype == "bfloat16"]
    if narrow and not (averages and plan.algorithm == "plain"):
        raise StrategyError(
            f"strategy '{plan.name}' can't calculate with '{narrow[0]}', which is of bfloat16; use "
            "'fedavg' or 'fedprox', or a model of float32"
        )
    if narrow and config.federation.buffered:
        raise StrategyError(
            f"'{narrow[0]}' is of bfloat16, in which no update is kept and scaled; set "
            "federation.pace = 'synchronous', or use a model of float32"
        )


class AskedStrategy:
    """Asks a strategy for its requests, and for what it makes of the replies.

    seed : of the run, for strategies that draw from global generators
    form : of the model: entries that requests don't hold, and what a strategy may move
    """

    def __init__(
        self, plan: StrategyPlan, *, seed: int, grid: Grid, totals: Totals, form: ModelForm
    ) -> None:
        self._plan, self._seed, self._grid, self._totals = plan, seed, grid, totals
        self._entries, self._frozen = form.entries, form.frozen_digest
        self._view = StrategyView(form.entries, plan.individual)

    # --- requests --------------------------------------------------------------------------
    def train_requests(
        self,
        server_round: int,
        shared: Arrays,
        addressees: Sequence[Sequence[Member]],
        states: Mapping[str, int],
        privacy: PrivacyTerms | None,
        scales: Scales | None = None,
        blind: bytes = b"",
    ) -> list[Message]:
        """Requests for training, one for each of ``addressees``.

        states : the round that each hospital was last accepted in, by name
        scales : with ``[compression]``, of the layers
        blind : as ``SentModel`` has it
        """
        with seeded_globals(self._seed, "strategy", server_round, "configure"):
            messages = self._plan.strategy.configure_train(
                server_round,
                self._view.shown(shared),
                ConfigRecord(),
                self._cohort(addressees),
            )
        messages, ours = self._view.completed(messages, shared), self._plan.ours
        records = dict(ours.request_records()) if ours else {}
        if scales is not None:
            records[SCALES] = {SCALES: scales}
        request = TrainRequest(
            self._model(server_round, blind),
            self._plan.algorithm,
            self._totals,
            privacy,
            strategy=ours.request_config() if ours else {},
            records={name: encode_arrays(one) for name, one in records.items()},
        )
        return complete(messages, addressees, request, states)

    def evaluate_requests(
        self,
        server_round: int,
        shared: Arrays,
        addressees: Sequence[Sequence[Member]],
        states: Mapping[str, int],
        best_round: int,
        blind: bytes = b"",
    ) -> list[Message]:
        """Requests for evaluation; ``best_round``: as ``EvaluateRequest`` has it, ``blind`` as
        ``SentModel``."""
        with seeded_globals(self._seed, "strategy", server_round, "evaluate"):
            messages = self._plan.strategy.configure_evaluate(
                server_round,
                encode_arrays(shared),
                ConfigRecord(),
                self._cohort(addressees),
            )
        request = EvaluateRequest(self._model(server_round, blind), self._totals, best_round)
        return complete(messages, addressees, request, states)

    def _cohort(self, addressees: Sequence[Sequence[Member]]) -> CohortGrid:
        return CohortGrid(self._grid, [first.node_id for first, *_ in addressees])

    def _model(self, server_round: int, blind: bytes) -> SentModel:
        """What a request says of the model; the strategy gives its arrays."""
        personal = tuple(self._entries.personal)
        return SentModel(ArrayRecord(), server_round, 0, personal, self._frozen or "", blind=blind)

    # --- replies ---------------------------------------------------------------------------
    def aggregate(
        self, server_round: int, gathered: Trained, layout: Layout
    ) -> tuple[Arrays, float]:
        """The next shared model, of ``layout``, and the mean loss (NaN where there is none).

        Raises StrategyError if the strategy fails or gives another model, RoundFailed for none.
        """
        ours = self._plan.ours
        if ours:
            ours.accepted = len(gathered.accepted)
        with seeded_globals(self._seed, "strategy", server_round, "aggregate"):
            try:
                averaged = self._view.taken(gathered.replies)
                arrays, metrics = self._aggregated(server_round, gathered.replies)
            except Exception as error:
                raise StrategyError(
                    f"strategy '{self._plan.name}' failed in round {server_round}: "
                    f"{type(error).__name__}: {error}"
                ) from error
        if arrays is None:
            raise RoundFailed(f"strategy '{self._plan.name}' returned no model")
        moved = {name: spec for name, spec in layout.items() if name not in averaged}
        found = _conforming(self._plan.name, arrays, moved) | averaged
        return {name: found[name] for name in layout}, _loss(metrics)

    def _aggregated(
        self, server_round: int, replies: list[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """What the strategy makes of the replies. FedAvg's mean of one reply is that reply, and
        isn't calculated: for a large model that would take two more copies of it."""
        strategy = self._plan.strategy
        if len(replies) == 1 and type(strategy).aggregate_train is FedAvg.aggregate_train:
            content = replies[0].content
            arrays = m.records_of(content, ArrayRecord).get(m.ARRAYS)
            return arrays, m.records_of(content, MetricRecord).get(m.METRICS)
        try:
            return strategy.aggregate_train(server_round, replies)
        finally:
            for reply in replies:  # its views of them are cycles that would keep the arrays
                reply.content.clear()

    def tell(self, server_round: int, request: Message, figures: Mapping[str, float]) -> None:
        """Hand a round's overall figures to strategies that steer by them.

        request : one of those that asked for them
        figures : by 'split-name'
        """
        record = MetricRecord({**figures, m.NUM_EXAMPLES: 1})
        reply = Message(RecordDict({m.METRICS: record}), reply_to=request)
        self._plan.strategy.aggregate_evaluate(server_round, [reply])


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
