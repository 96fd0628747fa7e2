"""A whole cohort behind one message, where one process runs its clients: simulations of thousands.

A message costs more than a small model's training. So where nothing is needed of a single client
(no memory between rounds, no rule that compares updates; secure aggregation only where it is
emulated: ``server/secagg/together.py``), the whole cohort is asked by one message, and its host
replies with weighted sums. The round loop and the strategy see what they always see: the mean. In a
private run each client pays and is clipped by itself, and the reply says what each has spent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid

from wardround.common.errors import BudgetSpent, ReplyRefused, RoundFailed
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import MAX_ABS_SUM, Arrays, ArraySpec, encoded_bytes
from wardround.common.flower.hosting import HostGrid
from wardround.common.privacy.claims import Claim
from wardround.common.privacy.figures import figures_covered
from wardround.common.protocol import names as m
from wardround.common.protocol.cohort import (
    CohortEvaluateReply,
    CohortTrainReply,
    add_weighting,
    clients_of,
)
from wardround.common.protocol.errors import has_failed
from wardround.common.protocol.message import REQUEST, Came
from wardround.common.protocol.model import ROUND
from wardround.common.protocol.train import RUN
from wardround.common.text import one_line
from wardround.server.gathering.gatherer import (
    Budgets,
    Evaluated,
    Expected,
    FiguresOf,
    Gatherer,
    Question,
    RunSettings,
    Trained,
    mean_reply,
)
from wardround.server.gathering.messenger import Messenger, Refusal
from wardround.server.gathering.plain import PlainGatherer, with_central_noise
from wardround.server.gathering.replies import check_error
from wardround.server.members.member import Member
from wardround.server.privacy.round import Release
from wardround.server.strategies import MEAN
from wardround.server.strategies.aggregation import RunningMean

STATELESS = ("plain", "fednova")
"""Algorithms of clients that remember nothing between rounds."""
_METRIC_BYTES = 8
"""Of each of a single client's training reply."""
_MOST_SUM = 1e30
"""Of a weighted sum: a model's largest number (1e12) times the weights of all clients, and more."""


def asks_cohorts(grid: Grid, settings: RunSettings) -> bool:
    """Whether a cohort of this run may be asked by one message. With secure aggregation: where its
    masks are emulated."""
    config, plan = settings.config, settings.plan
    return (
        isinstance(grid, HostGrid)
        and grid.answers_cohorts
        and (grid.emulates_masks or not config.secure_aggregation.enabled)
        and plan.name in MEAN  # a strategy of one's own may send each client something else
        and not plan.individual
        and plan.algorithm in STATELESS
        and not config.strategy.keeps
        and not (config.privacy.stepwise and config.privacy.clipping == "adaptive")  # remembered
        and not (config.privacy.enabled and config.secure_aggregation.enabled)  # each has its noise
        and not config.compression.enabled
    )


class CohortGatherer(Gatherer):
    """Sees sums over the cohort. Statistics, and a single client, are asked as ever."""

    def __init__(self, settings: RunSettings, messenger: Messenger, budgets: Budgets) -> None:
        self._settings, self._messenger = settings, messenger
        self._single, self._budgets = PlainGatherer(settings, messenger, budgets), budgets

    def addressees(
        self, members: Sequence[Member], *, evaluating: bool = False
    ) -> list[list[Member]]:
        if evaluating and figures_covered(self._settings.config, self._settings.task):
            return self._single.addressees(members)  # each has noise of its own on its figures
        return [list(members)] if members else []

    def sums(self, members: Sequence[Member], question: Question) -> Sums:
        return self._single.sums(members, question)

    def train(
        self, server_round: int, requests: list[Message], cohort: list[Member], expected: Expected
    ) -> Trained:
        if len(cohort) < 2 or len(requests) != 1:
            return self._single.train(server_round, requests, cohort, expected)
        request = requests[0]
        result = Trained([], [], bytes_down=_request_bytes(request) * len(cohort))
        add_weighting(request.content, self._settings.plan.weighting)
        ((_, _, reply),) = self._messenger.exchange(requests, cohort[:1])
        try:
            answer = self._messenger.in_time(reply)
            found, accepted, refused = _check_training(answer, expected, cohort)
        except ReplyRefused as error:
            raise RoundFailed(f"the cohort could not be trained: {error}") from None
        spent = {member.name for member in _members(found.spent, cohort)}
        result.accepted, result.refused = accepted, self._refuse(refused, "train", spent)
        for name in result.accepted:
            self._messenger.tell_used(name, "train")
        self._settings.check_enough(
            len(accepted),
            cohort=len(cohort),
            needed=self._settings.fewest_replies,
            refused=result.refused,
        )
        model = m.records_of(request.content, ArrayRecord)[m.ARRAYS]
        reply_bytes = sum(len(array.data) for array in model.values()) + 3 * _METRIC_BYTES
        came = len(accepted) + sum(
            name not in spent and not has_failed(line) for name, line in refused.items()
        )
        result.bytes_up = reply_bytes * came
        mean = RunningMean(expected.layout)
        mean.add_sums(found.sums, found.weight, len(accepted))
        records, loss = {m.ARRAYS: mean.mean()}, found.loss / found.weight
        if (release := expected.release) is not None:
            self._note_claims(result, found, request, cohort)
            records, result.quantile = _protected(records, found, expected, release)
            loss = math.nan  # it isn't told
        metrics = {m.TRAIN_LOSS: loss, m.LOCAL_STEPS: found.steps / found.weight}
        result.replies = [mean_reply(request, records, metrics, found.weight)]
        return result

    def _note_claims(
        self,
        result: Trained,
        found: CohortTrainReply,
        request: Message,
        cohort: Sequence[Member],
    ) -> None:
        """What each client's ledger says, as a single reply's claim does: there nobody signs, as
        both ends are one program. Raises RoundFailed for a reply that doesn't say it."""
        if len(found.epsilons) != len(found.accepted):
            raise RoundFailed("the cohort's reply doesn't say what its clients have spent")
        config, came = self._settings.config, Came(request.content, REQUEST)
        table, more = config.privacy, set(found.more)
        sizes: dict[tuple[float, bool], int] = {}
        same = config.federation.name, came.take(RUN), came.take(ROUND)
        for member, node, epsilon in zip(
            _members(found.accepted, cohort), found.accepted, found.epsilons, strict=True
        ):
            claim = Claim(
                *same,
                member.name,
                table.unit,
                table.noise,
                epsilon,
                table.delta,
                table.limit,
                node in more,
                True,
            )
            result.claims[member.name] = claim
            self._budgets.note_claim(claim)
            # worked out once for equal ledgers: but for the names, claims are alike
            named = len(json.dumps(member.name))
            key = epsilon, claim.more
            if key not in sizes:
                sizes[key] = claim.signed_bytes - named
            result.bytes_up += sizes[key] + named - _METRIC_BYTES  # it tells no loss
        if found.quantile is not None:
            result.bytes_up += 4 * len(found.accepted)

    def evaluate(
        self,
        server_round: int,
        requests: list[Message],
        members: list[Member],
        figures: FiguresOf,
        what: str = "",
    ) -> Evaluated:
        if len(members) < 2 or len(requests) != 1:
            return self._single.evaluate(server_round, requests, members, figures, what)
        result = Evaluated(bytes_down=_request_bytes(requests[0]) * len(members))
        ((_, _, reply),) = self._messenger.exchange(requests, members[:1])
        try:
            by_name, refused = _check_evaluation(self._messenger.in_time(reply), members)
        except ReplyRefused as error:
            raise RoundFailed(f"the hospitals could not evaluate: {error}") from None
        result.refused = self._refuse(refused, "evaluate")
        for name, sums in by_name.items():
            result.bytes_up += sum(
                encoded_bytes(value) for part in sums.values() for value in part.values()
            )
            self._single.add_figures(result, name, sums, figures)
        return result

    def _refuse(
        self, refused: Mapping[str, str], step: str, spent: Collection[str] = ()
    ) -> list[Refusal]:
        """Tell whose answers aren't used; ``spent``: those whose budget doesn't allow any."""
        found = []
        for name, reason in refused.items():
            error = (BudgetSpent if name in spent else ReplyRefused)(reason)
            self._budgets.note_refusal(name, error)
            found.append(self._messenger.tell_refused(name, step, error))
        return found


def _protected(
    records: dict[str, Arrays], found: CohortTrainReply, expected: Expected, release: Release
) -> tuple[dict[str, Arrays], float | None]:
    """The means with a trusted server's noise, where it adds any; and the quantile's."""
    clients = len(found.accepted)
    if found.quantile is not None:
        mean = np.array([found.quantile / clients], dtype=np.float32)
        records = records | {m.QUANTILE: {m.QUANTILE: mean}}
    if release.central:
        records = with_central_noise(records, expected, release, clients)
    quantile = records.pop(m.QUANTILE, None)
    return records, float(quantile[m.QUANTILE][0]) if quantile else None


def _request_bytes(request: Message) -> int:
    """What one client's own request would have held."""
    return m.payload_bytes(request.content) - 8 * len(clients_of(request.content))


def _check_training(
    reply: Message, expected: Expected, cohort: Sequence[Member]
) -> tuple[CohortTrainReply, list[str], dict[str, str]]:
    """The sums, names of whose updates are in them, in their order, and why others' are not."""
    check_error(reply)
    layout = {name: ArraySpec(spec.shape, "float64") for name, spec in expected.layout.items()}
    found = CohortTrainReply.from_records(reply.content, layout, max_abs=_MOST_SUM)
    accepted = [member.name for member in _members(found.accepted, cohort)]
    return found, sorted(accepted), _reasons(found.refused, cohort)


def _check_evaluation(
    reply: Message, members: Sequence[Member]
) -> tuple[dict[str, dict[str, Sums]], dict[str, str]]:
    """Metric sums by hospital and split, in the order of ``members``; and who was refused."""
    check_error(reply)
    reported = CohortEvaluateReply.from_records(reply.content, max_abs=MAX_ABS_SUM)
    found: dict[str, dict[str, Sums]] = {}
    for part in reported.parts:
        for index, member in enumerate(_members(part.clients, members)):
            sums = {key: value[index] for key, value in part.sums.items()}
            found.setdefault(member.name, {})[part.split] = sums
    refused = _reasons(reported.refused, members)
    # who has no held-out row may be asked in a private run, and answers with nothing
    return {x.name: found.get(x.name, {}) for x in members if x.name not in refused}, refused


def _members(nodes: Iterable[int], members: Sequence[Member]) -> list[Member]:
    """The members with these node ids. Raises ReplyRefused for one that wasn't asked."""
    by_node = {member.node_id: member for member in members}
    try:
        return [by_node[node] for node in nodes]
    except KeyError:
        raise ReplyRefused("the cohort's reply names a client that wasn't asked") from None


def _reasons(refused: Mapping[int, str], members: Sequence[Member]) -> dict[str, str]:
    """Why clients are not in it, by name, each as one harmless line."""
    names = [member.name for member in _members(refused, members)]
    lines = map(one_line, refused.values())
    return dict(sorted(zip(names, lines, strict=True)))
