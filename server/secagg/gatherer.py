"""How the hospitals' numbers come together under secure aggregation: as sums only.

The gatherer runs the protocol of ``server/secagg/sum.py`` over a grid: keys once for many
aggregations, then for each of them one masked vector from every hospital and a short exchange that
opens the sum. What the server sees of one hospital is its rows per split, how long it took, and
whether it failed.

A sum that is about to be opened is in the journal first, so that a server that dies goes on with
it (``server/secagg/journal.py``). One that has other numbers, or can't be opened any more, is done
afresh.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, Message

from wardround.common.errors import CheckpointError, ReplyRefused, RoundFailed
from wardround.common.figures.sums import Sums
from wardround.common.privacy.claims import Claim
from wardround.common.protocol import names as m
from wardround.common.secagg import messages as wire
from wardround.common.secagg.content import (
    LOSS,
    STEPS,
    content_digest,
    sums_layout,
    training_layout,
)
from wardround.common.secagg.encoding import CLIPPED, COUNT, WEIGHT, VectorLayout
from wardround.server.gathering.faults import round_failed
from wardround.server.gathering.plain import (
    Evaluated,
    Expected,
    Trained,
    mean_reply,
    refusal,
)
from wardround.server.gathering.requests import Totals, as_layout_queries, queries
from wardround.server.members.member import Member
from wardround.server.members.sampling import evaluating_groups
from wardround.server.privacy.round import Release
from wardround.server.secagg.decoding import by_split, means, named_sums, resolution
from wardround.server.secagg.exchange import data_of
from wardround.server.secagg.journal import Entry, Traffic
from wardround.server.secagg.keys import KeyExchange
from wardround.server.secagg.sum import KeyGroup, MaskedSum, Total

log = logging.getLogger("wardround.server")


@dataclass
class _Step:
    """One sum that the round loop asks for.

    purpose : in the TaskRequest
    requests, members : whom, and what each is sent
    layout : of the vector
    sums : the SumsLayout that it comes from; empty for training
    largest : weight of a member
    needed : fewest uploads
    release : of a private training round; its hospitals' claims are noted in the result
    """

    purpose: str
    requests: list[Message]
    members: Sequence[Member]
    layout: VectorLayout = field(default_factory=lambda: VectorLayout.of({}, {}))
    sums: bytes = b""
    largest: int = 1
    needed: int = 1
    release: Release | None = None
    result: Trained = field(default_factory=lambda: Trained([], []))

    def agree(self, sums: bytes) -> None:
        """Sum what this SumsLayout says."""
        self.sums, self.layout = sums, sums_layout(sums)


class SecureGatherer(KeyExchange):
    """Sees sums over hospitals only; parameters and errors as of ``KeyExchange``."""

    # --- what the round loop asks ---------------------------------------------------------------
    def statistics(self, members: Sequence[Member], phase: int, totals: Totals) -> Sums:
        self.traffic = Traffic()
        config = {m.PHASE: phase}
        requests = queries(m.STATISTICS, members, config, totals)
        step = _Step(f"statistics {phase}", requests, members)
        entry = self.journal.find(step.purpose)
        if entry is not None and set(entry.cohort) != {member.name for member in members}:
            self.journal.drop(step.purpose)  # the phases would be of different hospitals
        total = self._reopen(step)
        if total is None:
            asked = queries(m.LAYOUT, members, config, totals)
            step.agree(self.agree_layout(asked, members, fitting=phase == 0))
            try:
                total = self._sum(step)
            except RoundFailed as error:
                what = f"{error.what}; data preparation stopped"
                raise RoundFailed(what, who=error.who) from None
        if len(total.survivors) < len(members):  # one that fails here would fail in every round
            self.forget_group()  # it may lack who had left, and is back by the next attempt
            raise round_failed("data preparation stopped", self.traffic.refused)
        return named_sums(step.layout, total)

    def train(
        self, server_round: int, requests: list[Message], cohort: list[Member], expected: Expected
    ) -> Trained:
        self.traffic = Traffic()
        layout = training_layout(expected.layout, expected.parameters, expected.all_records)
        largest, release = 1, expected.release
        if self.plan.weighting == "examples":
            # a cap above the largest hospital caps nothing, and would only coarsen the rounding
            largest = min(self.table.max_examples or self.largest, self.largest)
        needed = self.config.federation.min_clients
        step = _Step(
            f"train {server_round}", requests, cohort, layout, b"", largest, needed, release
        )
        total = self._reopen(step) or self._sum(step)
        result, largest = step.result, total.largest_weight
        exact = layout.exact_arrays(total.exact)
        count, weight = float(exact[COUNT][0]), float(exact[WEIGHT][0])
        if not count <= weight <= count * largest:
            raise RoundFailed(f"the sum is impossible: {count:g} hospitals weigh {weight:g}")
        records = means(layout, total, largest, expected)
        if (quantile := records.pop(m.QUANTILE, None)) is not None:
            result.quantile = float(quantile[m.QUANTILE][0])
        metrics = {
            m.TRAIN_LOSS: math.nan if release is not None else float(exact[LOSS][0]) / weight,
            m.LOCAL_STEPS: float(exact[STEPS][0]) / weight,
        }
        result.replies = [mean_reply(requests[0], records, metrics, weight)]
        result.accepted, result.refused = total.survivors, self.traffic.refused
        result.bytes_up, result.bytes_down = self.traffic.up, self.traffic.down
        if release is None or not release.protects:
            result.clipped = float(exact[CLIPPED][0]) / (count * max(1, layout.update_size))
            result.resolution = resolution(layout, total)
        return result

    def evaluate(
        self, server_round: int, requests: list[Message], members: list[Member], what: str = ""
    ) -> Evaluated:
        self.traffic = traffic = Traffic()
        result = Evaluated(refused=traffic.refused)
        name = f"evaluate {server_round}{f' {what}' if what else ''}"
        groups = evaluating_groups(members)
        for having, splits in groups.items():
            asked = [member for member in members if member.name in having]
            if len(asked) < self.table.min_cohort:
                self._tell_few(splits, sorted(having))
                continue
            nodes = {member.node_id for member in asked}
            theirs = [one for one in requests if one.metadata.dst_node_id in nodes]
            step = _Step(name if len(groups) == 1 else f"{name} {splits[0]}", theirs, asked)
            self._evaluate_splits(step, splits, result)
        result.bytes_up, result.bytes_down = traffic.up, traffic.down
        return result

    def _evaluate_splits(self, asked: _Step, splits: Sequence[str], result: Evaluated) -> None:
        """Add the metric sums of these splits, if they can be had."""
        attempts = self.config.federation.round_attempts
        purposes = [f"{asked.purpose} {attempt}" for attempt in range(attempts)]
        kept, standing = [one for one in purposes if self.journal.find(one)], self.host.standing()
        for purpose in purposes[purposes.index(kept[0]) if kept else 0 :]:
            step = _Step(purpose, asked.requests, asked.members)
            try:
                total = self._reopen(step)
                if total is None:
                    step.agree(self._metrics.get(splits[0]) or self._agree_metrics(step, splits))
                    total = self._sum(step)
                result.sums |= by_split(named_sums(step.layout, total))
                result.answered |= dict.fromkeys(splits, list(total.survivors))
                return
            except RoundFailed as error:
                self.traffic.refused.append(refusal("all hospitals", "evaluate", error))
                self.observer.replied("all hospitals", "evaluate", str(error))
                if self.host.standing() != standing:
                    return  # the round loop asks again, those who are members then

    def _agree_metrics(self, step: _Step, splits: Sequence[str]) -> bytes:
        """The SumsLayout of the splits' metric sums, for good once every member is in it: one that
        can't evaluate keeps nobody else from it."""
        before = len(self.traffic.refused)
        queries = as_layout_queries(step.requests)
        sums = self.agree_layout(queries, step.members, everyone=False, splits=splits)
        if len(self.traffic.refused) == before:
            self._metrics[splits[0]] = sums
        return sums

    def _tell_few(self, splits: Sequence[str], names: list[str]) -> None:
        """Say once of which splits too few hospitals have rows for a sum."""
        for split in splits:
            if split not in self._few:
                self._few.add(split)
                who = f"only {' and '.join(names)} {'has' if len(names) == 1 else 'have'}"
                least = f"secure_aggregation.min_cohort = {self.table.min_cohort} hospitals"
                line = f"{who} {split} rows, and a masked sum is of {least} at least"
                self.observer.warnings([f"there are no {split} figures: {line}"])

    # --- one masked sum -------------------------------------------------------------------------
    def _sum(self, step: _Step) -> Total:
        """Add up the members' vectors. Raises RoundFailed; then the keys used are burnt."""
        before = len(self.traffic.refused)
        try:
            group = self.ready_group(step.members)
            content = content_digest(step.requests[0].content)
            masked = MaskedSum(
                group, self._task(step, group), step.layout, content, self.table.threads
            )
            claims = self._collect(step, masked)
            asked = masked.unmask_requests()
            if step.release is not None and step.release.central:
                # under the masks, so that however often it is opened it has the same noise
                step.release.add_to_sum(masked.vector.update, masked.encoding.step)
            if self.journal.active:
                entry = self._entry(step, masked, content, asked, claims)
                self.journal.write(entry, masked.vector)
            return self._open(step, masked, step.members, asked)
        except RoundFailed as error:
            self.journal.drop(step.purpose)
            self.forget_group()
            raise round_failed(str(error), self.traffic.refused[before:]) from None

    def _task(self, step: _Step, group: KeyGroup) -> wire.TaskRequest:
        """What every member is asked, under keys that are now used."""
        release, clip = step.release, self.table.clip
        fine = release is not None and release.protects
        if release is not None and fine:
            clip = release.reach(len(group.names), group.parameters.survivors)
        index, bits = group.take_index(), self.table.bits
        return wire.TaskRequest(group.id, index, step.purpose, bits, clip, step.largest, int(fine))

    def _collect(self, step: _Step, masked: MaskedSum) -> dict[str, bytes]:
        """Add up vectors as they come; the hospitals' claims. Raises RoundFailed if too few do."""
        claims: dict[str, bytes] = {}

        def add_upload(name: str, answer: ConfigRecord) -> None:
            data = answer.get(m.CLAIM)
            claim = Claim.read(data, name, step.release.roster) if step.release else None
            masked.add_upload(name, data_of(answer, m.MESSAGE), data_of(answer, m.VECTOR))
            if claim is not None:
                claims[name] = data_of(answer, m.CLAIM)
                self.note_claim(step.result, claim)

        record = {m.MESSAGE: masked.task.to_bytes()}
        if step.sums:
            record[m.SUMS_LAYOUT] = step.sums
        by_node = {member.node_id: member.name for member in step.members}
        asked = []
        for request in step.requests:
            if by_node[request.metadata.dst_node_id] in masked.group.accepted:
                request.content[m.SECAGG] = ConfigRecord(dict(record))
                asked.append(request)
        self.ask(asked, step.members, step.purpose.partition(" ")[0], add_upload)
        self.check_enough(len(masked.survivors), len(step.members), [], step.needed)
        return claims

    def _open(
        self,
        step: _Step,
        masked: MaskedSum,
        members: Sequence[Member],
        requests: Mapping[str, bytes],
    ) -> Total:
        """Ask the survivors for shares, until there are enough. What is given is durable then.

        A contribution outlives its owner's membership: where that changes meanwhile the survivors
        are asked the same again, once they have accepted the change.
        """
        config = step.requests[0].content.get(m.CONFIG)
        number = config.get(m.ROUND, 0) if isinstance(config, ConfigRecord) else 0
        before = len(self.traffic.refused)

        def add_shares(name: str, answer: ConfigRecord) -> None:
            masked.add_shares(name, data_of(answer, m.MESSAGE))

        while True:
            standing = self.host.standing()
            open_ones = {n: data for n, data in requests.items() if n not in masked.answers}
            messages = self.messages(m.UNMASK, members, open_ones, {m.ROUND: number})
            self.ask(messages, members, "unmask", add_shares, masked.enough)
            if masked.enough() or standing == self.host.standing():
                break
            del self.traffic.refused[before:]
            self.host.wait_ready(False)
        total = masked.open()
        for name in sorted(masked.liars):
            error = ReplyRefused("its shares of other hospitals' masks are false")
            self.traffic.refused.append(refusal(name, "unmask", error))
            self.observer.replied(name, "unmask", str(error))
        self.journal.write_answers(step.purpose, masked.answers, self.traffic)
        return total

    # --- after a crash --------------------------------------------------------------------------
    def _entry(
        self,
        step: _Step,
        masked: MaskedSum,
        content: bytes,
        asked: dict[str, bytes],
        claims: dict[str, bytes],
    ) -> Entry:
        group = masked.group
        return Entry(
            purpose=step.purpose,
            attempt=self.journal.attempt,
            cohort=[member.name for member in step.members],
            nonce=self.session.nonce,
            roster=self.roster,
            group=group.request,
            keys=[group.bundles[name].keys.to_bytes() for name in group.names],
            task=masked.task.to_bytes(),
            layout=step.layout.digest(),
            sums=step.sums,
            content=content,
            requests=asked,
            claims=claims,
            spent=sorted(self.spent),
            traffic=self.traffic.model_copy(deep=True),
        )

    def _reopen(self, step: _Step) -> Total | None:
        """The sum that an earlier life of this run has left in the journal: with the answers that
        had opened it, or by asking its survivors again. None, and it is dropped for good, if that
        can't be done."""
        entry = self.journal.find(step.purpose)
        if entry is None:
            return None
        before = len(self.traffic.refused)
        try:
            if entry.sums:
                step.agree(entry.sums)
            content = content_digest(step.requests[0].content)
            masked = self.journal.restore(entry, step.layout, content, self.table.threads)
            roster = entry.roster if step.release else {}
            claims = [Claim.read(data, name, roster) for name, data in entry.claims.items()]
            self.spent.update(entry.spent)
            answers = self.journal.answers(entry)
            if answers is None:
                self.observer.phase(f"opening '{step.purpose}' from the journal")
                self.traffic.resume(entry.traffic)
                total = self._open(step, masked, self.members, entry.requests)
            else:
                for name, shares in answers.shares.items():
                    masked.add_shares(name, shares)
                total = masked.open()
                self.traffic.resume(answers.traffic)
            for claim in claims:
                self.note_claim(step.result, claim)
            return total
        except (RoundFailed, CheckpointError, ReplyRefused) as error:
            why = round_failed(str(error), self.traffic.refused[before:])
            log.warning("'%s' is done afresh, its journal is not used: %s", step.purpose, why)
            self.journal.drop(step.purpose)
            return None
