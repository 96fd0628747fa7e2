"""A hospital's side of secure aggregation, as a state machine without any transport.

    hello -> bundle -> accept -> (begin -> finish -> unmask) for each aggregation

Every step checks the message, its turn and the hospital's own policy, and refuses with a sentence
(ProtocolRefused). What a step gives out is remembered before its answer exists, so a host that
keeps the store on disk, and writes it before it sends, may crash at any moment: the client then
knows what it has already promised. If the store is lost so are the keys, and nothing of that
session can be answered at all.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from functools import cache, lru_cache, wraps
from typing import ParamSpec, TypeVar

from wardround.client.secagg.asked import Asked
from wardround.client.secagg.checks import (
    check_group,
    check_hello,
    check_keys,
    check_survivors,
    check_task,
)
from wardround.client.secagg.ckks import cipher_of
from wardround.client.secagg.contributions import aggregation_id
from wardround.client.secagg.state import Group, Memory, Policy, Session, Store
from wardround.client.secagg.upload import PendingUpload, Seeds
from wardround.common.errors import ProtocolRefused
from wardround.common.secagg import messages as wire
from wardround.common.secagg.blind import BlindMask
from wardround.common.secagg.ckks import MOST_VECTORS
from wardround.common.secagg.context import (
    aggregation_context,
    group_id,
    pair_seeds,
    pair_sign,
    self_seeds,
    session_id,
    share_binding,
    transcript_digest,
)
from wardround.common.secagg.encoding import (
    VectorLayout,
)
from wardround.common.secagg.graph import neighbours, ring_bytes
from wardround.common.secagg.group_key import Holder
from wardround.common.secagg.keys import ExchangeKey, KeyChain, commitment, derive, seal, unseal
from wardround.common.secagg.ring import MaskSeeds
from wardround.common.trust.identity import KEY_BYTES, Identity, Roster, digest

P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger("wardround.client")


_turn = threading.RLock()


def _in_turn(step: Callable[P, R]) -> Callable[P, R]:
    """One step at a time in this process: two may never read the store before either has written
    it. (Between processes it is the host that hands a client one message at a time.)"""

    @wraps(step)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        with _turn:
            return step(*args, **kwargs)

    return alone


class SecureClient:
    """One hospital in secure aggregation.

    Parameters
    ----------
    name, identity : this hospital's, as in the roster
    roster : every hospital's name and public key, agreed before and never taken from the server
    descriptor : digest of the settings that all parties must share
    policy : the hospital's own limits
    store : what it remembers
    run : the accepted run's name; shares are given for its sums alone. None: a host has no plans
    """

    def __init__(
        self,
        name: str,
        identity: Identity,
        roster: Roster,
        descriptor: bytes,
        policy: Policy,
        store: Store,
        run: str | None = None,
    ) -> None:
        if roster.get(name) != identity.public:
            raise ProtocolRefused(f"{name}: the roster doesn't have this hospital's public key")
        self.name, self.roster, self.policy, self._run = name, roster, policy, run
        self._identity, self._descriptor, self._memory = identity, descriptor, Memory(store)

    # --- set-up ------------------------------------------------------------------------------
    @_in_turn
    def hello(self, data: bytes) -> bytes:
        """Join a session (again: with the same answer), or begin a new one and forget the old.

        The session's name is worked out from this hospital's own settings and roster, so a server
        with others gets no key.
        """
        request = wire.HelloRequest.from_bytes(data)
        session = session_id(self._descriptor, self.roster, request.nonce)
        if request.session != session:
            raise ProtocolRefused(
                "the server's federation.toml or roster differs from this hospital's; compare the "
                "two files of both sides"
            )
        present = self._memory.present()
        if present is not None and present.session == session:
            return present.hello
        secret = secrets.token_bytes(KEY_BYTES)
        public = ExchangeKey(secret).public
        signature = self._identity.sign(wire.Hello.signed(session, self.name, public))
        hello = wire.Hello(session, self.name, public, signature).to_bytes()
        self._memory.begin(Session(session, secret, hello))
        return hello

    @_in_turn
    def bundle(self, data: bytes) -> bytes:
        """Keys and encrypted shares for the aggregations that the server plans with a group."""
        request = _group_request(data)
        session = self._memory.session(request.session)
        names = check_group(request, session, self.name, self.roster, self.policy)
        position = names.index(self.name)
        holders = neighbours(tuple(names), request.degree, group_id(data))[position]
        for holder in holders:
            check_hello(request.members[holder], request.session, self.roster)
        group = Group(
            group=group_id(data),
            first=request.first,
            count=request.count,
            clients=len(names),
            threshold=request.threshold,
            survivors=request.survivors,
            window=request.window,
            ring=ring_bytes(tuple(names), request.degree, group_id(data)),
            position=position,
            holders=holders,
            names=[names[holder] for holder in holders],
            exchanges=[request.members[holder].exchange for holder in holders],
            link=secrets.token_bytes(KEY_BYTES),
            link_index=request.first,
            everyone=list(names),
        )
        bundle = self._make_bundle(group, session)
        group.own_keys = bundle.keys.digest()
        session.next_index = request.first + request.count
        self._memory.save_session(session)
        self._memory.save_group(group)
        return bundle.to_bytes()

    @_in_turn
    def accept(self, data: bytes) -> bytes:
        """Check the neighbours' bundles and fix the group's transcript, once and for all: it enters
        every mask, so hospitals that were shown different keys don't cancel."""
        request = wire.KeysRequest.from_bytes(data)
        group = self._memory.group(request.group)
        transcript = transcript_digest(group.group, request.digests)
        if group.transcript and group.transcript != transcript:
            raise ProtocolRefused("other keys were shown for this group before")
        if len(request.digests) != group.clients or len(request.bundles) != len(group.holders):
            raise ProtocolRefused("the group's keys are not complete")
        if request.digests[group.position] != group.own_keys:
            raise ProtocolRefused("this hospital's own keys were replaced")
        for holder, name, keys in zip(group.holders, group.names, request.bundles, strict=True):
            check_keys(group, name, keys, self.roster)
            if request.digests[holder] != keys.digest():
                raise ProtocolRefused(f"the keys of '{name}' are not those of the group")
        group.public_keys = [keys.public_keys for keys in request.bundles]
        group.transcript = transcript
        self._memory.save_group(group)
        return wire.Accepted(group.group, self.name, transcript).to_bytes()

    # --- a key of hospitals alone ------------------------------------------------------------
    def holder(self) -> Holder:
        """This hospital in the present session, as one that deals and takes keys of hospitals."""
        session = self._memory.present()
        if session is None:
            raise ProtocolRefused("this hospital has no part in a session; did it restart?")
        return Holder(
            name=self.name,
            identity=self._identity,
            roster=self.roster,
            session=session.session,
            run=self._run or "",
            exchange=session.exchange,
            hello=session.hello,
            fewest=self.policy.min_cohort,
        )

    # --- one aggregation ---------------------------------------------------------------------
    def begin(
        self, data: bytes, layout: VectorLayout, asked: Asked, blind: BlindMask | None = None
    ) -> PendingUpload:
        """Check the task and start to prepare the masks, in a thread where that pays.

        Parameters
        ----------
        data : the TaskRequest
        layout : what this hospital is going to send
        asked : what the request is, as this hospital reads it: the task is held against it
        blind : of the mask that only hospitals take off, in a blind run
        """
        task = wire.TaskRequest.from_bytes(data)
        group = self._memory.group(task.group)
        check_task(group, task, asked)
        self._memory.contributions(asked.run).check(asked)
        encoding = task.encoding(group.clients)

        @cache
        def context() -> bytes:
            content = asked.digests().content
            return aggregation_context(group.transcript, task, group.clients, layout, content)

        @cache
        def seeds() -> Seeds:
            return self._seeds(group, task, context())

        @cache
        def besides() -> MaskSeeds:
            assert blind is not None
            return blind.seeds(context(), group.clients, self.name)

        threads, more, cipher = self.policy.threads, None if blind is None else besides, None
        if blind is not None and (cipher := cipher_of(blind)) and group.clients > MOST_VECTORS:
            raise ProtocolRefused(
                f"{group.clients} hospitals are to encrypt one sum, at most {MOST_VECTORS} can"
            )
        return PendingUpload(
            self, task, layout, encoding, group.limits, asked, seeds, threads, more, cipher
        )

    @_in_turn
    def unmask(self, data: bytes) -> bytes:
        """One share of each holder's client; for one survivor set only.

        The same request again gets the same bytes again.
        """
        request = wire.UnmaskRequest.from_bytes(data)
        group = self._memory.group(request.group)
        if request.index != group.uploaded:
            last = group.uploaded if group.uploaded >= 0 else "nothing"
            raise ProtocolRefused(
                f"aggregation {request.index} can't be opened: this hospital last sent {last}"
            )
        if self._run not in (None, group.run):  # a person may have withdrawn from that one since
            raise ProtocolRefused(
                f"aggregation {request.index} is of another run than the one that is accepted now"
            )
        asked = digest("unmask", data)
        if group.answered == request.index:
            if asked != group.answered_request:
                raise ProtocolRefused(
                    f"aggregation {request.index} was already opened, for another survivor set"
                )
            return group.answer
        check_survivors(group, request, self.policy)
        contributions = self._memory.contributions(group.run)
        aggregation = aggregation_id(group.group, request.index)
        contributions.open(group.parts, aggregation, group.whose(request.survivors))
        shares = self._open_shares(group, request)
        group.forget_before(request.index + 1)
        group.answer = wire.Shares(group.group, request.index, self.name, shares).to_bytes()
        group.answered, group.answered_request = request.index, asked
        self._memory.save_contributions(contributions)
        self._memory.save_group(group)
        return group.answer

    @_in_turn
    def mark_uploaded(self, task: wire.TaskRequest, asked: Asked) -> None:
        """Remember, before the upload exists, that its aggregation is used, and for what; forget
        older keys. Raises ProtocolRefused, and remembers nothing, if the request brought another
        model or other totals than the run's."""
        group = self._memory.group(task.group)
        check_task(group, task, asked)
        contributions = self._memory.contributions(asked.run)
        contributions.upload(asked)
        # not this one's: its shares must still be opened; what lies before can't be asked for again
        group.forget_before(task.index)
        group.uploaded = task.index
        group.run, group.parts = asked.run, list(asked.step.parts)
        self._memory.save_contributions(contributions)
        self._memory.save_group(group)

    @_in_turn
    def train(self, asked: Asked) -> None:
        """Remember by which model an update is trained that is sent later. Raises ProtocolRefused
        as ``Contributions.train``."""
        contributions = self._memory.contributions(asked.run)
        contributions.train(asked)
        self._memory.save_contributions(contributions)

    # --- arithmetic --------------------------------------------------------------------------
    def _make_bundle(self, group: Group, session: Session) -> wire.Bundle:
        exchange = ExchangeKey(session.exchange)
        points = [holder + 1 for holder in group.holders]
        keys, bindings = [], []
        for name, public in zip(group.names, group.exchanges, strict=True):
            keys.append(_share_key(exchange, public, group.group, self.name, name))
            bindings.append(share_binding(group.group, self.name, name))
        chain = KeyChain(group.link, group.first)
        public_keys, commitments = [], []
        sealed: list[list[bytes]] = [[] for _ in keys]
        for index in range(group.first, group.first + group.count):
            chain.advance(index)
            own = chain.secrets()
            public_keys.append(own.exchange_key().public)
            commitments.append(commitment(group.group, self.name, index, own.self_mask))
            for peer, pair in enumerate(own.shares(group.threshold, points)):
                sealed[peer].append(seal(keys[peer], index, pair, bindings[peer]))
        ciphertexts = tuple(b"".join(parts) for parts in sealed)
        body = (
            group.group,
            self.name,
            b"".join(public_keys),
            b"".join(commitments),
            wire.Bundle.digest_of(ciphertexts),
        )
        signature = self._identity.sign(wire.BundleKeys.signed(*body))
        return wire.Bundle(wire.BundleKeys(*body, signature), ciphertexts)

    def _seeds(self, group: Group, task: wire.TaskRequest, context: bytes) -> Seeds:
        own = group.chain_at(task.index).secrets()
        key, offset = own.exchange_key(), KEY_BYTES * (task.index - group.first)
        seeds = [(self_seeds(own.self_mask, context), 1)]
        for holder, public_keys in zip(group.holders, group.public_keys, strict=True):
            shared = key.shared(public_keys[offset : offset + KEY_BYTES])
            seeds.append((pair_seeds(shared, context), pair_sign(group.position, holder)))
        return seeds

    def _open_shares(self, group: Group, request: wire.UnmaskRequest) -> tuple[bytes, ...]:
        exchange = ExchangeKey(self._memory.of_group(group).exchange)
        survivors = set(request.survivors)
        (own,) = (
            group.chain_at(request.index).secrets().shares(group.threshold, [group.position + 1])
        )
        pairs = {group.position: own}
        for peer, holder in enumerate(group.holders):
            name = group.names[peer]
            key = _share_key(exchange, group.exchanges[peer], group.group, name, self.name)
            binding = share_binding(group.group, name, self.name)
            try:
                pairs[holder] = unseal(key, request.index, request.ciphertexts[peer], binding)
            except ProtocolRefused:  # one hospital's nonsense must not hold up the others
                log.warning("%s encrypted something else than shares for this hospital", name)
                pairs[holder] = b""
        return tuple(
            pair[KEY_BYTES:] if holder in survivors else pair[:KEY_BYTES]
            for holder, pair in sorted(pairs.items())
        )


@lru_cache(maxsize=2)  # simulated hospitals get the same bytes; a thousand members take time
def _group_request(data: bytes) -> wire.GroupRequest:
    return wire.GroupRequest.from_bytes(data)


def _share_key(own: ExchangeKey, public: bytes, group: bytes, sender: str, receiver: str) -> bytes:
    """The key under which ``sender`` encrypts shares for ``receiver`` in one group."""
    return derive(own.shared(public), "shares", group, sender.encode(), receiver.encode())
