"""How the hospitals' numbers come together under secure aggregation: as sums only.

The gatherer runs the protocol of ``server/secagg.py`` over a grid: keys once for many aggregations,
then for each of them one masked vector from every hospital and a short exchange that opens the sum.
What the server sees of one hospital is its rows per split, how long it took, and whether it failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from wardround.common import messages as m
from wardround.common.config import Config
from wardround.common.errors import ProtocolRefused, ReplyRefused, RoundFailed
from wardround.common.privacy.claims import Claim
from wardround.common.secagg import messages as wire
from wardround.common.secagg.content import (
    LOSS,
    STEPS,
    content_digest,
    descriptor,
    encode_sums_layout,
    sums_layout,
    training_layout,
)
from wardround.common.secagg.encoding import (
    CLIPPED,
    COUNT,
    OWN_NAMES,
    WEIGHT,
    Encoding,
    VectorLayout,
)
from wardround.common.secagg.graph import Thresholds, thresholds
from wardround.common.secagg.keys import Roster
from wardround.common.tasks.base import Sums, Task
from wardround.server.decoding import by_split, means, named_sums
from wardround.server.gathering import (
    Evaluated,
    Expected,
    Gatherer,
    Refusal,
    Trained,
    mean_reply,
    reasons,
    refusal,
    sizes,
)
from wardround.server.observer import Observer
from wardround.server.privacy import Release
from wardround.server.replies import Member, check_error
from wardround.server.requests import Totals, as_layout_queries, queries
from wardround.server.secagg import KeyGroup, MaskedSum, SecureSession, Total
from wardround.server.strategies import StrategyPlan

_SPARE = 4
"""Aggregations prepared beyond those that are planned: rounds may have to be repeated."""


@dataclass
class _Traffic:
    """What one step of the round loop sent, received and refused."""

    up: int = 0
    down: int = 0
    refused: list[Refusal] = field(default_factory=list)


class SecureGatherer(Gatherer):
    """Sees sums over hospitals only.

    Parameters
    ----------
    roster : every hospital's name and public key
    members : the federation; a group of all of them prepares keys for many aggregations at once

    Raises ConfigError, before any hospital is asked, for settings that can't work.
    """

    def __init__(
        self,
        grid: Grid,
        config: Config,
        task: Task[Any],
        plan: StrategyPlan,
        observer: Observer,
        roster: Roster,
        members: Sequence[Member],
    ) -> None:
        super().__init__(grid, config, task, plan, observer)
        self._table = config.secure_aggregation
        self._everyone = {member.name for member in members}
        self._largest = max(member.sizes["train"] for member in members)
        self._session = SecureSession(descriptor(config), roster)
        self._group: KeyGroup | None = None
        self._metrics: bytes | None = None
        self._planned = task.phases + 2 * config.federation.rounds + _SPARE
        self._traffic = _Traffic()
        self._check_settings(len(members))

    # --- what the round loop asks ---------------------------------------------------------------
    def statistics(self, members: Sequence[Member], phase: int, totals: Totals) -> Sums:
        self._traffic = _Traffic()
        config = {m.PHASE: phase}
        data = self._agree_layout(queries(m.LAYOUT, members, config, totals), members)
        layout, requests = sums_layout(data), queries(m.STATISTICS, members, config, totals)
        try:
            total = self._sum(requests, members, f"statistics {phase}", layout, 1, data)
        except RoundFailed as error:
            raise RoundFailed(f"data preparation stopped: {error}") from None
        if len(total.survivors) < len(members):  # one that fails here would fail in every round
            raise RoundFailed(f"data preparation stopped{reasons(self._traffic.refused)}")
        return named_sums(layout, total)

    def train(
        self, server_round: int, requests: list[Message], cohort: list[Member], expected: Expected
    ) -> Trained:
        self._traffic = _Traffic()
        layout = training_layout(expected.layout, expected.parameters, expected.all_records)
        largest, release = 1, expected.release
        if self.plan.weighting == "examples":
            largest = self._table.max_examples or self._largest
        result = Trained([], [])
        total = self._sum(
            requests,
            cohort,
            f"train {server_round}",
            layout,
            largest,
            needed=self.config.federation.min_clients,
            release=release,
            result=result,
        )
        exact = layout.exact_arrays(total.exact)
        count, weight = float(exact[COUNT][0]), float(exact[WEIGHT][0])
        if not count <= weight <= count * largest:
            raise RoundFailed(f"the sum is impossible: {count:g} hospitals weigh {weight:g}")
        if release is not None and release.central:
            release.add_to_sum(total.update, total.step)
        records = means(layout, total, largest, expected)
        if (quantile := records.pop(m.QUANTILE, None)) is not None:
            result.quantile = float(quantile[m.QUANTILE][0])
        metrics = {
            m.TRAIN_LOSS: math.nan if release is not None else float(exact[LOSS][0]) / weight,
            m.LOCAL_STEPS: float(exact[STEPS][0]) / weight,
        }
        result.replies = [mean_reply(requests[0], records, metrics, weight)]
        result.accepted, result.refused = total.survivors, self._traffic.refused
        result.bytes_up, result.bytes_down = self._traffic.up, self._traffic.down
        if release is None or not release.protects:
            result.clipped = float(exact[CLIPPED][0]) / (count * max(1, layout.update_size))
        return result

    def evaluating(self, members: list[Member]) -> list[Member]:
        return members if super().evaluating(members) else []

    def evaluate(
        self, server_round: int, requests: list[Message], members: list[Member]
    ) -> Evaluated:
        self._traffic = traffic = _Traffic()
        result = Evaluated(refused=traffic.refused)
        for attempt in range(self.config.federation.round_attempts):
            try:
                if self._metrics is None:
                    self._metrics = self._agree_layout(as_layout_queries(requests), members)
                layout = sums_layout(self._metrics)
                purpose = f"evaluate {server_round} {attempt}"
                sums = named_sums(
                    layout, self._sum(requests, members, purpose, layout, 1, self._metrics)
                )
                result.sums = by_split(sums)
                break
            except RoundFailed as error:
                traffic.refused.append(refusal("all hospitals", "evaluate", error))
                self.observer.replied("all hospitals", "evaluate", str(error))
        result.bytes_up, result.bytes_down = traffic.up, traffic.down
        return result

    # --- one masked sum -------------------------------------------------------------------------
    def _sum(
        self,
        requests: list[Message],
        members: Sequence[Member],
        purpose: str,
        layout: VectorLayout,
        largest: int,
        sums: bytes | None = None,
        needed: int = 1,
        release: Release | None = None,
        result: Trained | None = None,
    ) -> Total:
        """Add up the members' vectors. Raises RoundFailed; then the keys used are burnt.

        release, result : of a private training round; hospitals' claims are noted in the result
        """
        before = len(self._traffic.refused)
        try:
            group = self._ready_group(members)
            fine = release is not None and release.protects
            clip = self._table.clip
            if release is not None and fine:
                clip = release.reach(len(group.names), group.parameters.survivors)
            index, bits = group.take_index(), self._table.bits
            task = wire.TaskRequest(group.id, index, purpose, bits, clip, largest, int(fine))
            threads, content = self._table.threads, content_digest(requests[0].content)
            masked = MaskedSum(group, task, layout, content, threads)
            extra = {m.SUMS_LAYOUT: sums} if sums is not None else {}
            record = {m.MESSAGE: task.to_bytes()} | extra

            def add_upload(name: str, answer: ConfigRecord) -> None:
                claim = Claim.read(answer.get(m.CLAIM), name, release.roster) if release else None
                masked.add_upload(name, _data(answer, m.MESSAGE), _data(answer, m.VECTOR))
                if claim is not None and result is not None:
                    self.note_claim(result, claim)

            by_node = {member.node_id: member.name for member in members}
            asked = []
            for request in requests:
                if by_node[request.metadata.dst_node_id] in group.accepted:
                    request.content[m.SECAGG] = ConfigRecord(dict(record))
                    asked.append(request)
            self._ask(asked, members, purpose.partition(" ")[0], add_upload)
            self.check_enough(len(masked.survivors), len(members), [], needed)
            return self._open(masked, members, requests[0])
        except RoundFailed as error:
            self._group = None  # whoever is gone isn't counted on in the next attempt
            raise RoundFailed(f"{error}{reasons(self._traffic.refused[before:])}") from None

    def _open(self, masked: MaskedSum, members: Sequence[Member], request: Message) -> Total:
        """Ask the survivors for shares, until there are enough."""
        config = request.content.get(m.CONFIG)
        number = config.get(m.ROUND, 0) if isinstance(config, ConfigRecord) else 0
        messages = self._messages(m.UNMASK, members, masked.unmask_requests(), {m.ROUND: number})

        def add_shares(name: str, answer: ConfigRecord) -> None:
            masked.add_shares(name, _data(answer, m.MESSAGE))

        self._ask(messages, members, "unmask", add_shares, masked.enough)
        total = masked.open()
        for name in sorted(masked.liars):
            error = ReplyRefused("its shares of other hospitals' masks are false")
            self._traffic.refused.append(refusal(name, "unmask", error))
            self.observer.replied(name, "unmask", str(error))
        return total

    # --- keys -----------------------------------------------------------------------------------
    def _ready_group(self, members: Sequence[Member]) -> KeyGroup:
        """A group of the members with keys for another aggregation: the present one, or new."""
        everyone = {member.name for member in members} == self._everyone
        if everyone and self._group is not None and self._group.left:
            return self._group
        group = self._make_group(
            members, min(wire.MOST_AGGREGATIONS, self._planned if everyone else 1)
        )
        self._planned = max(_SPARE, self._planned - wire.MOST_AGGREGATIONS)
        if everyone:
            self._group = group
        return group

    def _make_group(self, members: Sequence[Member], count: int) -> KeyGroup:
        """Keys of those who answer; a group is made again without the others."""
        self._say_hello(members)
        present = [member for member in members if member.name in self._session.hellos]
        while True:
            if len(present) < len(members):
                count = min(count, _SPARE)  # so that the others can come back soon
            limits = self._limits(len(present))
            group = self._session.group([member.name for member in present], count, limits)
            requests = dict.fromkeys(group.names, group.request)
            messages = self._messages(m.GROUP, present, requests)
            self._ask(messages, present, "keys", _with_message(group.add_bundle))
            missing = group.missing()
            if not missing:
                break
            for name in missing:
                del self._session.hellos[name]  # it may have restarted: greet it again
            present = [member for member in present if member.name not in missing]
        messages = self._messages(m.KEYS, present, dict(group.keys_requests()))
        self._ask(messages, present, "keys", _with_message(group.add_accepted))
        return group

    def _say_hello(self, members: Sequence[Member]) -> None:
        new = [member for member in members if member.name not in self._session.hellos]
        requests = dict.fromkeys((member.name for member in new), self._session.request())
        messages = self._messages(m.HELLO, new, requests)
        self._ask(messages, new, "keys", _with_message(self._session.add_hello))

    def _limits(self, clients: int) -> Thresholds:
        """Graph and thresholds of a group. Raises RoundFailed if it is too small."""
        least = self._table.min_cohort
        if clients < least:
            raise RoundFailed(
                f"{clients} hospitals are left; secure_aggregation.min_cohort is {least}"
            )
        found = thresholds(clients, self._table.threshold)
        limits = Thresholds(clients, found.degree, found.threshold, max(found.survivors, least))
        try:
            limits.check(self._table.colluding)
        except ProtocolRefused as error:
            raise RoundFailed(str(error)) from None
        return limits

    def _check_settings(self, members: int) -> None:
        """Say now, by key, what would fail in every round."""
        cohort = min(members, self.config.federation.clients_per_round or members)
        if cohort < self._table.min_cohort:
            raise self.config.error(
                "secure_aggregation.min_cohort",
                f"{cohort} hospitals take part, and a sum of fewer than {self._table.min_cohort} "
                "tells too much of each; lower it, or set secure_aggregation.enabled = false",
            )
        try:
            for clients in (cohort, members):
                Encoding(self._table.bits, self._table.clip, clients, 1)
                self._limits(clients)
        except (ProtocolRefused, RoundFailed) as error:
            raise self.config.error("secure_aggregation", str(error)) from None

    # --- messages -------------------------------------------------------------------------------
    def _agree_layout(self, requests: list[Message], members: Sequence[Member]) -> bytes:
        """Names and shapes of all members' sums together. Raises RoundFailed, naming a hospital."""
        shapes: dict[str, tuple[int, ...]] = {}

        def merge(name: str, answer: ConfigRecord) -> None:
            for key, spec in sums_layout(_data(answer, m.MESSAGE)).exact.items():
                if key not in OWN_NAMES and shapes.setdefault(key, spec.shape) != spec.shape:
                    raise ReplyRefused(f"its sum '{key[:100]}' has another shape than the others'")

        before = len(self._traffic.refused)
        self._ask(requests, members, "layout", merge)
        if refused := self._traffic.refused[before:]:
            raise RoundFailed(f"{refused[0]['hospital']}: {refused[0]['reason']}")
        return encode_sums_layout(shapes)

    def _messages(
        self,
        message_type: str,
        members: Sequence[Member],
        data: Mapping[str, bytes],
        config: Mapping[str, Any] | None = None,
    ) -> list[Message]:
        """A message of the protocol to each member that ``data`` has one for."""
        messages = []
        for member in members:
            if member.name in data:
                content = RecordDict({m.SECAGG: ConfigRecord({m.MESSAGE: data[member.name]})})
                content[m.CONFIG] = ConfigRecord(dict(config or {}))
                messages.append(Message(content, member.node_id, message_type))
        return messages

    def _ask(
        self,
        requests: list[Message],
        members: Sequence[Member],
        step: str,
        use: Callable[[str, ConfigRecord], None],
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Send, use each answer's record as it arrives, and note who failed."""
        self._traffic.down += sizes(requests)
        for member, _, reply in self.exchange(requests, members, enough):
            if reply is None and enough():
                continue  # not waited for, so not refused
            try:
                reply = self.in_time(reply)
                self._traffic.up += sizes([reply]) if reply.has_content() else 0
                check_error(reply)
                record = reply.content.get(m.SECAGG)
                if not isinstance(record, ConfigRecord) or len(reply.content) != 1:
                    raise ReplyRefused("its answer is not one of secure aggregation")
                use(member.name, record)
                self.observer.replied(member.name, step, None)
            except ReplyRefused as error:
                self.note_spent(member.name, error)
                self._traffic.refused.append(refusal(member.name, step, error))
                self.observer.replied(member.name, step, str(error))


def _with_message(use: Callable[[str, bytes], None]) -> Callable[[str, ConfigRecord], None]:
    return lambda name, record: use(name, _data(record, m.MESSAGE))


def _data(record: ConfigRecord, key: str) -> bytes:
    value = record.get(key)
    if not isinstance(value, bytes):
        raise ReplyRefused(f"its answer lacks '{key}'")
    return value
