"""The server's half of the keys of secure aggregation: sessions, and groups of hospitals.

Everything that hospitals send is signed by them and checked here; the server only forwards it. An
aggregation's number is given out once, whatever becomes of it: its keys are then used or burnt.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence

from wardround.common.errors import ProtocolRefused, RoundFailed
from wardround.common.secagg import messages as wire
from wardround.common.secagg.context import group_id, session_id, transcript_digest
from wardround.common.secagg.graph import Thresholds, check_spread, neighbours, ring_order
from wardround.common.secagg.keys import SHARE_BYTES, check_exchange
from wardround.common.trust.identity import KEY_BYTES, Roster, verify


class SecureSession:
    """One session: who said hello, and which aggregation numbers are free.

    Parameters
    ----------
    descriptor : digest of the settings that all parties must share
    roster : every hospital's name and public key
    """

    def __init__(self, descriptor: bytes, roster: Roster) -> None:
        self.roster = dict(roster)
        self.nonce = secrets.token_bytes(KEY_BYTES)
        self.session = session_id(descriptor, roster, self.nonce)
        self.hellos: dict[str, wire.Hello] = {}
        self._next_index = 0

    def request(self) -> bytes:
        """The HelloRequest, the same for everyone."""
        return wire.HelloRequest(self.nonce, self.session).to_bytes()

    def add_hello(self, name: str, data: bytes) -> None:
        """Check and keep a hospital's Hello."""
        hello = wire.Hello.from_bytes(data)
        if (hello.session, hello.name) != (self.session, name):
            raise ProtocolRefused("its key is of another session or hospital")
        signed = wire.Hello.signed(hello.session, hello.name, hello.exchange)
        if name not in self.roster or not verify(self.roster[name], hello.signature, signed):
            raise ProtocolRefused("its key is not signed by the hospital of the roster")
        check_exchange(hello.exchange)
        self.hellos[name] = hello

    def group(self, names: Sequence[str], count: int, limits: Thresholds) -> KeyGroup:
        """A group of hospitals that said hello, for the next ``count`` aggregations, whose numbers
        no other group gets, whatever becomes of this one."""
        first, self._next_index = self._next_index, self._next_index + count
        request = wire.GroupRequest(
            session=self.session,
            first=first,
            count=count,
            degree=limits.degree,
            threshold=limits.threshold,
            survivors=limits.survivors,
            window=limits.window,
            members=tuple(self.hellos[name] for name in sorted(names)),
        )
        return KeyGroup(request, self.roster)


class KeyGroup:
    """A group of hospitals and its keys for some aggregations."""

    def __init__(self, request: wire.GroupRequest, roster: Roster) -> None:
        self.parameters, self.request = request, request.to_bytes()
        self.id = group_id(self.request)
        self.names = [member.name for member in request.members]
        self.limits = Thresholds(
            len(self.names), request.degree, request.threshold, request.survivors, request.window
        )
        self.neighbours = neighbours(tuple(self.names), request.degree, self.id)
        self.bundles: dict[str, wire.Bundle] = {}
        self.accepted: set[str] = set()
        self.transcript = b""
        self._roster = roster
        self._next = request.first

    @classmethod
    def restore(
        cls, request: bytes, roster: Roster, keys: Sequence[bytes], accepted: Collection[str]
    ) -> KeyGroup:
        """A group of a server that died, to open what was uploaded: no aggregation is left in it.

        Parameters
        ----------
        request : the GroupRequest
        keys : every member's BundleKeys, in order
        accepted : who is known to hold them

        Raises ProtocolRefused unless all of it is of that group and signed.
        """
        group = cls(wire.GroupRequest.from_bytes(request), roster)
        if group.request != request or len(keys) != len(group.names):
            raise ProtocolRefused("the keys of the group are not complete")
        for name, data in zip(group.names, keys, strict=True):
            one = wire.BundleKeys.from_bytes(data)
            group._check_keys(name, one)
            group.bundles[name] = wire.Bundle(one, ())
        group._fix_transcript()
        group.accepted = set(accepted)
        group._next = group.parameters.first + group.parameters.count
        return group

    def gap(self, survivors: Collection[int]) -> str:
        """What is wrong with the places of these survivors, as every hospital will say; "" if
        nothing."""
        if self.limits.complete:
            return ""
        return check_spread(sorted(survivors), ring_order(tuple(self.names), self.id), self.limits)

    def add_bundle(self, name: str, data: bytes) -> None:
        """Check and keep a member's bundle: its signature, keys of the right number that are usable
        points, one list of shares for each neighbour, and those the ones it signed. What is in them
        only their receivers can see."""
        bundle = wire.Bundle.from_bytes(data)
        if name not in self.names:
            raise ProtocolRefused("it is not in the group")
        if self.transcript or name in self.bundles:
            raise ProtocolRefused("its keys came twice or too late")
        self._check_keys(name, bundle.keys)
        expected = len(self.neighbours[self.names.index(name)])
        sizes = [len(part) for part in bundle.ciphertexts]
        if sizes != [SHARE_BYTES * self.parameters.count] * expected:
            raise ProtocolRefused("its encrypted shares are not one for each neighbour")
        if bundle.keys.ciphertexts != bundle.digest_of(bundle.ciphertexts):
            raise ProtocolRefused("its encrypted shares are not those that it signed")
        self.bundles[name] = bundle

    def _check_keys(self, name: str, keys: wire.BundleKeys) -> None:
        count = self.parameters.count
        if (keys.group, keys.name) != (self.id, name):
            raise ProtocolRefused("its keys are of another group or hospital")
        if {len(keys.public_keys), len(keys.commitments)} != {KEY_BYTES * count}:
            raise ProtocolRefused(f"its keys don't cover {count} aggregations")
        if not verify(self._roster.get(name, b""), keys.signature, keys.body()):
            raise ProtocolRefused("its keys are not signed by the hospital of the roster")
        for start in range(0, len(keys.public_keys), KEY_BYTES):
            check_exchange(keys.public_keys[start : start + KEY_BYTES])

    def missing(self) -> list[str]:
        """Members whose bundle hasn't come."""
        return [name for name in self.names if name not in self.bundles]

    def keys_requests(self) -> Iterator[tuple[str, bytes]]:
        """For each member everyone's keys; the group is fixed from now on.

        Raises RoundFailed if a bundle is missing.
        """
        if missing := self.missing():
            raise RoundFailed(f"the keys of {missing[0]} are missing")
        keys, digests = [self.bundles[name].keys for name in self.names], self._fix_transcript()
        for position, name in enumerate(self.names):
            near = tuple(keys[other] for other in self.neighbours[position])
            yield name, wire.KeysRequest(self.id, digests, near).to_bytes()

    def _fix_transcript(self) -> tuple[bytes, ...]:
        digests = tuple(self.bundles[name].keys.digest() for name in self.names)
        self.transcript = transcript_digest(self.id, digests)
        return digests

    def add_accepted(self, name: str, data: bytes) -> None:
        """Check that a member holds the group's keys."""
        accepted = wire.Accepted.from_bytes(data)
        if (accepted.group, accepted.name) != (self.id, name) or name not in self.names:
            raise ProtocolRefused("it accepted the keys of another group or hospital")
        if accepted.transcript != self.transcript:
            raise ProtocolRefused("it was shown other keys than the group's")
        self.accepted.add(name)

    @property
    def left(self) -> int:
        """Aggregations that have keys and were not begun."""
        return self.parameters.first + self.parameters.count - self._next

    def take_index(self) -> int:
        """The number of the next aggregation, never given again. RoundFailed if none is left."""
        if not self.left:
            raise RoundFailed("the group's keys are used up")
        self._next += 1
        return self._next - 1
