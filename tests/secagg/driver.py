"""Secure aggregation without a transport: hospitals, a server, and the plain sum to compare with.

Every message goes through ``Federation.carry``, where a test may change it. A party that refuses a
message is treated as the real server treats it: that hospital has dropped out of this step. Each
message finds a newly made client with the hospital's store, as if its host had just restarted.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from wardround.client.secagg.asked import Asked, Step, Terms
from wardround.client.secagg.party import SecureClient
from wardround.client.secagg.state import Group, Memory, Policy, Session
from wardround.client.secagg.upload import PendingUpload
from wardround.common.errors import ProtocolRefused
from wardround.common.flower.arrays import ArraySpec
from wardround.common.secagg import messages as wire
from wardround.common.secagg.content import Digests
from wardround.common.secagg.context import (
    aggregation_context,
    pair_seeds,
    pair_sign,
    self_seeds,
)
from wardround.common.secagg.encoding import OWN_NAMES, VectorLayout, encode_exact
from wardround.common.secagg.graph import Thresholds, thresholds
from wardround.common.secagg.keys import SHARE_BYTES, ExchangeKey, RoundSecrets, derive
from wardround.common.secagg.ring import RingVector
from wardround.common.secagg.rounding import quantise
from wardround.common.secagg.shamir import PRIME
from wardround.common.trust.identity import KEY_BYTES, Identity
from wardround.server.secagg.sum import KeyGroup, MaskedSum, SecureSession, Total

DESCRIPTOR = hashlib.sha256(b"the federation's settings").digest()
CONTENT = hashlib.sha256(b"the model of this round").digest()
LAYOUT = VectorLayout.of(
    {"w": ArraySpec((3, 5), "float32"), "b": ArraySpec((4,), "float32")},
    {"loss": ArraySpec((2,), "float64")},
    frozenset(["w"]),
)
T = TypeVar("T")


class Store:
    """A store in memory that shares nothing with its users, like one on disk."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}

    def values(self, name: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.records.get(name))

    def set_values(self, name: str, values: dict[str, Any]) -> None:
        self.records[name] = copy.deepcopy(values)

    def names(self, prefix: str) -> list[str]:
        return [name for name in self.records if name.startswith(prefix)]

    def remove(self, name: str) -> None:
        del self.records[name]


@dataclass(frozen=True)
class Numbers:
    """What one hospital wants to add."""

    update: dict[str, np.ndarray]
    exact: dict[str, np.ndarray]
    weight: int
    rounding_key: bytes


@dataclass
class Hospital:
    """A hospital's half: identity, own limits and store."""

    name: str
    identity: Identity
    roster: Mapping[str, bytes]
    descriptor: bytes
    policy: Policy
    store: Store = field(default_factory=Store)

    @property
    def client(self) -> SecureClient:
        """A client as after a restart."""
        return SecureClient(
            self.name, self.identity, self.roster, self.descriptor, self.policy, self.store
        )

    def fork(self) -> Hospital:
        """The same hospital in another world, where what it does now has no consequence here."""
        return replace(self, store=copy.deepcopy(self.store))

    def session(self) -> Session:
        found = Memory(self.store).present()
        assert found is not None
        return found

    def group(self, group: bytes) -> Group:
        return Memory(self.store).group(group)

    def secrets(self, group: bytes, index: int) -> RoundSecrets:
        """What the others may never learn both halves of."""
        return self.group(group).chain_at(index).secrets()


class Federation:
    """n hospitals and a server.

    Parameters
    ----------
    count : hospitals, named in the order of their positions
    policy : of each hospital
    tamper : (kind, hospital, data) to what arrives instead
    """

    def __init__(
        self,
        count: int,
        policy: Policy | None = None,
        tamper: Callable[[str, str, bytes], bytes] | None = None,
    ) -> None:
        self.names = [f"h{number:02d}" for number in range(count)]
        identities = {name: Identity.generate() for name in self.names}
        self.roster = {name: identity.public for name, identity in identities.items()}
        self.hospitals = {
            name: Hospital(name, identities[name], self.roster, DESCRIPTOR, policy or Policy())
            for name in self.names
        }
        self.tamper = tamper
        self.sent: list[tuple[str, str, bytes]] = []
        self.refusals: list[tuple[str, str, str]] = []
        self.session: SecureSession

    def __getitem__(self, name: str) -> SecureClient:
        return self.hospitals[name].client

    def carry(self, kind: str, name: str, data: bytes) -> bytes:
        """One message, as it arrives."""
        data = self.tamper(kind, name, data) if self.tamper else data
        self.sent.append((kind, name, data))
        return data

    def received(self, kind: str, name: str) -> list[bytes]:
        """Messages of one kind that came to, or from, one hospital."""
        return [data for k, n, data in self.sent if (k, n) == (kind, name)]

    def attempt(self, kind: str, name: str, step: Callable[[], T]) -> T | None:
        """What a step gives, or None where the receiver of that kind of message refused."""
        try:
            return step()
        except ProtocolRefused as error:
            self.refusals.append((kind, name, str(error)))
            return None

    # --- set-up ------------------------------------------------------------------------------
    def begin(self, absent: Collection[str] = ()) -> SecureSession:
        """A new session with those who are there."""
        self.session = SecureSession(DESCRIPTOR, self.roster)
        for name in self.names:
            if name in absent:
                continue
            data = self.carry("HelloRequest", name, self.session.request())
            hello = self.attempt("HelloRequest", name, lambda: self[name].hello(data))
            if hello is not None:
                answer = self.carry("Hello", name, hello)
                self.attempt("Hello", name, lambda: self.session.add_hello(name, answer))
        return self.session

    def form(
        self,
        limits: Callable[[int], Thresholds] = thresholds,
        count: int = 1,
        silent: Collection[str] = (),
        deaf: Collection[str] = (),
    ) -> KeyGroup:
        """A group with everyone whose bundle comes; it is formed again without the others.

        silent : hospitals that send no bundle
        deaf : hospitals that never accept
        """
        names = sorted(self.session.hellos)
        while True:
            group = self.session.group(names, count, limits(len(names)))
            for name in names:
                if name not in silent:
                    self.bundle(group, name)
            if not group.missing():
                break
            names = [name for name in names if name not in group.missing()]
        for name, data in group.keys_requests():
            if name not in deaf:
                self.accept(group, name, data)
        return group

    def bundle(self, group: KeyGroup, name: str) -> None:
        data = self.carry("GroupRequest", name, group.request)
        bundle = self.attempt("GroupRequest", name, lambda: self[name].bundle(data))
        if bundle is not None:
            answer = self.carry("Bundle", name, bundle)
            self.attempt("Bundle", name, lambda: group.add_bundle(name, answer))

    def accept(self, group: KeyGroup, name: str, data: bytes) -> None:
        data = self.carry("KeysRequest", name, data)
        accepted = self.attempt("KeysRequest", name, lambda: self[name].accept(data))
        if accepted is not None:
            answer = self.carry("Accepted", name, accepted)
            self.attempt("Accepted", name, lambda: group.add_accepted(name, answer))

    def ready(
        self, limits: Callable[[int], Thresholds] = thresholds, count: int = 1, **gone: Any
    ) -> KeyGroup:
        """A session, and a group of all."""
        self.begin()
        return self.form(limits, count, **gone)

    # --- one aggregation ---------------------------------------------------------------------
    def upload(
        self,
        masked: MaskedSum,
        name: str,
        numbers: Numbers,
        content: bytes = CONTENT,
        task: wire.TaskRequest | None = None,
        layout: VectorLayout | None = None,
    ) -> None:
        """One hospital's upload; content, task or layout may be other than the server's."""
        data = self.carry("TaskRequest", name, (task or masked.task).to_bytes())

        def prepare() -> tuple[bytes, bytes]:
            pending = start(self[name], data, layout or masked.layout, content)
            return finish(pending, numbers)

        pair = self.attempt("TaskRequest", name, prepare)
        if pair is not None:
            header = self.carry("Upload", name, pair[0])
            vector = self.carry("Vector", name, pair[1])
            self.attempt("Upload", name, lambda: masked.add_upload(name, header, vector))

    def unmask(
        self, masked: MaskedSum, gone: Collection[str] = (), lost: Collection[str] = ()
    ) -> None:
        """Ask the survivors for shares.

        gone : uploaded, and not there any more
        lost : answered, but the answer got lost
        """
        for name, request in masked.unmask_requests().items():
            if name in gone:
                continue
            data = self.carry("UnmaskRequest", name, request)
            shares = self.attempt("UnmaskRequest", name, lambda: self[name].unmask(data))
            if shares is not None and name not in lost:
                answer = self.carry("Shares", name, shares)
                self.attempt("Shares", name, lambda: masked.add_shares(name, answer))

    def aggregate(
        self,
        group: KeyGroup,
        numbers: Mapping[str, Numbers],
        layout: VectorLayout = LAYOUT,
        absent: Collection[str] = (),
        gone: Collection[str] = (),
        lost: Collection[str] = (),
        **parameters: Any,
    ) -> tuple[MaskedSum, Total]:
        """A whole aggregation; ``absent``: those who upload nothing."""
        masked = summing(group, layout, **parameters)
        for name in group.names:
            if name in group.accepted and name not in absent:
                self.upload(masked, name, numbers[name])
        self.unmask(masked, gone, lost)
        return masked, masked.open()


def asked_for(data: bytes, content: bytes = CONTENT) -> Asked:
    """The request that a task belongs to. Each aggregation is of a run of its own: what a run's
    sums have to do with each other has its own tests (``test_opened_once.py``)."""
    task = wire.TaskRequest.from_bytes(data)
    found = re.fullmatch(r"(train|statistics) (\d{1,9})", task.purpose)
    return Asked(
        step=Step(found[1], int(found[2])) if found else Step("train", 1),
        run=f"{task.group.hex()} {task.index}",
        most_uploads=1,
        first_model=b"",
        terms=Terms(task.bits, lambda *_: task.clip, task.fine, task.largest_weight),
        digests=lambda: Digests({}, content),
    )


def start(
    client: SecureClient, data: bytes, layout: VectorLayout = LAYOUT, content: bytes = CONTENT
) -> PendingUpload:
    """An upload as ``asked_for`` has it, begun."""
    return client.begin(data, layout, asked_for(data, content))


def task_of(group: KeyGroup, **parameters: Any) -> wire.TaskRequest:
    """The group's next task."""
    usual: dict[str, Any] = {"purpose": "train 1", "bits": 32, "clip": 4.0, "fine": 0}
    usual["largest_weight"] = 100
    return wire.TaskRequest(group.id, group.take_index(), **(usual | parameters))


def summing(
    group: KeyGroup, layout: VectorLayout = LAYOUT, threads: int = 1, **parameters: Any
) -> MaskedSum:
    """The server's half of the group's next aggregation."""
    return MaskedSum(group, task_of(group, **parameters), layout, CONTENT, threads)


def finish(pending: PendingUpload, numbers: Numbers) -> tuple[bytes, bytes]:
    """Header and vector."""
    header, vector = pending.finish(
        numbers.update, numbers.exact, numbers.weight, numbers.rounding_key
    )
    return header, bytes(vector)


def some_numbers(
    names: Iterable[str], layout: VectorLayout = LAYOUT, seed: int = 1, largest_weight: int = 100
) -> dict[str, Numbers]:
    """Random numbers of all magnitudes for each hospital; a few are beyond the usual clip, 4."""
    result = {}
    for number, name in enumerate(names):
        rng = np.random.default_rng([seed, number])
        exact = {}
        for key, spec in list(layout.exact.items())[len(OWN_NAMES) :]:
            sign = rng.choice([-1.0, 0.0, 1.0], spec.shape)
            exact[key] = sign * 10.0 ** rng.uniform(-32, 26, spec.shape)
        result[name] = Numbers(
            {k: 2 * rng.standard_normal(s.shape).astype(s.dtype) for k, s in layout.update.items()},
            exact,
            int(rng.integers(1, largest_weight + 1)),
            hashlib.sha256(f"rounding {seed} {name}".encode()).digest()[:16],
        )
    return result


# --- what must come out ---------------------------------------------------------------------------
def alone(masked: MaskedSum, numbers: Numbers) -> RingVector:
    """One hospital's vector as it would be without any mask."""
    layout, encoding = masked.layout, masked.encoding
    vector, clipped, start = RingVector(encoding.bits, layout.update_size, layout.exact_size), 0, 0
    for place, (name, spec) in enumerate(layout.update.items()):
        stop = start + int(np.prod(spec.shape))
        share = numbers.weight / encoding.largest_weight if name in layout.weighted else 1.0
        key = derive(numbers.rounding_key, "rounding", bytes([place % 256, place // 256]))[:16]
        part = vector.update[start:stop]
        clipped += quantise(numbers.update[name].reshape(-1), share, encoding, key, part)
        start = stop
    own = {"count": 1.0, "weight": float(numbers.weight), "clipped": float(clipped)}
    values = layout.exact_values({k: np.array([v]) for k, v in own.items()} | numbers.exact)
    vector.exact[:] = encode_exact(values, encoding.clients)
    return vector


def integers(limbs: np.ndarray) -> list[int]:
    """Numbers modulo 2^192 from their limbs."""
    return [sum(int(limb) << (64 * place) for place, limb in enumerate(row)) for row in limbs]


def plain_sum(masked: MaskedSum, numbers: Iterable[Numbers]) -> tuple[list[int], list[int]]:
    """Both sections of the sum, in Python's own integers."""
    vectors = [alone(masked, one) for one in numbers]
    update = [0] * masked.layout.update_size
    exact = [0] * masked.layout.exact_size
    for vector in vectors:
        update = [a + int(b) for a, b in zip(update, vector.update, strict=True)]
        exact = [a + b for a, b in zip(exact, integers(vector.exact), strict=True)]
    bits = masked.encoding.bits
    return [value % 2**bits for value in update], [value % 2**192 for value in exact]


def is_plain_sum(
    masked: MaskedSum, total: Total, numbers: Mapping[str, Numbers], names: Collection[str]
) -> bool:
    """Whether an opened sum is that of exactly these hospitals, bit for bit."""
    update, exact = plain_sum(masked, [numbers[name] for name in names])
    opened = masked._vector.exact  # Total has it as float64 only
    return (
        total.survivors == sorted(names)
        and [int(word) for word in total.update] == update
        and integers(opened) == exact
    )


# --- a malicious server's tools -------------------------------------------------------------------
def forged_unmask(
    group: KeyGroup, index: int, name: str, survivors: Iterable[int]
) -> wire.UnmaskRequest:
    """An UnmaskRequest that names any survivors, with the right ciphertexts."""
    position, place = group.names.index(name), SHARE_BYTES * (index - group.parameters.first)
    ciphertexts = []
    for sender in group.neighbours[position]:
        sealed = group.bundles[group.names[sender]].ciphertexts
        mine = sealed[group.neighbours[sender].index(position)]
        ciphertexts.append(mine[place : place + SHARE_BYTES])
    return wire.UnmaskRequest(group.id, index, tuple(survivors), tuple(ciphertexts))


def stripped(
    masked: MaskedSum,
    position: int,
    vector: bytes,
    self_mask: bytes | None = None,
    round_key: bytes | None = None,
) -> RingVector:
    """One hospital's masked vector without the masks that these secrets open."""
    group, task, layout = masked.group, masked.task, masked.layout
    context = aggregation_context(group.transcript, task, len(group.names), layout, CONTENT)
    masks = []
    if self_mask is not None:
        masks.append((self_seeds(self_mask, context), -1))
    if round_key is not None:
        offset = KEY_BYTES * (task.index - group.parameters.first)
        for other in group.neighbours[position]:
            public = group.bundles[group.names[other]].keys.public_keys
            shared = ExchangeKey(round_key).shared(public[offset : offset + KEY_BYTES])
            masks.append((pair_seeds(shared, context), -pair_sign(position, other)))
    result = RingVector(masked.encoding.bits, layout.update_size, layout.exact_size)
    result.add_bytes(vector)
    result.add_masks(masks)
    return result


def interpolated(shares: Mapping[int, int]) -> bytes:
    """The value at zero of the polynomial through the shares (point to value), by Lagrange."""
    total = 0
    for own, value in shares.items():
        above = below = 1
        for other in shares:
            if other != own:
                above, below = above * other % PRIME, below * (other - own) % PRIME
        total += value * above * pow(below, -1, PRIME)
    return (total % PRIME).to_bytes(32, "big")
