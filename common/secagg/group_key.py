"""A key that hospitals share and the server, which carries it, never has.

One hospital, the first by name of those that are present, draws 32 bytes of the operating system
and seals them to each of them, itself among them, under the X25519 keys that their Hellos bring:
signed by the identities of the roster, fresh for every session.

    server -> first:   DealRequest (everyone's Hello)
    first  -> server:  Deal (for each, in their order, the sealed secret; signed)
    server -> each:    Deal
    each   -> server:  Dealt (the key's name, signed)

Whoever takes a deal checks names, signatures, session (so roster and settings), run, who dealt, and
that its own key is the one that it gave. A key's name is a digest of its deal: hospitals that were
dealt different keys have keys of different names, and the secret says nothing of itself. Another
membership is another deal; the hospital that deals keeps nothing but what it is dealt itself.

A hospital that colludes with the server can give it this key. What is sealed or masked by it should
therefore be safe without: masks of secure aggregation lie underneath.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wardround.common.errors import ProtocolRefused
from wardround.common.secagg.keys import ExchangeKey, derive, seal, unseal
from wardround.common.secagg.messages import Deal, DealRequest, Dealt, Hello
from wardround.common.trust.identity import KEY_BYTES, Identity, Roster, digest, verify

_NONCE_BYTES = 12


@dataclass(frozen=True)
class GroupKey:
    """A key of the members of one deal.

    id : its name, 32 bytes, which everybody may know
    members : names of those who have it, in order
    secret : 32 bytes
    """

    id: bytes
    members: tuple[str, ...]
    secret: bytes = field(repr=False)

    def derive(self, purpose: str, *info: bytes, length: int = KEY_BYTES) -> bytes:
        """Secret bytes for one purpose, bound to ``info`` and this key's name."""
        return derive(self.secret, purpose, self.id, *info, length=length)

    def seal(self, purpose: str, data: bytes, *bound: bytes) -> bytes:
        """AES-256-GCM of data of any length, for all who have the key: a nonce of 12 bytes, the
        data and 16 bytes of tag. ``bound``: what it is opened with alone."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self.derive(purpose, *bound)).encrypt(nonce, data, None)

    def unseal(self, purpose: str, data: bytes, *bound: bytes) -> bytes:
        """The reverse. Raises ProtocolRefused for anything but what such a holder sealed."""
        nonce, sealed = data[:_NONCE_BYTES], data[_NONCE_BYTES:]
        try:
            return AESGCM(self.derive(purpose, *bound)).decrypt(nonce, sealed, None)
        except (InvalidTag, ValueError):
            raise ProtocolRefused(
                "what was sealed for this group is not what a hospital of it sealed"
            ) from None


@dataclass(frozen=True)
class Holder:
    """A hospital that deals, or takes, keys of a session.

    exchange : the secret of its Hello; hello : that Hello's bytes
    fewest : a key of fewer hospitals isn't dealt or taken
    """

    name: str
    identity: Identity
    roster: Roster
    session: bytes
    run: str
    exchange: bytes = field(repr=False)
    hello: bytes
    fewest: int = 2

    def deal(self, data: bytes) -> bytes:
        """The Deal that a DealRequest asks of the first of its members. Raises ProtocolRefused."""
        request = DealRequest.from_bytes(data)
        self._check_members(request.session, request.members)
        if request.members[0].name != self.name:
            raise ProtocolRefused(
                f"'{request.members[0].name}' deals this group's key: the first of its members"
            )
        key, salt = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES)
        own = ExchangeKey(self.exchange)
        sealed = tuple(
            seal(self._between(own.shared(one.exchange), salt, self.name, one.name), 0, key, salt)
            for one in request.members
        )
        unsigned = Deal(self.session, request.members, salt, sealed, bytes(64))
        signature = self.identity.sign(unsigned.signed(self.run))
        return Deal(self.session, request.members, salt, sealed, signature).to_bytes()

    def take(self, data: bytes) -> tuple[GroupKey, bytes]:
        """The key of a Deal, and the Dealt to answer with. Raises ProtocolRefused."""
        deal = Deal.from_bytes(data)
        names = self._check_members(deal.session, deal.members)
        first = deal.members[0]
        if not verify(self.roster[first.name], deal.signature, deal.signed(self.run)):
            raise ProtocolRefused(
                f"the group's key is not signed by '{first.name}', the first of its members, for "
                "this run"
            )
        if len(deal.sealed) != len(names):
            raise ProtocolRefused("the group's key is not sealed once for each member")
        shared = ExchangeKey(self.exchange).shared(first.exchange)
        between = self._between(shared, deal.salt, first.name, self.name)
        drawn = unseal(between, 0, deal.sealed[names.index(self.name)], deal.salt)
        found = digest("group key", deal.signed(self.run), deal.signature)
        key = GroupKey(found, tuple(names), derive(drawn, "group key", found))
        signature = self.identity.sign(Dealt.signed(found, self.name))
        return key, Dealt(found, self.name, signature).to_bytes()

    def _check_members(self, session: bytes, members: Sequence[Hello]) -> list[str]:
        if session != self.session:
            raise ProtocolRefused("the group's key is of another session")
        names = [member.name for member in members]
        if names != sorted(set(names)):
            raise ProtocolRefused("the members of the group's key are not distinct and ordered")
        if unknown := sorted(set(names) - set(self.roster)):
            raise ProtocolRefused(f"'{unknown[0][:64]}' is not in this hospital's roster")
        if self.name not in names:
            raise ProtocolRefused("this hospital is not a member of the group's key")
        if len(names) < self.fewest:
            raise ProtocolRefused(
                f"a key of {len(names)} hospitals is asked for; this hospital's "
                f"secure_aggregation.min_cohort is {self.fewest}"
            )
        for member in members:
            signed = Hello.signed(session, member.name, member.exchange)
            if member.session != session or not verify(
                self.roster[member.name], member.signature, signed
            ):
                raise ProtocolRefused(
                    f"the key of '{member.name}' is not signed by that hospital for this session"
                )
        if members[names.index(self.name)].to_bytes() != self.hello:
            raise ProtocolRefused("this hospital's own key was replaced")
        return names

    def _between(self, shared: bytes, salt: bytes, sender: str, receiver: str) -> bytes:
        """What seals a drawn secret from one member to another, in one deal."""
        bound = self.session, self.run.encode(), salt, sender.encode(), receiver.encode()
        return derive(shared, "group key", *bound)
