"""Between the hospital's app and secure aggregation: which message does what.

A hospital whose own configuration has secure aggregation on answers nothing else: a request for
plain statistics, an update or metrics is refused, whoever asks.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.client.data.hospital import Hospital
from wardround.client.secagg.asked import Asked, Clip, Step, Terms
from wardround.client.secagg.emulated import begin_emulated
from wardround.client.secagg.failing import hiding_failures
from wardround.client.secagg.party import SecureClient
from wardround.client.secagg.state import Policy
from wardround.client.secagg.upload import Change, PendingUpload
from wardround.client.state import ClientState
from wardround.common.compression.writing import Writing, ring
from wardround.common.errors import ProtocolRefused, RequestRefused
from wardround.common.figures.sums import Sums, scalar
from wardround.common.flower.arrays import Arrays
from wardround.common.flower.stored import kept_bytes
from wardround.common.procedures.words import Words
from wardround.common.protocol import names as m
from wardround.common.protocol.masked import KeyReply, KeyRequest, MaskedReply, MaskedTask
from wardround.common.protocol.message import Content
from wardround.common.protocol.train import TrainReply
from wardround.common.secagg.blind import BlindMask
from wardround.common.secagg.content import (
    CHECK,
    LOSS,
    STEPS,
    Digests,
    digests_of,
    encode_sums_layout,
    sums_layout,
)
from wardround.common.secagg.encoding import WORDS, VectorLayout
from wardround.common.secagg.graph import Thresholds
from wardround.common.secagg.rounding import (
    ROUNDING_KEY_BYTES,
    KeyRounding,
    Rounding,
    SeededRounding,
)


def is_secure(hospital: Hospital) -> bool:
    """Whether this hospital's own configuration has secure aggregation on."""
    return hospital.config.secure_aggregation.enabled


@dataclass(frozen=True)
class MaskedAsk:
    """A request for a masked answer, at the hospital that it came to.

    step : which sum of the run it is for, by the request itself
    digests : gives the digests of all that the request holds, as it came
    """

    task: MaskedTask
    step: Step
    digests: Callable[[], Digests]
    hospital: Hospital
    state: ClientState

    @classmethod
    def of(
        cls, task: MaskedTask, step: Step, request: Content, hospital: Hospital, state: ClientState
    ) -> MaskedAsk:
        """Of a request's records, which are the ones that are digested: raw, not as decoded."""
        return cls(task, step, cache(lambda: digests_of(request)), hospital, state)

    def asked(self, clip: Clip | None = None, word_bits: int = 0) -> Asked:
        """The request with the terms that this hospital's settings and plan give its numbers.

        clip : of a fine encoding, whose whole numbers carry noise or get it
        word_bits : of words of named sums; 0 where there are none
        """
        plan = self.hospital.plan
        largest = 1 if clip or self.step.kind != "train" else plan.largest_weight
        how = WORDS if word_bits else int(bool(clip))
        bits, reach = ring(self.hospital.config)
        terms = Terms(word_bits or bits, clip or (lambda limits: reach), how, largest)
        first = bytes.fromhex(plan.first_model)
        judged, forgets = self.hospital.config.judgement is not None, self.hospital.simulated
        return Asked(self.step, plan.run, plan.uploads, first, terms, self.digests, judged, forgets)


def secure_client(hospital: Hospital, state: ClientState) -> SecureClient:
    """The hospital's party in the protocol. Raises RequestRefused where there can be none."""
    table = hospital.config.secure_aggregation
    if not table.enabled:
        raise RequestRefused(
            "this hospital's configuration has secure aggregation off; set "
            "secure_aggregation.enabled the same on both sides"
        )
    if hospital.identity is None:
        raise RequestRefused(f"{hospital.name} has no identity key for secure aggregation")
    policy = Policy(table.min_cohort, table.colluding, table.threads, table.threshold)
    return SecureClient(
        hospital.name,
        hospital.identity,
        hospital.roster,
        hospital.descriptor,
        policy,
        state,
        hospital.plan.run,
    )


def answer_with(
    step: Callable[[SecureClient, bytes], bytes],
) -> Callable[[Content, Hospital, ClientState], Content]:
    """The handler of a message that one method of ``SecureClient`` answers."""

    def handler(content: Content, hospital: Hospital, state: ClientState) -> Content:
        message = KeyRequest.from_records(content).message
        return KeyReply(step(secure_client(hospital, state), message)).to_records()

    return handler


def refuse_plain(content: Content, hospital: Hospital) -> None:
    """Raise RequestRefused for a request for a plain answer where this hospital gives masked
    answers only."""
    if is_secure(hospital) and m.SECAGG not in content:
        raise RequestRefused(
            "this hospital answers with secure aggregation only, and the request is for plain "
            "values"
        )


def sums_shapes(shapes: Mapping[str, tuple[int, ...]]) -> Content:
    """The answer to ``query.layout``: names and shapes, no value."""
    return KeyReply(encode_sums_layout(shapes)).to_records()


def shapes_of(sums: Sums) -> dict[str, tuple[int, ...]]:
    """Of each sum."""
    return {name: value.shape for name, value in sums.items()}


def mask_sums(
    asked: MaskedAsk,
    sums: Callable[[], Sums],
    all_asked: bool = True,
    told: bool = False,
    noised: Callable[[Sums, Thresholds], Sums] | None = None,
    words: Words | None = None,
) -> Content:
    """The masked answer to a request for sums; ``sums`` is called after the task was checked.

    all_asked : whether every sum must have its place, and one that isn't here counts as zero; else
        those that nobody asks for stay here, and all that are asked for must be here
    told : whether the server may know that, and why, ``sums`` fails: it has no part in what is
        computed; else the answer tells nothing of it
    noised : puts a hospital's part of the noise on the sums, by the group that they go into. Where
        ``sums`` fails then, the noise is sent on zeros, and no count says so: whether it fails on
        these rows is one more thing that a unit may change
    words : which of the sums this hospital adds as words, and of how many bits
    """
    layout = sums_layout(asked.task.sums_layout())
    check_words(layout, words)
    pending = begin_upload(asked, layout)

    def sent(values: Sums) -> Content:
        if noised is not None:
            values = noised(values, pending.limits)
        whole = {name: values[name] for name in layout.update}
        return finish_upload(pending, asked.hospital, whole, values, 1)

    def answer() -> Content:
        return sent(_asked_values(layout, sums(), all_asked))

    def noise_alone() -> Content:
        return sent({name: np.zeros(spec.shape) for name, spec in layout.named.items()})

    if told:
        return answer()
    return hiding_failures(pending, asked.hospital, answer, noise_alone if noised else None)


def _asked_values(layout: VectorLayout, values: Sums, all_asked: bool) -> Sums:
    """The sums, held against the layout that was asked for. Raises ProtocolRefused."""
    named = layout.named
    if not all_asked:
        _check_lacking(layout, values)
    for name, value in values.items():
        if not all_asked and name not in named:
            continue
        if name not in named or named[name].shape != value.shape:
            raise ProtocolRefused(f"this hospital's sum '{name[:100]}' is not in the agreed layout")
    return values


def check_lacking(task: MaskedTask, own: Collection[str]) -> None:
    """Raise ProtocolRefused where sums are asked for that this hospital hasn't itself, by its own
    ``layout``: its zeros would leave another hospital's numbers alone in the sum."""
    _check_lacking(sums_layout(task.sums_layout()), own)


def check_exactly(task: MaskedTask, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ProtocolRefused unless just these sums are asked for, in these shapes."""
    layout = sums_layout(task.sums_layout())
    asked = {name: spec.shape for name, spec in layout.named.items()}
    if asked != dict(shapes):
        odd = min(set(asked.items()) ^ set(shapes.items()))[0]
        raise ProtocolRefused(
            f"the sum '{odd[:100]}' is asked for otherwise than this hospital works it out"
        )


def check_words(layout: VectorLayout, words: Words | None) -> None:
    """Raise ProtocolRefused unless just those of the sums are words that this hospital's program
    makes words, in its ring: in another one they would be opened modulo that."""
    own = words.names & set(layout.named) if words is not None else frozenset()
    bits = words.bits if words is not None and own else 0
    if set(layout.update) != own or layout.word_bits != bits:
        raise ProtocolRefused(
            "the sums are to be added in other words than this hospital works out: "
            f"{len(layout.update)} in {layout.word_bits} bits, not {len(own)} in {bits}"
        )


def _check_lacking(layout: VectorLayout, own: Collection[str]) -> None:
    if lacking := sorted(set(layout.named) - set(own)):
        raise ProtocolRefused(
            f"this hospital has no sum '{lacking[0][:100]}', and its zeros would leave the others' "
            "numbers alone in it; every hospital must have the same sums (its task's statistics, "
            "its columns)"
        )


def asked_splits(task: MaskedTask, sizes: Mapping[str, int]) -> list[str]:
    """The splits that a masked evaluation asks for, by the names of its sums.

    Raises ProtocolRefused for one that this hospital has announced no rows of (``sizes``): its
    zeros would leave the figures of others alone in the sum.
    """
    layout = sums_layout(task.sums_layout())
    asked = sorted({name.partition("/")[0] for name in layout.named})
    if strange := [split for split in asked if not sizes.get(split)]:
        raise ProtocolRefused(
            f"this hospital has no {strange[0][:100]} rows, and its zeros would leave the others' "
            "figures alone in the sum"
        )
    return asked


def finish_training(
    pending: PendingUpload,
    hospital: Hospital,
    received: Arrays,
    reply: TrainReply,
    writing: Writing | None = None,
) -> Content:
    """The masked answer to a training request, of what it would be in plain.

    received : the model as it came. The update is its change. The hospital counts with its number
        of examples, up to the task's largest weight (which is 1 where every hospital counts the
        same).
    writing : how the update is written, with ``[compression]``
    """
    weight = min(reply.num_examples, pending.task.largest_weight)
    exact: dict[str, NDArray[Any]] = {
        LOSS: scalar((reply.train_loss or 0.0) * weight),
        STEPS: scalar(reply.local_steps * weight),
    }
    if CHECK in pending.layout.exact:
        exact[CHECK] = np.array([1.0, weight])
    update: dict[str, NDArray[Any] | Change] = {}
    for name, value in reply.arrays.items():
        key = f"{m.ARRAYS}/{name}"
        if key in pending.layout.update:
            update[key] = Change(value, received[name])
        else:
            exact[key] = np.asarray(value, np.float64) * weight
    for record, arrays in reply.records.items():
        update |= {f"{record}/{name}": value for name, value in arrays.items()}
    return finish_upload(pending, hospital, update, exact, weight, reply.claim, writing)


def finish_private(
    pending: PendingUpload,
    hospital: Hospital,
    received: Arrays,
    whole: Mapping[str, NDArray[np.int64]],
    claim: bytes,
) -> Content:
    """The masked answer of whole numbers, by their names in the layout, that carry their noise (or
    to whose sum it will be added)."""
    exact = {name: received[name.partition("/")[2]] for name in pending.layout.exact if "/" in name}
    return finish_upload(pending, hospital, whole, {STEPS: scalar(1.0)} | exact, 1, claim)


def begin_upload(
    asked: MaskedAsk,
    layout: VectorLayout,
    clip: Clip | None = None,
    blind: BlindMask | None = None,
) -> PendingUpload:
    """The upload that a request asks for, bound to what the request holds; its masks are begun.

    clip : where whole numbers are to be sent, which carry noise or get it: their reach in the ring
    blind : of the mask that only hospitals take off, in a blind run
    """
    hospital, terms = asked.hospital, asked.asked(clip, layout.word_bits)
    if hospital.emulates_masks:
        table = hospital.config.secure_aggregation
        return begin_emulated(hospital.name, asked.task.message, layout, terms, table)
    client = secure_client(hospital, asked.state)
    return client.begin(asked.task.message, layout, terms, blind)


def finish_upload(
    pending: PendingUpload,
    hospital: Hospital,
    update: Mapping[str, NDArray[Any] | Change],
    exact: Mapping[str, NDArray[Any]],
    weight: int,
    claim: bytes | None = None,
    writing: Writing | None = None,
) -> Content:
    """The reply of the masked vector, with the hospital's privacy claim if there is one."""
    rounding = rounding_of(hospital, pending.task.purpose)
    header, vector = pending.finish(update, exact, weight, rounding, writing)
    return MaskedReply(header, kept_bytes(vector), claim).to_records()


def rounding_of(hospital: Hospital, purpose: str) -> Rounding:
    """The dither of an upload's stochastic rounding: from the operating system, but for a simulated
    hospital, whose rounding derives from the run's seed: the masks are secret all the same, and
    runs can be repeated exactly."""
    if not hospital.simulated:
        return KeyRounding(secrets.token_bytes(ROUNDING_KEY_BYTES))
    return SeededRounding.of_client(hospital.config.federation.seed, purpose, hospital.name)
