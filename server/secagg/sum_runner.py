"""One masked sum after the other, over a grid: keys, uploads, and what opens them.

    keys (once for many sums) -> every member's masked vector -> journal -> shares -> the sum

This runs the protocol of ``sum.py``. A sum that is about to be opened is in the journal first, so
that a server that dies goes on with it (``journal.py``). One that has other numbers, or can't be
opened any more, is done afresh.

Whatever fails, the number of the aggregation and its keys are burnt: a second sum under the same
masks would open the difference of the two. That is why a failure forgets the groups of keys too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from wardround.common.compression.writing import ring
from wardround.common.errors import CheckpointError, ReplyRefused, RoundFailed
from wardround.common.flower.hosting import Message
from wardround.common.privacy.claims import Claim
from wardround.common.protocol import names as m
from wardround.common.protocol.masked import MaskedReply, MaskedTask
from wardround.common.protocol.message import Content
from wardround.common.protocol.model import round_of
from wardround.common.secagg import messages as wire
from wardround.common.secagg.ckks import parameters
from wardround.common.secagg.content import content_digest, sums_layout
from wardround.common.secagg.encoding import WORDS, VectorLayout
from wardround.common.secagg.graph import Thresholds
from wardround.server.gathering.faults import round_failed
from wardround.server.gathering.gatherer import Budgets, RunSettings
from wardround.server.gathering.host import Host
from wardround.server.members.member import Member
from wardround.server.privacy.round import Release
from wardround.server.secagg.journal import Entry, Journal
from wardround.server.secagg.key_deal import KeyDeal
from wardround.server.secagg.key_exchange import KeyExchange
from wardround.server.secagg.messenger import SecureMessenger, with_message
from wardround.server.secagg.pending import Pending
from wardround.server.secagg.ring_sum import RingSum
from wardround.server.secagg.sum import MaskedSum, Phase, Total

log = logging.getLogger("wardround.server")


@dataclass
class SumRequest:
    """One sum that a gatherer asks for.

    purpose : in the TaskRequest
    requests, members : whom, and what each is sent
    layout : of the vector
    sums : the SumsLayout that it comes from; empty for training
    largest : weight of a member
    needed : fewest uploads
    again : whether just these members will be asked for another sum, as for figures of each round
    release : of a private training round
    blind : whether it is an update that hospitals mask so that only they can read the sum
    claims : what its hospitals say of their privacy budgets, by name; filled in as they upload
    """

    purpose: str
    requests: list[Message]
    members: Sequence[Member]
    layout: VectorLayout = field(default_factory=lambda: VectorLayout.of({}, {}))
    sums: bytes = b""
    largest: int = 1
    needed: int = 1
    again: bool = False
    release: Release | None = None
    blind: bool = False
    claims: dict[str, Claim] = field(default_factory=dict)

    def agree(self, sums: bytes) -> None:
        """Sum what this SumsLayout says."""
        self.sums, self.layout = sums, sums_layout(sums)

    @property
    def step(self) -> str:
        """Of the round loop: 'train', 'evaluate', 'statistics'."""
        return self.purpose.partition(" ")[0]

    @property
    def server_round(self) -> int:
        """The round that the requests are of; 0 for the preparation's."""
        return round_of(self.requests[0].content)


class Groups(Protocol):
    """Whose groups sums are of.

    members : the federation
    """

    members: Sequence[Member]

    def forget_groups(self) -> None:
        """After a failure: whoever is gone isn't counted on in the next attempt."""


class SumRunner:
    """Adds up masked vectors, and opens their sums.

    Parameters
    ----------
    keys : whose groups the sums are of
    deal : gives the key of hospitals that a blind run's updates are masked by besides; None of no
        blind run
    journal : of the run's present round
    host : says when what hospitals accepted is over
    """

    def __init__(
        self,
        *,
        settings: RunSettings,
        messenger: SecureMessenger,
        budgets: Budgets,
        keys: Groups,
        deal: KeyDeal | None,
        journal: Journal,
        host: Host,
    ) -> None:
        self._settings, self._table = settings, settings.config.secure_aggregation
        self._messenger, self._budgets, self._groups = messenger, budgets, keys
        self._journal, self._host = journal, host
        self._deal = deal

    @property
    def _keys(self) -> KeyExchange:
        assert isinstance(self._groups, KeyExchange)  # others make their sums themselves
        return self._groups

    def run(self, asked: SumRequest) -> Total:
        """Add up the members' vectors. Raises RoundFailed; then the keys used are burnt."""
        before = len(self._messenger.traffic.refused)
        self._messenger.gave_shares.clear()
        try:
            masked = self._begun(asked)
            claims = self._collect(asked, masked)
            requests = masked.unmask_requests()
            if asked.release is not None and asked.release.central:
                # under the masks, so that however often it is opened it has the same noise
                asked.release.add_to_sum(masked.vector.update, masked.encoding.step)
            self._write_down(asked, masked, requests, claims)
            cohort = [member.name for member in asked.members]
            pending = Pending(masked, requests, cohort, asked.sums, asked.claims)
            self._journal.pending.hold(asked.purpose, pending)
            return self._open(asked, masked, asked.members, requests)
        except RoundFailed as error:
            self._give_up(asked.purpose)
            refused = self._messenger.traffic.refused[before:]
            self._journal.pending.note_out(asked.purpose, self._messenger.gave_shares)
            raise round_failed(str(error), refused) from None

    def _begun(self, asked: SumRequest) -> RingSum:
        """The sum, of hospitals whose keys are ready. Raises RoundFailed."""
        key = self._deal.ready(asked.members) if asked.blind and self._deal is not None else b""
        group = self._keys.ready_group(asked.members, asked.again)
        task = self._task(asked, group.id, group.limits, group.take_index())
        ckks = parameters(self._table) if asked.blind else None
        content = content_digest(asked.requests[0].content)
        return MaskedSum(group, task, asked.layout, content, self._table.threads, key, ckks)

    def _write_down(
        self,
        asked: SumRequest,
        masked: RingSum,
        requests: Mapping[str, bytes],
        claims: dict[str, bytes],
    ) -> None:
        """Into the journal, before anybody is asked to open it."""
        if self._journal.active and isinstance(masked, MaskedSum):
            self._journal.write(self._entry(asked, masked, requests, claims), masked.vector)

    def _give_up(self, purpose: str) -> None:
        """After a failure: a sum that somebody has given shares for may still be opened, and they
        take part in no other; one that nobody has is done afresh, under fresh keys."""
        self._groups.forget_groups()
        if not self._journal.pending.gave(purpose):
            self._journal.drop(purpose)

    def _task(
        self, asked: SumRequest, group: bytes, limits: Thresholds, index: int
    ) -> wire.TaskRequest:
        """What every member of such a group is asked, under keys that are now used."""
        release, (bits, clip) = asked.release, ring(self._settings.config)
        fine = release is not None and release.protects
        if release is not None and fine:
            clip = release.reach(limits)
        purpose, largest, how = asked.purpose, asked.largest, int(fine)
        if asked.layout.word_bits:
            bits, how = asked.layout.word_bits, WORDS
        return wire.TaskRequest(group, index, purpose, bits, clip, largest, how)

    def _collect(self, asked: SumRequest, masked: RingSum) -> dict[str, bytes]:
        """Add up vectors as they come; the hospitals' claims. Raises RoundFailed if too few do."""
        claims: dict[str, bytes] = {}

        def add_upload(name: str, content: Content) -> None:
            reply, release = MaskedReply.from_records(content), asked.release
            claim = Claim.read(reply.claim, name, release.roster) if release else None
            masked.add_upload(name, reply.message, reply.vector)
            if claim is not None:
                claims[name] = reply.claim or b""
                self._note_claim(asked, claim)

        blind_key = masked.blind_key if isinstance(masked, MaskedSum) else b""
        task = MaskedTask(masked.task.to_bytes(), asked.sums or None, blind_key or None)
        by_node = {member.node_id: member.name for member in asked.members}
        requests = []
        for request in asked.requests:
            if by_node[request.metadata.dst_node_id] in masked.members.accepted:
                task.add_to(request.content)
                requests.append(request)
        self._messenger.ask(requests, asked.members, asked.step, add_upload)
        self._check_enough(asked, masked)
        return claims

    def _check_enough(self, asked: SumRequest, masked: RingSum) -> None:
        """Raise RoundFailed unless enough have uploaded."""
        self._settings.check_enough(
            len(masked.survivors), cohort=len(asked.members), needed=asked.needed, refused=[]
        )

    def _note_claim(self, asked: SumRequest, claim: Claim) -> None:
        asked.claims[claim.hospital] = claim
        self._budgets.note_claim(claim)

    def _open(
        self,
        asked: SumRequest,
        masked: RingSum,
        members: Sequence[Member],
        requests: Mapping[str, bytes],
    ) -> Total:
        """Ask the survivors for shares, until there are enough. What is given is durable then.

        A contribution outlives its owner's membership: where that changes meanwhile the survivors
        are asked the same again, once they have accepted the change.
        """
        traffic = self._messenger.traffic
        before = len(traffic.refused)

        while True:
            standing = self._host.standing()
            open_ones = {n: data for n, data in requests.items() if n not in masked.answers}
            self._ask_shares(asked, masked, members, open_ones)
            if masked.enough() or standing == self._host.standing():
                break
            del traffic.refused[before:]
            self._host.wait_ready(False)
        try:
            total = masked.open()
        except RoundFailed:
            if masked.phase is Phase.DONE:  # a second time it would be no better
                self._journal.pending.spoil(asked.purpose)
                self._journal.drop(asked.purpose)
            raise
        for name in sorted(masked.liars):
            error = ReplyRefused("its shares of other hospitals' masks are false")
            self._messenger.refuse(name, "unmask", error)
        self._journal.write_answers(asked.purpose, masked.answers, traffic)
        self._journal.pending.opened(asked.purpose, total)
        return total

    def _ask_shares(
        self,
        asked: SumRequest,
        masked: RingSum,
        members: Sequence[Member],
        requests: Mapping[str, bytes],
    ) -> None:
        """Ask those that there is a request for, until there are enough."""
        number = asked.server_round
        messages = self._messenger.messages(m.UNMASK, members, requests, number)
        use = with_message(masked.add_shares)
        self._messenger.ask(messages, members, "unmask", use, masked.enough)

    # --- after a crash --------------------------------------------------------------------------
    def is_kept(self, purpose: str) -> bool:
        """Whether a sum of that purpose was begun to be opened."""
        return bool(self._journal.begun(purpose))

    def reopen(self, asked: SumRequest) -> Total | None:
        """The sum that an earlier attempt, or life of this run, had begun to open: with the answers
        that had opened it, or by asking its survivors again. None, and it is dropped for good, if
        nobody gives a share for it any more.

        Raises RoundFailed where some do and more are needed: they take part in no other sum of this
        purpose.
        """
        known, entry = self._journal.pending, self._journal.find(asked.purpose)
        pending = known.find(asked.purpose)
        if pending is None and entry is None:
            return None
        before = len(self._messenger.traffic.refused)
        try:
            if pending is not None:
                return self._opened(asked, pending)
            assert entry is not None
            return self._reopened(asked, entry)
        except (RoundFailed, CheckpointError, ReplyRefused) as error:
            why = round_failed(str(error), self._messenger.traffic.refused[before:])
            self._give_up(asked.purpose)
            if known.find(asked.purpose) or known.is_spoiled(asked.purpose):
                raise why from None
            log.warning("'%s' is done afresh, its journal is not used: %s", asked.purpose, why)
            return None

    def _opened(self, asked: SumRequest, pending: Pending) -> Total:
        """The sum that this process has opened, or tries to open again."""
        if pending.sums:
            asked.agree(pending.sums)
        asked.claims |= pending.claims
        if pending.total is not None:
            return pending.total
        return self._open(asked, pending.masked, self._groups.members, pending.requests)

    def _reopened(self, asked: SumRequest, entry: Entry) -> Total:
        if entry.sums:
            asked.agree(entry.sums)
        content = content_digest(asked.requests[0].content)
        masked = self._journal.restore(entry, asked.layout, content, self._table.threads)
        roster = entry.roster if asked.release else {}
        claims = [Claim.read(data, name, roster) for name, data in entry.claims.items()]
        self._budgets.spent.update(entry.spent)
        answers, traffic = self._journal.answers(entry), self._messenger.traffic
        if answers is None:
            self._messenger.observer.progress(f"opening '{asked.purpose}' from the journal")
            traffic.resume(entry.traffic)
            pending = Pending(masked, entry.requests, entry.cohort, entry.sums)
            self._journal.pending.hold(asked.purpose, pending)
            total = self._open(asked, masked, self._groups.members, entry.requests)
        else:
            for name, shares in answers.shares.items():
                masked.add_shares(name, shares)
            total = masked.open()
            traffic.resume(answers.traffic)
        for claim in claims:
            self._note_claim(asked, claim)
        return total

    def _entry(
        self,
        asked: SumRequest,
        masked: MaskedSum,
        requests: Mapping[str, bytes],
        claims: dict[str, bytes],
    ) -> Entry:
        group, session = masked.group, self._keys.session
        return Entry(
            purpose=asked.purpose,
            attempt=self._journal.attempt,
            cohort=[member.name for member in asked.members],
            nonce=session.nonce,
            roster=session.roster,
            group=group.request,
            keys=[group.bundles[name].keys.to_bytes() for name in group.names],
            task=masked.task.to_bytes(),
            layout=asked.layout.digest(),
            sums=asked.sums,
            content=masked.content,
            requests=dict(requests),
            claims=claims,
            spent=sorted(self._budgets.spent),
            traffic=self._messenger.traffic.model_copy(deep=True),
            blind_key=masked.blind_key,
        )
