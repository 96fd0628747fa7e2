"""How the hospitals' numbers come together under secure aggregation: as sums only.

What the server sees of one hospital is its rows per split, how long it took, and whether it
answered. That its rows allowed no answer is a count inside the sum: ``failed``.
What a sum is of stands here; how one is added up and opened is ``sum_runner.py``'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from wardround.common.errors import NobodyContributed, PartlyFailed, RoundFailed
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Arrays
from wardround.common.flower.hosting import Message
from wardround.common.protocol import names as m
from wardround.common.protocol.layout import LayoutRequest
from wardround.common.protocol.model import round_of
from wardround.common.secagg.blind import carried
from wardround.common.secagg.content import LOSS, STEPS, encode_sums_layout, training_layout
from wardround.common.secagg.encoding import CLIPPED, COUNT, FAILED, WEIGHT, VectorLayout
from wardround.common.secagg.messages import Blind
from wardround.server.gathering.gatherer import (
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
from wardround.server.gathering.host import Host
from wardround.server.gathering.requests import Query, queries
from wardround.server.members.member import Member
from wardround.server.members.sampling import splits_by_holders
from wardround.server.secagg.decoding import by_split, means, named_sums, resolution
from wardround.server.secagg.handing import HandingOver
from wardround.server.secagg.layouts import Layouts
from wardround.server.secagg.messenger import SecureMessenger, with_message
from wardround.server.secagg.sum import Total
from wardround.server.secagg.sum_runner import SumRequest, SumRunner

OWN_LOG = "each hospital's own log says whether it was one, and why"


class SecureGatherer(Gatherer):
    """Sees sums over hospitals only.

    Parameters
    ----------
    runner : adds up and opens each sum
    handing : brings a blind run's model to hospitals that lack it; None of no blind run
    host : says when what hospitals accepted is over
    """

    def __init__(
        self,
        *,
        settings: RunSettings,
        messenger: SecureMessenger,
        runner: SumRunner,
        handing: HandingOver | None,
        host: Host,
    ) -> None:
        self._settings, self._table = settings, settings.config.secure_aggregation
        self._messenger, self._runner, self._host = messenger, runner, host
        self._handing = handing
        self._layouts = Layouts(messenger)
        self._few: set[str] = set()  # splits of which it was told that few hospitals have rows

    def addressees(
        self, members: Sequence[Member], *, evaluating: bool = False
    ) -> list[list[Member]]:
        return [[member] for member in members]

    def answers(
        self, messages: list[Message], members: Sequence[Member], step: str
    ) -> dict[str, bytes]:
        """What each hospital answers to a message of the protocol, by name; who refuses is told."""
        found: dict[str, bytes] = {}
        self._messenger.begin_step()
        self._hand_over(messages, members)
        self._messenger.ask(messages, members, step, with_message(found.__setitem__))
        return found

    # --- named sums ----------------------------------------------------------------------------
    def sums(self, members: Sequence[Member], question: Question) -> Sums:
        self._messenger.begin_step()
        requests = self._queries(question.request, members)
        # nothing is opened without one of them: no other sum of this purpose could be had then
        asked = SumRequest(question.purpose, requests, members, needed=len(members))
        total = self._runner.reopen(asked)
        if total is None:
            asked.agree(self._layout(members, question))
            try:
                total = self._runner.run(asked)
            except RoundFailed as error:
                what = f"{error.what}; {question.what} stopped"
                raise RoundFailed(what, who=error.who) from None
        if failed := _failed(asked.layout, total):
            raise NobodyContributed(
                f"{failed} of {len(total.survivors)} hospitals had nothing to add to step "
                f"{question.step + 1} of the {question.what}",
                mend=OWN_LOG,
            )
        return named_sums(asked.layout, total)

    def _layout(self, members: Sequence[Member], question: Question) -> bytes:
        if question.shapes is not None:
            return encode_sums_layout(question.shapes, question.words)
        layout = LayoutRequest(question.request.totals, question.step)
        return self._layouts.of_sums(self._queries(layout, members), members, question)

    def _queries(self, request: Query, members: Sequence[Member]) -> list[Message]:
        """The same question to each member."""
        return queries(request, members)

    # --- training -------------------------------------------------------------------------------
    def train(
        self, server_round: int, requests: list[Message], cohort: list[Member], expected: Expected
    ) -> Trained:
        traffic = self._messenger.begin_step()
        blind = expected.blind is not None
        layout = training_layout(expected.layout, expected.parameters, expected.all_records, blind)
        asked = SumRequest(
            f"train {server_round}",
            requests,
            cohort,
            layout,
            largest=expected.largest_weight,
            needed=self._settings.config.federation.min_clients,
            release=expected.release,
            blind=blind,
        )
        total = self._runner.reopen(asked)
        if total is None:
            self._hand_over(requests, cohort)
            total = self._runner.run(asked)
        failed = self._tell_failed(f"round {server_round}", layout, total)
        worked, needed = len(total.survivors) - failed, self._settings.config.federation.min_clients
        if failed and worked < max(1, needed):
            some = "1 hospital's" if failed == 1 else f"{failed} hospitals'"
            who = some if worked else "every hospital's"
            raise NobodyContributed(
                f"{who} training failed; {worked} worked, and federation.min_clients is {needed}",
                mend=f"lower training.lr? {OWN_LOG}",
            )
        if failed:
            raise PartlyFailed(
                f"{failed} of {len(total.survivors)} hospitals' training failed, so that the sum "
                "tells nothing",
                failed,
                mend=f"lower training.lr? {OWN_LOG}",
            )
        result = _trained(layout, total, requests[0], expected)
        result.claims = asked.claims
        result.accepted, result.refused = total.survivors, traffic.refused
        result.bytes_up, result.bytes_down = traffic.up, traffic.down
        return result

    # --- evaluation -----------------------------------------------------------------------------
    def evaluate(
        self,
        server_round: int,
        requests: list[Message],
        members: list[Member],
        figures: FiguresOf,
        what: str = "",
    ) -> Evaluated:
        traffic = self._messenger.begin_step()
        result = Evaluated(refused=traffic.refused)
        name = f"evaluate {server_round}{f' {what}' if what else ''}"
        by_holders = splits_by_holders(members)
        self._hand_over(requests, members)
        for having, splits in by_holders.items():
            asked = [member for member in members if member.name in having]
            if len(asked) < self._table.min_cohort:
                self._tell_few(splits, sorted(having))
                continue
            theirs = self._requests_to(asked, requests)
            purpose = name if len(by_holders) == 1 else f"{name} {splits[0]}"
            self._evaluate_splits(SumRequest(purpose, theirs, asked), splits, result)
        if self._handing is not None and self._table.blind:
            self._handing.note({name for of in result.answered.values() for name in of}, requests)
        result.bytes_up, result.bytes_down = traffic.up, traffic.down
        return result

    def _hand_over(self, requests: Sequence[Message], members: Sequence[Member]) -> None:
        if self._handing is not None and self._table.blind and requests:
            self._handing.ready(requests[0], members)

    def _evaluate_splits(self, every: SumRequest, splits: Sequence[str], result: Evaluated) -> None:
        """Add the metric sums of these splits, if they can be had.

        Tried as often as a round, under another purpose each time: a hospital answers for one
        purpose once. It begins with the attempt that an earlier life of the server left.
        """
        attempts = self._settings.config.federation.round_attempts
        purposes = [f"{every.purpose} {attempt}" for attempt in range(attempts)]
        standing = self._host.standing()
        for attempt in range(attempts):
            kept = [one for one in purposes if self._runner.is_kept(one)]
            asked = SumRequest(kept[0], every.requests, every.members) if kept else None
            asked = asked or self._still_asked(every, purposes[attempt])
            if len(asked.members) < self._table.min_cohort:
                what = f"there are no {' and '.join(splits)} figures of round {every.server_round}"
                line = f"{what}: too few hospitals evaluate in it for a masked sum"
                self._messenger.observer.warnings([line])
                return
            try:
                total = self._runner.reopen(asked)
                if total is None:
                    asked.agree(self._layouts.of_metrics(asked.requests, asked.members, splits))
                    total = self._runner.run(asked)
                what = f"the {' and '.join(splits)} figures of round {every.server_round}"
                failed = self._tell_failed(what, asked.layout, total)
                if not failed:
                    result.sums |= by_split(named_sums(asked.layout, total))
                    result.answered |= dict.fromkeys(splits, list(total.survivors))
                result.failed |= dict.fromkeys(splits, failed)
                return
            except RoundFailed as error:
                self._messenger.refuse("all hospitals", "evaluate", error)
                if self._host.standing() != standing:
                    return  # the round loop asks again, those who are members then

    def _still_asked(self, every: SumRequest, purpose: str) -> SumRequest:
        """The sum without those who have said meanwhile that they have no part in it."""
        last = every.server_round == self._settings.config.federation.rounds
        members = self._messenger.evaluating(every.members, last)
        return SumRequest(purpose, self._requests_to(members, every.requests), members, again=True)

    def _requests_to(self, members: Sequence[Member], requests: list[Message]) -> list[Message]:
        """Those of the requests that are for these members."""
        nodes = {member.node_id for member in members}
        return [one for one in requests if one.metadata.dst_node_id in nodes]

    def _tell_failed(self, what: str, layout: VectorLayout, total: Total) -> int:
        """How many hospitals added nothing to a sum; said, as nobody else will."""
        if failed := _failed(layout, total):
            line = f"{failed} of {len(total.survivors)} hospitals had nothing to add to {what}"
            line += ", so that nothing of it can be read"
            self._messenger.observer.warnings([f"{line}; {OWN_LOG}"])
        return failed

    def _tell_few(self, splits: Sequence[str], names: list[str]) -> None:
        """Say once of which splits too few hospitals have rows for a sum."""
        for split in splits:
            if split not in self._few:
                self._few.add(split)
                who = f"only {' and '.join(names)} {'has' if len(names) == 1 else 'have'}"
                least = f"secure_aggregation.min_cohort = {self._table.min_cohort} hospitals"
                line = f"{who} {split} rows, and a masked sum is of {least} at least"
                self._messenger.observer.warnings([f"there are no {split} figures: {line}"])


def _failed(layout: VectorLayout, total: Total) -> int:
    """How many hospitals added nothing. Raises RoundFailed if it is no such number."""
    failed, of = float(layout.exact_arrays(total.exact)[FAILED][0]), len(total.survivors)
    if not (0 <= failed <= of and failed == int(failed)):
        raise RoundFailed(f"the sum is impossible: {failed:g} of {of} hospitals failed")
    return int(failed)


def _sent_on(total: Total, server_round: int, before: Blind) -> tuple[Arrays, Blind]:
    """An opened sum that only hospitals can read, and what they read it by."""
    by = Blind(
        round=server_round,
        base=before.round,
        key=total.blind_key,
        context=total.context,
        clients=total.clients,
        survivors=tuple(total.survivors),
        largest=total.largest_weight,
        best=0,
    )
    return carried(total.update, total.limbs, total.cipher), by


def _trained(layout: VectorLayout, total: Total, request: Message, expected: Expected) -> Trained:
    """An opened sum, to which all could add, as the one reply that a strategy gets: weighted means.
    Raises RoundFailed if its weight is none that so many can have."""
    release, largest = expected.release, total.largest_weight
    exact = layout.exact_arrays(total.exact)
    count, weight = float(exact[COUNT][0]), float(exact[WEIGHT][0])
    if not count <= weight <= count * largest:
        raise RoundFailed(f"the sum is impossible: {count:g} hospitals weigh {weight:g}")
    result = Trained([], [])
    if expected.blind is not None:
        result.sent_on = _sent_on(total, round_of(request.content), expected.blind)
        result.loss = float(exact[LOSS][0]) / weight
        result.clipped = float(exact[CLIPPED][0]) / (count * max(1, layout.update_size))
        return result
    records = means(layout, total, count, expected)
    if (quantile := records.pop(m.QUANTILE, None)) is not None:
        result.quantile = float(quantile[m.QUANTILE][0])
    result.ratios = take_ratios(records)
    metrics = {
        m.TRAIN_LOSS: math.nan if release is not None else float(exact[LOSS][0]) / weight,
        m.LOCAL_STEPS: float(exact[STEPS][0]) / weight,
    }
    result.replies = [mean_reply(request, records, metrics, weight)]
    if release is None or not release.protects:
        result.clipped = float(exact[CLIPPED][0]) / (count * max(1, layout.update_size))
        result.resolution = resolution(layout, total, count)
    return result
