"""A key that hospitals share and this server never has: it asks one of them to deal, and carries.

All members that say hello get it: the first by name of those that answer deals
(``common/secagg/group_key.py``). It serves until somebody is asked who hasn't got it, or a session
begins, as with another membership: then another one is dealt to all.
"""

from __future__ import annotations

from collections.abc import Sequence

from wardround.common.errors import ProtocolRefused, RoundFailed
from wardround.common.protocol import names as m
from wardround.common.secagg.messages import Deal, DealRequest, Dealt
from wardround.common.trust.identity import verify
from wardround.server.members.member import Member
from wardround.server.secagg.key_exchange import KeyExchange
from wardround.server.secagg.messenger import SecureMessenger, with_message


class KeyDeal:
    """The present key of a session's hospitals.

    holders : names of those who have said that they have it
    """

    def __init__(self, keys: KeyExchange, messenger: SecureMessenger) -> None:
        self._keys, self._messenger = keys, messenger
        self._key = b""
        self.holders: set[str] = set()

    def ready(self, members: Sequence[Member]) -> bytes:
        """The name of a key that all of these hospitals that answer have. Raises RoundFailed."""
        here = {member.name for member in self._keys.greeted(members)}
        if not self._key or not here <= self.holders:
            self._deal(self._keys.greeted(self._keys.members))
        return self._key

    def _deal(self, present: Sequence[Member]) -> None:
        hellos = self._keys.session.hellos
        present = sorted(present, key=lambda member: member.name)
        self._key, self.holders = b"", set()
        while present:
            first, found = present[0], dict[str, bytes]()
            request = DealRequest(
                self._keys.session.session, tuple(hellos[member.name] for member in present)
            )
            self._ask(m.DEAL, [first], request.to_bytes(), found)
            if first.name not in found:
                present = present[1:]
                continue
            Deal.from_bytes(found[first.name])
            answers: dict[str, bytes] = {}
            self._ask(m.DEALT, present, found[first.name], answers)
            said = {name: self._checked(name, data) for name, data in answers.items()}
            self._key = said.get(first.name, b"")
            self.holders = {name for name, key in said.items() if key == self._key}
            if self._key:
                return
            present = present[1:]
        raise RoundFailed("no hospital has dealt a key that hospitals share")

    def _checked(self, name: str, data: bytes) -> bytes:
        """The name of the key that a hospital says it has; b"" for an answer that isn't one."""
        try:
            said = Dealt.from_bytes(data)
        except ProtocolRefused:
            return b""
        public = self._keys.session.roster.get(name, b"")
        signed = verify(public, said.signature, Dealt.signed(said.key, said.name))
        return said.key if signed and said.name == name else b""

    def _ask(
        self, kind: str, members: Sequence[Member], message: bytes, found: dict[str, bytes]
    ) -> None:
        messages = self._messenger.messages(
            kind, members, dict.fromkeys((one.name for one in members), message)
        )
        use = with_message(found.__setitem__)
        self._messenger.ask(messages, list(members), "keys", use)
