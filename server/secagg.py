"""The server's side of secure aggregation, as state machines without any transport.

    SecureSession: hellos    ->  KeyGroup: bundles -> accepted -> ready
                                 MaskedSum: uploading -> unmasking -> done, for each aggregation

The server forwards what clients have signed and encrypted for each other, adds up masked vectors as
they arrive, and learns from the shares of t holders what to subtract from the sum. Memory is one
vector, whatever the number of clients. Whatever a client sends is checked; ProtocolRefused says
what was wrong with it, RoundFailed that too few are left.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import ProtocolRefused, RoundFailed
from wardround.common.secagg import messages as wire
from wardround.common.secagg.context import (
    aggregation_context,
    group_id,
    pair_seeds,
    pair_sign,
    self_seeds,
    session_id,
    transcript_digest,
)
from wardround.common.secagg.encoding import COUNT, VectorLayout, decode_exact
from wardround.common.secagg.graph import Thresholds, neighbours
from wardround.common.secagg.keys import (
    KEY_BYTES,
    SHARE_BYTES,
    ExchangeKey,
    Roster,
    check_exchange,
    commitment,
    to_bytes,
    to_number,
    verify,
)
from wardround.common.secagg.ring import MaskSeeds, RingVector, Words
from wardround.common.secagg.shamir import PRIME, combine, lagrange_weights

_MOST_ATTEMPTS = 500
"""Sets of holders tried to open one secret before the round is given up: some of them lie."""


Check = Callable[[int, bytes], bool]


class SecureSession:
    """One session: who said hello, and which aggregation numbers are free.

    Parameters
    ----------
    descriptor : digest of the settings that all parties must share
    roster : every hospital's name and public key
    """

    def __init__(self, descriptor: bytes, roster: Roster) -> None:
        self.roster = dict(roster)
        self._nonce = secrets.token_bytes(KEY_BYTES)
        self.session = session_id(descriptor, roster, self._nonce)
        self.hellos: dict[str, wire.Hello] = {}
        self._next_index = 0

    def request(self) -> bytes:
        """The HelloRequest, the same for everyone."""
        return wire.HelloRequest(self._nonce, self.session).to_bytes()

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
        """A group of hospitals that said hello, for the next ``count`` aggregations."""
        first, self._next_index = self._next_index, self._next_index + count
        request = wire.GroupRequest(
            session=self.session,
            first=first,
            count=count,
            degree=limits.degree,
            threshold=limits.threshold,
            survivors=limits.survivors,
            members=tuple(self.hellos[name] for name in sorted(names)),
        )
        return KeyGroup(request, self.roster)


class KeyGroup:
    """A group of hospitals and its keys for some aggregations."""

    def __init__(self, request: wire.GroupRequest, roster: Roster) -> None:
        self.parameters, self.request = request, request.to_bytes()
        self.id = group_id(self.request)
        self.names = [member.name for member in request.members]
        self.neighbours = neighbours(tuple(self.names), request.degree, self.id)
        self.bundles: dict[str, wire.Bundle] = {}
        self.accepted: set[str] = set()
        self.transcript = b""
        self._roster = roster
        self._next = request.first

    def add_bundle(self, name: str, data: bytes) -> None:
        """Check and keep a member's bundle."""
        bundle = wire.Bundle.from_bytes(data)
        keys, count = bundle.keys, self.parameters.count
        if name not in self.names:
            raise ProtocolRefused("it is not in the group")
        if self.transcript or name in self.bundles:
            raise ProtocolRefused("its keys came twice or too late")
        if (keys.group, keys.name) != (self.id, name):
            raise ProtocolRefused("its keys are of another group or hospital")
        if {len(keys.public_keys), len(keys.commitments)} != {KEY_BYTES * count}:
            raise ProtocolRefused(f"its keys don't cover {count} aggregations")
        expected = len(self.neighbours[self.names.index(name)])
        sizes = [len(part) for part in bundle.ciphertexts]
        if sizes != [SHARE_BYTES * count] * expected:
            raise ProtocolRefused("its encrypted shares are not one for each neighbour")
        if keys.ciphertexts != bundle.digest_of(bundle.ciphertexts):
            raise ProtocolRefused("its encrypted shares are not those that it signed")
        if not verify(self._roster[name], keys.signature, keys.body()):
            raise ProtocolRefused("its keys are not signed by the hospital of the roster")
        for start in range(0, len(keys.public_keys), KEY_BYTES):
            check_exchange(keys.public_keys[start : start + KEY_BYTES])
        self.bundles[name] = bundle

    def missing(self) -> list[str]:
        """Members whose bundle hasn't come."""
        return [name for name in self.names if name not in self.bundles]

    def keys_requests(self) -> Iterator[tuple[str, bytes]]:
        """For each member everyone's keys; the group is fixed from now on.

        Raises RoundFailed if a bundle is missing.
        """
        if missing := self.missing():
            raise RoundFailed(f"the keys of {missing[0]} are missing")
        keys = [self.bundles[name].keys for name in self.names]
        digests = tuple(one.digest() for one in keys)
        self.transcript = transcript_digest(self.id, digests)
        for position, name in enumerate(self.names):
            near = tuple(keys[other] for other in self.neighbours[position])
            yield name, wire.KeysRequest(self.id, digests, near).to_bytes()

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


class Phase(Enum):
    """Where an aggregation stands."""

    UPLOADING = auto()
    UNMASKING = auto()
    DONE = auto()


@dataclass(frozen=True)
class Total:
    """An opened sum.

    update : words of the update section, to be read as signed, in multiples of ``step``
    exact : numbers of the exact section
    survivors : names of who is in it, ordered
    """

    update: Words
    exact: NDArray[np.float64]
    survivors: list[str]
    step: float


class MaskedSum:
    """One aggregation of a group.

    Parameters
    ----------
    group : ready, with an aggregation left
    task : what every client is asked
    layout : of the vector
    content : digest of what every client was sent
    threads : to expand masks with
    """

    def __init__(
        self,
        group: KeyGroup,
        task: wire.TaskRequest,
        layout: VectorLayout,
        content: bytes,
        threads: int = 1,
    ) -> None:
        clients = len(group.names)
        self.group, self.task, self.layout, self.phase = group, task, layout, Phase.UPLOADING
        self.encoding = task.encoding(clients)
        self.survivors: set[int] = set()
        self.liars: set[str] = set()
        self._context = aggregation_context(group.transcript, task, clients, layout, content)
        self._vector = RingVector(task.bits, layout.update_size, layout.exact_size)
        self._shares: dict[int, dict[int, int]] = {}
        self._threads = threads
        self._weights: dict[tuple[int, ...], list[int]] = {}

    # --- uploads -----------------------------------------------------------------------------
    def add_upload(self, name: str, header: bytes, vector: bytes | memoryview) -> None:
        """Add a member's masked vector to the sum; nothing else of it is kept."""
        self._expect(Phase.UPLOADING, "its upload came after the survivor set was fixed")
        upload = wire.Upload.from_bytes(header)
        if (upload.group, upload.index) != (self.group.id, self.task.index):
            raise ProtocolRefused("its upload is of another aggregation")
        position = self._member(upload.name, name)
        if position in self.survivors:
            raise ProtocolRefused("it uploaded twice")
        self._vector.add_bytes(vector)
        self.survivors.add(position)

    def unmask_requests(self) -> dict[str, bytes]:
        """Fix the survivor set, for good, and ask each survivor for its shares.

        Raises RoundFailed if too few have uploaded: nothing can be opened then.
        """
        self._expect(Phase.UPLOADING, "the survivor set is fixed already")
        least = self.group.parameters.survivors
        if len(self.survivors) < least:
            raise RoundFailed(
                f"{len(self.survivors)} of {len(self.group.names)} hospitals uploaded, and a sum "
                f"of fewer than {least} is not opened"
            )
        self.phase = Phase.UNMASKING
        survivors = tuple(sorted(self.survivors))
        offset = SHARE_BYTES * (self.task.index - self.group.parameters.first)
        requests = {}
        for position in survivors:
            ciphertexts = []
            for sender in self.group.neighbours[position]:
                place = self.group.neighbours[sender].index(position)
                sealed = self.group.bundles[self.group.names[sender]].ciphertexts[place]
                ciphertexts.append(sealed[offset : offset + SHARE_BYTES])
            requests[self.group.names[position]] = wire.UnmaskRequest(
                self.group.id, self.task.index, survivors, tuple(ciphertexts)
            ).to_bytes()
        return requests

    # --- shares ------------------------------------------------------------------------------
    def add_shares(self, name: str, data: bytes) -> None:
        """Keep a survivor's shares."""
        self._expect(Phase.UNMASKING, "its shares came out of turn")
        shares = wire.Shares.from_bytes(data)
        if (shares.group, shares.index) != (self.group.id, self.task.index):
            raise ProtocolRefused("its shares are of another aggregation")
        position = self._member(shares.name, name)
        if position not in self.survivors:
            raise ProtocolRefused("it sent shares but did not upload")
        owners = sorted([*self.group.neighbours[position], position])
        if len(shares.shares) != len(owners):
            raise ProtocolRefused("its shares are not one for each neighbour")
        if any(to_number(share) >= PRIME for share in shares.shares):
            raise ProtocolRefused("a share is out of range")
        for owner, share in zip(owners, shares.shares, strict=True):
            if share:  # an empty one: its sender encrypted something else than shares
                self._shares.setdefault(owner, {})[position + 1] = to_number(share)

    def enough(self) -> bool:
        """Whether every secret that is needed has its threshold of shares."""
        t = self.group.parameters.threshold
        return all(len(self._shares.get(owner, {})) >= t for owner in self._needed())

    def open(self) -> Total:
        """Rebuild the secrets, subtract the masks, and give the sum.

        Raises RoundFailed if shares are missing or false, or if the masks don't cancel.
        """
        self._expect(Phase.UNMASKING, "there is nothing to open")
        self._vector.add_masks(self._masks_left(), self._threads)
        self.phase = Phase.DONE
        exact = decode_exact(self._vector.exact)
        count = self.layout.exact_arrays(exact)[COUNT][0]
        if count != len(self.survivors):
            raise RoundFailed(
                "the masks don't cancel: a hospital was shown another model, group or setting than "
                "the others, or sent something else than a masked vector"
            )
        names = [self.group.names[position] for position in sorted(self.survivors)]
        return Total(self._vector.update, exact, names, self.encoding.step)

    def _needed(self) -> Iterator[int]:
        """Survivors, and the others that have a surviving neighbour."""
        for position in range(len(self.group.names)):
            near = self.group.neighbours[position]
            if position in self.survivors or not self.survivors.isdisjoint(near):
                yield position

    def _masks_left(self) -> list[tuple[MaskSeeds, int]]:
        """What survivors' masks leave in the sum, with the sign that removes it."""
        masks = []
        for position in self._needed():
            if position in self.survivors:
                secret = self._rebuild(position, self._is_self_mask)
                masks.append((self_seeds(secret, self._context), -1))
                continue
            key = ExchangeKey(self._rebuild(position, self._is_round_key))
            for other in self.group.neighbours[position]:
                if other in self.survivors:
                    shared = key.shared(self._public_key(other))
                    seeds = pair_seeds(shared, self._context)
                    masks.append((seeds, -pair_sign(other, position)))
        return masks

    def _rebuild(self, position: int, is_right: Check) -> bytes:
        """A member's secret from its holders' shares; some of them may lie."""
        shares = self._shares.get(position, {})
        name, t = self.group.names[position], self.group.parameters.threshold
        if len(shares) < t:
            raise RoundFailed(f"{len(shares)} of {t} shares came that open the masks of {name}")
        for points in itertools.islice(_choices(sorted(shares), t), _MOST_ATTEMPTS):
            if points not in self._weights:
                self._weights[points] = lagrange_weights(points)
            weighted = zip(self._weights[points], points, strict=True)
            secret = to_bytes(sum(weight * shares[p] for weight, p in weighted) % PRIME)
            if is_right(position, secret):
                self._note_liars(shares, points)
                return secret
        raise RoundFailed(f"the shares that should open the masks of {name} are false")

    def _note_liars(self, shares: dict[int, int], points: tuple[int, ...]) -> None:
        """Whose share isn't on the polynomial through the right ones."""
        if points == tuple(sorted(shares))[: len(points)]:
            return  # the first choice was right: no reason to look at the others
        right = {point: shares[point] for point in points}
        for point in shares.keys() - right.keys():
            if combine(right, point) != shares[point]:
                self.liars.add(self.group.names[point - 1])

    def _is_self_mask(self, position: int, secret: bytes) -> bool:
        name = self.group.names[position]
        expected = commitment(self.group.id, name, self.task.index, secret)
        return self._slice(self.group.bundles[name].keys.commitments) == expected

    def _is_round_key(self, position: int, secret: bytes) -> bool:
        return ExchangeKey(secret).public == self._public_key(position)

    def _public_key(self, position: int) -> bytes:
        return self._slice(self.group.bundles[self.group.names[position]].keys.public_keys)

    def _slice(self, block: bytes) -> bytes:
        offset = KEY_BYTES * (self.task.index - self.group.parameters.first)
        return block[offset : offset + KEY_BYTES]

    def _member(self, claimed: str, name: str) -> int:
        if claimed != name:
            raise ProtocolRefused(f"its message is that of '{claimed[:64]}'")
        if name not in self.group.accepted:
            raise ProtocolRefused("it is not in the group of this aggregation")
        return self.group.names.index(name)

    def _expect(self, phase: Phase, otherwise: str) -> None:
        if self.phase is not phase:
            raise ProtocolRefused(otherwise)


def _choices(points: list[int], count: int) -> Iterator[tuple[int, ...]]:
    """Sets of ``count`` points: without any one, then without any two, ... of all of them, so that
    few liars are found soon."""
    for missing in range(len(points) - count + 1):
        for without in itertools.combinations(points, missing):
            yield tuple(p for p in points if p not in without)[:count]
