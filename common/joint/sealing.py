"""Letters that one party seals for another: who is who, and that the server reads nothing.

Each party draws an X25519 key for the run and signs it by its long-term key, which the signed
description has of every hospital and of the server. The session is a digest of run, settings and
all these keys; the key of a letter is derived from the secret that sender and receiver share, bound
to session and direction, and its nonce is the step, of which each has one letter each way. So a
letter of another run, step, sender or receiver doesn't open, and no server that shows the parties
unlike keys is part of what they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wardround.common.config.load import Config
from wardround.common.errors import JointRefused, ProtocolRefused
from wardround.common.joint.party import COORDINATOR, JointProcedure
from wardround.common.secagg.content import descriptor
from wardround.common.secagg.keys import ExchangeKey, check_exchange, derive, seal, unseal
from wardround.common.trust.identity import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    Identity,
    Roster,
    digest,
    encode_parts,
    verify,
)


@dataclass(frozen=True)
class Setting:
    """What a run's keys are of: the same at all parties.

    run : its name
    descriptor : digest of the settings that all share
    parties : names of all, ordered, the coordinator's among them where it is one
    """

    run: str
    descriptor: bytes
    parties: tuple[str, ...]

    @classmethod
    def of(cls, config: Config, procedure: JointProcedure, run: str) -> Setting:
        """Of a run of these settings."""
        coordinator = [COORDINATOR] if procedure.has_coordinator else []
        return cls(run, descriptor(config), tuple(sorted([*procedure.parties, *coordinator])))

    def to_sign(self, name: str, public: bytes) -> bytes:
        """What a party signs of its key."""
        return digest("joint key", self.run.encode(), self.descriptor, name.encode(), public)


def signed_key(setting: Setting, name: str, secret: bytes, identity: Identity) -> bytes:
    """A party's public key of the run, and its signature: 96 bytes."""
    public = ExchangeKey(secret).public
    return public + identity.sign(setting.to_sign(name, public))


@dataclass(frozen=True)
class Session:
    """One party among the others, once it has everybody's key.

    digest : 32 bytes that stand for run, settings and keys
    """

    name: str
    digest: bytes
    _keys: Mapping[str, tuple[bytes, bytes]] = field(repr=False)

    @classmethod
    def of(
        cls, setting: Setting, name: str, secret: bytes, shown: Mapping[str, bytes], roster: Roster
    ) -> Session:
        """Of the keys that were shown, each with its signature.

        roster : the long-term key of every party
        secret : this party's of the run, 32 bytes

        Raises JointRefused.
        """
        if tuple(sorted(shown)) != tuple(sorted(setting.parties)):
            raise JointRefused("the keys that were shown are not those of the plan's parties")
        own, publics = ExchangeKey(secret), {}
        for other, signed in shown.items():
            public, signature = signed[:KEY_BYTES], signed[KEY_BYTES:]
            good = len(signature) == SIGNATURE_BYTES and verify(
                roster.get(other, b""), signature, setting.to_sign(other, public)
            )
            if not good:
                raise JointRefused(f"the key of '{other}' is not signed by it for this run")
            try:
                check_exchange(public)
            except ProtocolRefused as error:
                raise JointRefused(f"'{other}': {error}") from None
            publics[other] = public
        if publics[name] != own.public:
            raise JointRefused("this party's own key was replaced")
        listed = [part for other in sorted(publics) for part in (other.encode(), publics[other])]
        session = digest("joint session", setting.run.encode(), setting.descriptor, *listed)
        keys = {}
        for other, public in publics.items():
            if other != name:
                shared = own.shared(public)
                there = derive(shared, "letters", session, name.encode(), other.encode())
                back = derive(shared, "letters", session, other.encode(), name.encode())
                keys[other] = there, back
        return cls(name, session, keys)

    def sealed(self, step: int, letters: Mapping[str, bytes]) -> dict[str, bytes]:
        """Letters of a step, by receiver: each 16 bytes longer. Never twice of one step with other
        contents: whoever asks for it again is given the same."""
        return {
            other: seal(self._keys[other][0], step, text, self._bound(step, self.name, other))
            for other, text in letters.items()
        }

    def opened(self, step: int, letters: Mapping[str, bytes]) -> dict[str, bytes]:
        """Letters that came, of the step that they were written in, by sender. Raises
        JointRefused."""
        found = {}
        for other, text in letters.items():
            if other not in self._keys:
                raise JointRefused("a letter came that no party of the plan has written")
            try:
                key = self._keys[other][1]
                found[other] = unseal(key, step, text, self._bound(step, other, self.name))
            except ProtocolRefused:
                raise JointRefused(f"a letter of '{other}' is not what it sealed") from None
        return found

    def _bound(self, step: int, sender: str, receiver: str) -> bytes:
        return encode_parts(
            self.digest, step.to_bytes(8, "big"), sender.encode(), receiver.encode()
        )
