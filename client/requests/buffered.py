"""An update that a hospital has trained and keeps, until a round of the server's asks for it.

Buffered rounds (FedBuff; Nguyen et al. 2022, arXiv 2106.06639): a hospital that trained on version
v of the model and is in the sum of round u has the staleness s = u - 1 - v, and sends its change
times 1 / sqrt(1 + s). It works s out itself: v it has kept, u is the round that it is asked in.

An update belongs to the first round that it is sent for. No other round has it, whether that one's
sum was opened or not: or two sums would hold it, over other hospitals. And who has sent one trains
next on a version of that round or later: on an older one the same draws would make it once more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from wardround.client.data.hospital import Hospital
from wardround.client.requests.settings import check_weight
from wardround.client.secagg.asked import Step
from wardround.client.secagg.failing import hidden, hiding_failures
from wardround.client.secagg.masking import (
    MaskedAsk,
    begin_upload,
    finish_training,
    is_secure,
    refuse_plain,
    secure_client,
)
from wardround.client.state import ClientState
from wardround.common.bfloat16 import BFLOAT16, is_float, rounded, widened
from wardround.common.errors import RequestRefused
from wardround.common.flower.arrays import Arrays, ArraySpec, Layout, layout_of
from wardround.common.privacy.claims import signed_now
from wardround.common.protocol.kept import KeptRequest
from wardround.common.protocol.masked import MaskedTask
from wardround.common.protocol.message import Content
from wardround.common.protocol.train import TrainReply, TrainRequest
from wardround.common.secagg.content import training_layout

_NAME = "kept"
_NUMBERS = ("version", "sent_in", "count", "steps", "failed")


@dataclass(frozen=True, eq=False)
class Kept:
    """One update.

    version : of the model that it was trained on
    update : changes of what was trained, of bfloat16 in float32; all other shared entries as they
        were after it
    parameters : names of what was trained; ``narrow``: of those of them that are bfloat16
    trained : in plain, what was trained as it was after it; empty under masks
    start : in plain, the same before
    sent_in : the round that it was first sent for; 0: none yet
    count, steps, loss, claim : as ``TrainReply`` has them
    failed : there is none, which the server learns as a count in the sum alone
    """

    version: int
    update: Arrays = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    narrow: tuple[str, ...] = ()
    trained: Arrays = field(default_factory=dict)
    start: Arrays = field(default_factory=dict)
    sent_in: int = 0
    count: int = 0
    steps: int = 0
    loss: float | None = None
    claim: bytes | None = None
    failed: bool = False

    @classmethod
    def of(
        cls, version: int, received: Arrays, moved: set[str], reply: TrainReply, masked: bool
    ) -> Kept:
        """Of what training on ``received`` gave; ``moved``: names of what optimisers move."""
        names = {name for name in moved if is_float(received[name].dtype)}
        update = {
            name: widened(value) - widened(received[name]) if name in names else value
            for name, value in reply.arrays.items()
        }
        return cls(
            version,
            update,
            tuple(sorted(names)),
            tuple(sorted(name for name in names if received[name].dtype == BFLOAT16)),
            {} if masked else {name: reply.arrays[name] for name in names},
            {} if masked else {name: received[name] for name in names},
            count=reply.num_examples,
            steps=reply.local_steps,
            loss=reply.train_loss,
            claim=reply.claim,
        )

    @property
    def layout(self) -> Layout:
        """Of the model's shared entries."""
        found = layout_of(self.update)
        return found | {name: ArraySpec(found[name].shape, BFLOAT16.name) for name in self.narrow}

    def staleness(self, server_round: int) -> int:
        """Rounds that were made between the model that it was trained on and this one."""
        return server_round - 1 - self.version

    def weight(self, server_round: int) -> float:
        """What its change counts with: 1 / sqrt(1 + s)."""
        return 1 / math.sqrt(1 + self.staleness(server_round))

    def scaled(self, server_round: int) -> Arrays:
        """The update with its changes times ``weight``; untouched where that is 1."""
        if self.staleness(server_round) == 0:
            return self.update
        factor = self.weight(server_round)
        return {
            name: value * factor if name in self.parameters else value
            for name, value in self.update.items()
        }

    def moved_on(self, server_round: int, present: Arrays) -> Arrays:
        """In plain: the present model, moved by the scaled change. What it was trained to where
        nothing is stale, for the present model is the one that it began with."""
        if self.staleness(server_round) == 0:
            return self.update | self.trained
        factor, moved = self.weight(server_round), {}
        for name, value in self.trained.items():
            change = np.subtract(widened(value), widened(self.start[name]), dtype=np.float64)
            found = widened(present[name]) + factor * change
            moved[name] = rounded(found) if name in self.narrow else found.astype(value.dtype)
        return self.update | moved

    # --- stored ------------------------------------------------------------------------------
    def save(self, state: ClientState) -> None:
        """In place of the one before. Raises ReplyRefused for numbers that aren't finite."""
        about = {name: np.array([int(getattr(self, name))], np.int64) for name in _NUMBERS}
        if self.loss is not None:
            about["loss"] = np.array([self.loss])
        if self.claim is not None:
            about["claim"] = np.frombuffer(self.claim, np.uint8)
        narrow = {name: np.zeros(1) for name in self.narrow}
        parts = {"about": about, "trained": self.trained, "start": self.start, "narrow": narrow}
        for name, value in self.update.items():
            parts.setdefault("change" if name in self.parameters else "still", {})[name] = value
        flat = {f"{part}/{key}": x for part, arrays in parts.items() for key, x in arrays.items()}
        state.save(_NAME, flat, 0, 0)

    @classmethod
    def load(cls, state: ClientState) -> Kept | None:
        """The one that is kept; None where there is none."""
        flat = state.load(_NAME, 0)
        if flat is None:
            return None
        parts: dict[str, Arrays] = {}
        for key, value in flat.items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = value
        about, changes = parts["about"], parts.get("change", {})
        numbers = {name: int(about[name][0]) for name in _NUMBERS}
        return cls(
            numbers["version"],
            update=changes | parts.get("still", {}),
            parameters=tuple(sorted(changes)),
            narrow=tuple(sorted(parts.get("narrow", ()))),
            trained=parts.get("trained", {}),
            start=parts.get("start", {}),
            sent_in=numbers["sent_in"],
            count=numbers["count"],
            steps=numbers["steps"],
            failed=bool(numbers["failed"]),
            loss=float(about["loss"][0]) if "loss" in about else None,
            claim=about["claim"].tobytes() if "claim" in about else None,
        )


def check_begin(
    content: Content, hospital: Hospital, state: ClientState, request: TrainRequest
) -> None:
    """Before an update is trained and kept: raise RequestRefused unless the run is a buffered one
    and its model no older than the newest sum that an update was sent for; under masks
    OtherThanBefore for another model than was shown before."""
    version = request.model.server_round - 1
    if request.masked is not None:
        raise RequestRefused("an update that is kept is masked when it is sent, not before")
    if not hospital.config.federation.buffered:
        raise RequestRefused(
            "this hospital's settings have federation.pace = 'synchronous': it keeps no update"
        )
    kept = Kept.load(state)
    if kept is not None and version < (kept.sent_in or kept.version):
        raise RequestRefused(
            f"this hospital has trained on version {kept.version} of the model"
            + (f" and sent the update in round {kept.sent_in}" if kept.sent_in else "")
            + f": on version {version} it trains no more"
        )
    if is_secure(hospital):
        step = Step("train", version + 1)
        ask = MaskedAsk.of(MaskedTask(b""), step, content, hospital, state)
        secure_client(hospital, state).train(ask.asked())


def send_kept(content: Content, hospital: Hospital, state: ClientState) -> Content:
    """The kept update, for the sum of a round. Raises RequestRefused where it has none for it."""
    refuse_plain(content, hospital)
    if not hospital.config.federation.buffered:
        raise RequestRefused(
            "the request is for a kept update, and this hospital's settings have "
            "federation.pace = 'synchronous'"
        )
    request = KeptRequest.from_records(content)
    kept = _kept_for(request.server_round, hospital, state)
    if request.masked is None:
        present = request.decoded(kept.layout)
        replace(kept, sent_in=request.server_round).save(state)
        arrays = kept.moved_on(request.server_round, present)
        return _reply(kept, arrays, hospital).to_records()
    check_weight(hospital, kept.count)
    step = Step("train", request.server_round, kept=True)
    asked = MaskedAsk.of(request.masked, step, content, hospital, state)
    pending = begin_upload(asked, training_layout(kept.layout, kept.parameters, {}))
    replace(kept, sent_in=request.server_round).save(state)
    if kept.failed:
        return hidden(pending)

    def answer() -> Content:
        arrays = kept.scaled(request.server_round)
        nothing = {name: np.zeros((), arrays[name].dtype) for name in kept.parameters}
        return finish_training(pending, hospital, nothing, _reply(kept, arrays, hospital))

    return hiding_failures(pending, hospital, answer)


def _kept_for(server_round: int, hospital: Hospital, state: ClientState) -> Kept:
    kept, most = Kept.load(state), hospital.config.federation.max_staleness
    if kept is None:
        raise RequestRefused("this hospital keeps no update; it must be told to train first")
    if kept.sent_in not in (0, server_round):
        raise RequestRefused(
            f"this hospital's update was sent in round {kept.sent_in}, and goes into no other"
        )
    if not 0 <= kept.staleness(server_round) <= most:
        raise RequestRefused(
            f"this hospital's update is of version {kept.version} of the model: in round "
            f"{server_round} it isn't of the last {most + 1} (federation.max_staleness = {most})"
        )
    return kept


def _reply(kept: Kept, arrays: Arrays, hospital: Hospital) -> TrainReply:
    claim = kept.claim
    if claim is not None and hospital.identity is not None:
        claim = signed_now(claim, hospital.identity)  # a simulated one has another after a stop
    return TrainReply(arrays, kept.count, kept.steps, kept.loss, {}, claim)
