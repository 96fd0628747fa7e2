"""A whole cohort behind one message, where one process runs its clients: simulations of thousands.

A message costs more than a small model's training. So where nothing is needed of a single client
(no secure aggregation, no privacy, no memory between rounds, no rule that compares updates), the
whole cohort is asked by one message, and its host replies with weighted sums. The round loop and
the strategy see what they always see: the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from wardround.common.errors import ReplyRefused, RoundFailed
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Arrays, ArraySpec, decode_arrays, encoded_bytes
from wardround.common.flower.hosting import HostGrid
from wardround.common.protocol import names as m
from wardround.common.text import one_line
from wardround.server.gathering.gatherer import (
    Budgets,
    Evaluated,
    Expected,
    Gatherer,
    RunSettings,
    Trained,
    mean_reply,
)
from wardround.server.gathering.messenger import Messenger, Refusal
from wardround.server.gathering.plain import PlainGatherer
from wardround.server.gathering.replies import check_error
from wardround.server.gathering.requests import Totals
from wardround.server.members.member import Member
from wardround.server.strategies import MEAN
from wardround.server.strategies.aggregation import RunningMean

STATELESS = ("plain", "fednova")
"""Algorithms of clients that remember nothing between rounds."""
_METRICS_BYTES = 3 * 8
"""Of a single client's training reply."""
_MOST_SUM = 1e30


def asks_cohorts(grid: Grid, settings: RunSettings) -> bool:
    """Whether a cohort of this run may be asked by one message."""
    config, plan = settings.config, settings.plan
    return (
        isinstance(grid, HostGrid)
        and grid.answers_cohorts
        and plan.name in MEAN  # a strategy of one's own may send each client something else
        and not plan.individual
        and plan.algorithm in STATELESS
        and plan.name != "fedbn"
        and not config.strategy.personal_layers
        and not config.privacy.enabled
        and not config.secure_aggregation.enabled
    )


@dataclass(frozen=True)
class _TrainedCohort:
    """A checked training reply: sums over the accepted members."""

    sums: Arrays
    weight: float
    loss: float
    steps: float
    accepted: list[Member]
    refused: dict[str, str]


class CohortGatherer(Gatherer):
    """Sees sums over the cohort. Statistics, and a single client, are asked as ever."""

    def __init__(self, settings: RunSettings, messenger: Messenger, budgets: Budgets) -> None:
        self._settings, self._messenger = settings, messenger
        self._single = PlainGatherer(settings, messenger, budgets)

    def addressees(self, members: Sequence[Member]) -> list[list[Member]]:
        return [list(members)] if members else []

    def statistics(self, members: Sequence[Member], phase: int, totals: Totals) -> Sums:
        return self._single.statistics(members, phase, totals)

    def train(
        self, server_round: int, requests: list[Message], cohort: list[Member], expected: Expected
    ) -> Trained:
        if len(cohort) < 2 or len(requests) != 1:
            return self._single.train(server_round, requests, cohort, expected)
        request = requests[0]
        result = Trained([], [], bytes_down=_request_bytes(request) * len(cohort))
        _config(request)[m.WEIGHTING] = self._settings.plan.weighting
        ((_, _, reply),) = self._messenger.exchange(requests, cohort[:1])
        try:
            found = _check_training(self._messenger.in_time(reply), expected, cohort)
        except ReplyRefused as error:
            raise RoundFailed(f"the cohort could not be trained: {error}") from None
        result.accepted = [member.name for member in found.accepted]
        result.refused = self._refuse(found.refused, "train")
        for name in result.accepted:
            self._messenger.tell_used(name, "train")
        self._settings.check_enough(
            len(found.accepted),
            cohort=len(cohort),
            needed=self._settings.fewest_replies,
            refused=result.refused,
        )
        model = m.records_of(request.content, ArrayRecord)[m.ARRAYS]
        reply_bytes = sum(len(array.data) for array in model.values()) + _METRICS_BYTES
        lost = sum(reason.startswith("failed: ") for reason in found.refused.values())
        result.bytes_up = reply_bytes * (len(found.accepted) + len(found.refused) - lost)
        mean = RunningMean(expected.layout)
        mean.add_sums(found.sums, found.weight, len(found.accepted))
        metrics = {
            m.TRAIN_LOSS: found.loss / found.weight,
            m.LOCAL_STEPS: found.steps / found.weight,
        }
        result.replies = [mean_reply(request, {m.ARRAYS: mean.mean()}, metrics, found.weight)]
        return result

    def evaluate(
        self, server_round: int, requests: list[Message], members: list[Member], what: str = ""
    ) -> Evaluated:
        if len(members) < 2 or len(requests) != 1:
            return self._single.evaluate(server_round, requests, members, what)
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
            self._single.add_figures(result, name, sums)
        return result

    def _refuse(self, refused: Mapping[str, str], step: str) -> list[Refusal]:
        return [
            self._messenger.tell_refused(name, step, ReplyRefused(reason))
            for name, reason in refused.items()
        ]


def _config(message: Message) -> ConfigRecord:
    record = message.content.get(m.CONFIG)
    if not isinstance(record, ConfigRecord):
        raise ReplyRefused(f"record '{m.CONFIG}' is missing")
    return record


def _request_bytes(request: Message) -> int:
    """What one client's own request would have held."""
    ids = _config(request).get(m.CLIENTS, [])
    return m.payload_bytes(request.content) - 8 * len(ids if isinstance(ids, list) else [])


def _check_training(reply: Message, expected: Expected, cohort: list[Member]) -> _TrainedCohort:
    check_error(reply)
    accepted, refused = _who(_config(reply), m.ACCEPTED, cohort)
    metrics, record = reply.content.get(m.METRICS), reply.content.get(m.ARRAYS)
    if not isinstance(metrics, MetricRecord) or not isinstance(record, ArrayRecord):
        raise ReplyRefused("the cohort's reply has no sums")
    layout = {name: ArraySpec(spec.shape, "float64") for name, spec in expected.layout.items()}
    values = [metrics.get(key) for key in (m.WEIGHT, m.TRAIN_LOSS, m.LOCAL_STEPS)]
    numbers = [float(v) for v in values if isinstance(v, int | float)]
    if len(numbers) != 3 or not np.isfinite(numbers).all() or (accepted and numbers[0] <= 0):
        raise ReplyRefused("the cohort's weight, loss or steps are no numbers")
    sums = decode_arrays(record, layout, max_abs=_MOST_SUM)
    weight, loss, steps = numbers
    return _TrainedCohort(sums, weight, loss, steps, accepted, refused)


def _check_evaluation(
    reply: Message, members: list[Member]
) -> tuple[dict[str, dict[str, Sums]], dict[str, str]]:
    """Metric sums by hospital and split, in the order of ``members``; and who was refused."""
    check_error(reply)
    config, found = _config(reply), dict[str, dict[str, Sums]]()
    refused: dict[str, str] = {}
    for name, record in m.records_of(reply.content, ArrayRecord).items():
        split = name.partition("/")[0]
        if split not in ("validation", "test"):
            raise ReplyRefused(f"record '{name[:100]}' is of no split")
        accepted, refused = _who(config, name, members, in_order=False)
        stacked = decode_arrays(record, max_abs=1e200)
        if any(len(value) != len(accepted) for value in stacked.values()):
            raise ReplyRefused("the cohort's metric sums are not one for each client")
        for index, member in enumerate(accepted):
            sums = {key: value[index] for key, value in stacked.items()}
            found.setdefault(member.name, {})[split] = sums
    if not found:
        _, refused = _who(config, m.ACCEPTED, members)
    return {x.name: found[x.name] for x in members if x.name in found}, refused


def _who(
    config: ConfigRecord, key: str, members: Sequence[Member], in_order: bool = True
) -> tuple[list[Member], dict[str, str]]:
    """Members named under ``key`` (in their own order, if wanted), and reasons of the refused."""
    by_node = {member.node_id: member for member in members}
    lists: list[Any] = [config.get(k, []) for k in (key, m.REFUSED, m.REASONS)]
    if not all(isinstance(one, list) for one in lists) or len(lists[1]) != len(lists[2]):
        raise ReplyRefused("the cohort's reply doesn't say who is in it")
    if any(node not in by_node for node in [*lists[0], *lists[1]]):
        raise ReplyRefused("the cohort's reply names a client that wasn't asked")
    if len(set(lists[0])) < len(lists[0]):
        raise ReplyRefused("the cohort's reply names a client twice")
    taken = [by_node[node] for node in lists[0]]
    if in_order:
        taken.sort(key=lambda member: member.name)
    reasons = {
        by_node[node].name: one_line(str(reason))
        for node, reason in zip(lists[1], lists[2], strict=True)
    }
    return taken, dict(sorted(reasons.items()))
