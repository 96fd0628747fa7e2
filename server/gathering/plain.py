"""How the hospitals' numbers come together: in plain, one reply after the other.

This gatherer sees every hospital's reply and keeps none (but for a strategy that compares single
updates).

Floating-point sums depend on their order. Replies are added in the order of the hospitals' names,
whoever was fast, so a run between machines gives what a simulation gives, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from wardround.common.compression.writing import words_layout
from wardround.common.errors import ReplyRefused
from wardround.common.figures.sums import Sums, add_sums
from wardround.common.flower.arrays import Arrays
from wardround.common.flower.conforming import conform
from wardround.common.protocol import names as m
from wardround.common.protocol.sums import SumsRequest
from wardround.server.gathering.exact import ExactTotal
from wardround.server.gathering.faults import round_failed
from wardround.server.gathering.fitting import unused_sums
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
    take_ratios,
)
from wardround.server.gathering.messenger import Messenger, sizes
from wardround.server.gathering.order import InOrder
from wardround.server.gathering.replies import (
    Update,
    check_evaluation,
    check_sums,
    check_update,
)
from wardround.server.gathering.requests import queries
from wardround.server.gathering.written import WrittenArrays
from wardround.server.members.member import Member
from wardround.server.privacy.round import Release
from wardround.server.strategies import StrategyPlan
from wardround.server.strategies.aggregation import RunningMean


class PlainGatherer(Gatherer):
    """Sees each hospital's reply."""

    def __init__(self, settings: RunSettings, messenger: Messenger, budgets: Budgets) -> None:
        self._settings, self._messenger, self._budgets = settings, messenger, budgets

    def addressees(
        self, members: Sequence[Member], *, evaluating: bool = False
    ) -> list[list[Member]]:
        return [[member] for member in members]

    def sums(self, members: Sequence[Member], question: Question) -> Sums:
        requests = queries(question.request, members)
        # a procedure's answer is the same bytes under masks
        exact = ExactTotal(len(members)) if isinstance(question.request, SumsRequest) else None
        total: Sums = {}
        keys: dict[str, frozenset[str]] = {}
        order = InOrder[tuple[str, Sums]](member.name for member in members)
        name = ""
        try:
            for member, _, reply in self._messenger.exchange(requests, members):
                name = member.name
                sums = check_sums(self._messenger.in_time(reply), question.shapes)
                keys[name] = frozenset(sums)
                size_bytes = sum(value.nbytes for value in sums.values())
                for one, part in order.put(name, (name, sums), size_bytes):
                    name = one
                    if exact is not None:
                        exact.add(part)
                    else:
                        total = add_sums([total, part])
        except (ReplyRefused, ValueError) as error:
            step = question.purpose.partition(" ")[0]
            found = [{"hospital": name, "step": step, "reason": str(error)}]
            raise round_failed(f"{question.what} stopped", found) from None
        if exact is not None:
            total = exact.total()
        if question.fits is not None:
            unused = unused_sums(question.fits, keys, self._messenger.observer)
            total = {key: value for key, value in total.items() if key not in unused}
        return total

    def train(
        self, server_round: int, requests: list[Message], cohort: list[Member], expected: Expected
    ) -> Trained:
        fold = _Fold(self._settings.plan, expected)
        result = Trained([], fold.accepted, bytes_down=sizes(requests))
        order = InOrder[tuple[Update, Member, Message]](_asked(requests, cohort))
        for member, request, reply in self._messenger.exchange(requests, cohort):
            ready, size_bytes = None, 0
            try:
                reply = self._messenger.in_time(reply)
                result.bytes_up += m.payload_bytes(reply.content) if reply.has_content() else 0
                roster = expected.release.roster if expected.release else None
                records = expected.all_records
                sent = expected.layout
                if expected.writing is not None:
                    sent = words_layout(expected.writing.bits, sent, expected.writing.names)
                update = check_update(reply, sent, records, member, roster)
                ready, size_bytes = (update, member, request), update.memory_bytes
                if update.claim is not None:
                    result.claims[update.claim.hospital] = update.claim
                    self._budgets.note_claim(update.claim)
                self._messenger.tell_used(member.name, "train")
            except ReplyRefused as error:
                self._budgets.note_refusal(member.name, error)
                result.refused.append(self._messenger.tell_refused(member.name, "train", error))
            for next_one in order.put(member.name, ready, size_bytes):
                fold.add(*next_one)
        self._settings.check_enough(
            len(fold.accepted),
            cohort=len(cohort),
            needed=self._settings.fewest_replies,
            refused=result.refused,
        )
        # only now: below the fewest replies nothing is averaged, and no noise is drawn for it
        result.replies, result.quantile, result.ratios = fold.replies()
        return result

    def evaluate(
        self,
        server_round: int,
        requests: list[Message],
        members: list[Member],
        figures: FiguresOf,
        what: str = "",
    ) -> Evaluated:
        result = Evaluated(bytes_down=sizes(requests))
        order = InOrder[tuple[str, Mapping[str, Sums]]](_asked(requests, members))
        for member, _, reply in self._messenger.exchange(requests, members):
            ready = None
            try:
                reply = self._messenger.in_time(reply)
                ready = member.name, check_evaluation(reply)
                result.bytes_up += m.payload_bytes(reply.content)
            except ReplyRefused as error:
                self._budgets.note_refusal(member.name, error)
                result.refused.append(self._messenger.tell_refused(member.name, "evaluate", error))
            for name, sums in order.put(member.name, ready):
                self.add_figures(result, name, sums, figures)
        return result

    def add_figures(
        self, result: Evaluated, name: str, sums: Mapping[str, Sums], figures: FiguresOf
    ) -> None:
        """Add a hospital's metric sums, by split, and its own figures; or say why they don't fit
        the task or the others'."""
        try:
            own = {split: dict(figures(part)) for split, part in sums.items()}
            result.sums |= {
                split: _added(result.sums.get(split), part) for split, part in sums.items()
            }
            result.hospitals[name] = own
            for split in sums:
                result.answered.setdefault(split, []).append(name)
            self._messenger.tell_used(name, "evaluate")
        except ReplyRefused as error:
            result.refused.append(self._messenger.tell_refused(name, "evaluate", error))


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
        reply, expected = update.reply, self._expected
        if expected.writing is not None:
            read = WrittenArrays(reply.arrays, expected.received, expected.writing)
            reply = replace(reply, arrays=read)
        weight = float(reply.num_examples) if self._plan.weighting == "examples" else 1.0
        self._request = self._request or request
        self.accepted.append(member.name)
        for name, arrays in reply.records.items():
            self._record_means[name].add(arrays, 1.0)
        if self._plan.individual:
            records = {m.ARRAYS: reply.arrays}
            self._single.append(mean_reply(request, records, update.metrics, weight))
            return
        self._mean.add(reply.arrays, weight)
        for key, value in update.metrics.items():
            self._metrics[key] += value * weight

    def replies(self) -> tuple[list[Message], float | None, NDArray[Any] | None]:
        """What the strategy sees: one reply with the means, or every single one; the mean quantile
        coordinate; and the ratios of layers to their scales. Central noise is on the first two."""
        if self._plan.individual:
            means = {name: mean.mean() for name, mean in self._record_means.items()}
            return self._single, None, take_ratios(means)
        assert self._request is not None  # only asked after enough updates were added
        weight = self._mean.weight
        records = {m.ARRAYS: self._mean.mean()}
        records |= {name: mean.mean() for name, mean in self._record_means.items()}
        release = self._expected.release
        if release is not None and release.central:
            records = with_central_noise(records, self._expected, release, len(self.accepted))
        quantile, ratios = records.pop(m.QUANTILE, None), take_ratios(records)
        metrics = {key: value / weight for key, value in self._metrics.items()}
        reply = mean_reply(self._request, records, metrics, weight)
        return [reply], float(quantile[m.QUANTILE][0]) if quantile else None, ratios


def with_central_noise(
    records: dict[str, Arrays], expected: Expected, release: Release, hospitals: int
) -> dict[str, Arrays]:
    """The means with the noise of a trusted server on the change of the parameters: x + (mean of y
    - x, noised), since it is the changes that were clipped. Statistics and counters get none, which
    is why a private run refuses batch normalisation (``common/privacy/incompatible.py``)."""
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
