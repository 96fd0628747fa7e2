"""One training request at a hospital, in three steps: begin, local work, finish.

The steps are apart so that a simulation can do the local work of many clients at once; what comes
before and after is the same whoever does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from wardround.client.algorithms import ALGORITHMS, LocalAlgorithm
from wardround.client.data.hospital import Hospital
from wardround.client.privacy.round import PrivateRound
from wardround.client.privacy.sizes import announced_sizes
from wardround.client.requests.buffered import Kept, check_begin
from wardround.client.requests.compressed import (
    in_words,
    keep_scales,
    with_ratios,
    writing_of,
)
from wardround.client.requests.kept import PERSONAL
from wardround.client.requests.local import LocalUpdate, local_update, noise_alone
from wardround.client.requests.own_pass import train_own
from wardround.client.requests.received import ModelCache, Received, receive
from wardround.client.requests.settings import check_weight
from wardround.client.secagg.asked import Clip, Step
from wardround.client.secagg.blind import BlindModels
from wardround.client.secagg.failing import hidden, hiding, hiding_failures
from wardround.client.secagg.masking import (
    MaskedAsk,
    begin_upload,
    finish_training,
    is_secure,
    refuse_plain,
)
from wardround.client.secagg.upload import PendingUpload
from wardround.client.state import ClientState
from wardround.common.compression.scales import record_layout
from wardround.common.compression.writing import Writing
from wardround.common.errors import RequestRefused
from wardround.common.flower.arrays import Arrays, Layout, layout_of
from wardround.common.model.entries import Entries, Kind
from wardround.common.model.factors import check_factors
from wardround.common.privacy.incompatible import check_model, check_settings, check_task
from wardround.common.protocol.kept import BeginReply
from wardround.common.protocol.message import Content
from wardround.common.protocol.train import TrainReply, TrainRequest
from wardround.common.secagg.content import content_digest, training_layout
from wardround.common.secagg.equations import too_few
from wardround.common.text import one_line


@dataclass
class TrainingJob:
    """A training request that was checked, and paid for where privacy costs something.

    local : names of the entries that stay at the hospital
    count : how many units it announced
    pending : the masked upload that was begun, with secure aggregation
    own_model : the hospital's own after the round, where a simulation has trained it with others'
    keeps : whether the update stays here until another request asks for it
    writing : how its update is written, with ``[compression]``
    """

    hospital: Hospital
    received: Received
    algorithm: LocalAlgorithm
    local: list[str]
    count: int
    private: PrivateRound | None
    pending: PendingUpload | None
    keeps: bool = False
    writing: Writing | None = None
    own_model: Arrays | None = None

    @classmethod
    def begin(
        cls,
        models: ModelCache,
        content: Content,
        hospital: Hospital,
        state: ClientState,
        start: dict[str, Tensor] | None = None,
        keeps: bool = False,
    ) -> TrainingJob:
        """Check the request, load the model, spend what privacy costs, begin the masks.

        start : copies of the shared parameters' values, where the caller has them already
        keeps : of a request that has the update kept
        """
        request = TrainRequest.from_records(content)
        if keeps:
            check_begin(content, hospital, state, request)
        else:
            _check_answered_at_once(content, hospital)
        hospital.training_part()  # before anything is paid for
        received = receive(request, hospital, state, models)
        hospital.check_teacher(received.totals)
        hidden_here = is_secure(hospital)
        if not hidden_here:  # what fails on the rows fails before it is paid for
            received.training_examples  # noqa: B018
        local, name = sorted(request.model.local_keys), _known(request.algorithm, hospital)
        check_factors(hospital.config, hospital.task.low_rank(received.model), local)
        entries = Entries.of(received.model, local)
        parameters = entries.only(dict(received.model.named_parameters()), Kind.PARAMETER)
        algorithm = ALGORITHMS[name](dict(parameters), request, state, start)
        count = announced_sizes(hospital)["train"]
        if hidden_here:
            check_weight(hospital, count)  # before anything is paid for
        private = None
        if hospital.config.privacy.enabled:
            _check_private(hospital, received.model, local)
            private = PrivateRound.begin(request, content_digest(content), hospital, count)
        pending, shared = None, layout_of(received.arrays)
        writing = writing_of(request, hospital, state, shared, parameters)
        if request.masked is not None:
            records = algorithm.reply_records({key: shared[key] for key in parameters})
            records = records | (private.records() if private else {})
            records |= record_layout(len(writing.names)) if writing else {}
            step = Step("train", received.server_round)
            asked = MaskedAsk.of(request.masked, step, content, hospital, state)
            reach = private.reach if private is not None and not private.table.stepwise else None
            pending = _begun(asked, received, parameters, records, reach)
            if why := too_few(hospital.config, name, pending.limits):
                raise RequestRefused(why)
        keep_scales(writing, state)
        return cls(hospital, received, algorithm, local, count, private, pending, keeps, writing)

    def answer(self, work: Callable[[], LocalUpdate] | None = None) -> Content:
        """Train, keep what stays, and make the reply of what leaves.

        A masked one tells of no failure: then all that is kept stays as it was, and noise leaves
        that keeps the sum from being opened, or under privacy the noise that was paid for.

        work : trains, in another way than here and now
        """
        work = work or self.work
        if self.keeps:
            return self._keep(work)
        if (pending := self.pending) is None:
            return self._finish(work())

        def nothing() -> Content:
            algorithm, got, private = self.algorithm, self.received, self.private
            algorithm.state.keep(algorithm.server_round, algorithm.state_round)
            if private is None:
                return hidden(pending)
            noise = noise_alone(self.hospital, got.model, got.arrays, algorithm, private)
            return self._reply(noise)

        return hiding_failures(pending, self.hospital, lambda: self._finish(work()), nothing)

    def _keep(self, work: Callable[[], LocalUpdate]) -> Content:
        """Train, and keep the update. Under masks the answer tells of no failure: what is kept then
        is what another hospital's sum hides it by, or under privacy the noise that was paid for."""
        got, algorithm, masked = self.received, self.algorithm, is_secure(self.hospital)
        server_round, moved = algorithm.server_round, set(algorithm.parameters)

        def keep(reply: TrainReply, failed: bool = False) -> None:
            kept = Kept.of(server_round - 1, got.arrays, moved, reply, masked)
            replace(kept, failed=failed).save(algorithm.state)

        def nothing() -> None:
            if (private := self.private) is None:
                keep(TrainReply(got.arrays, self.count, 1, None), failed=True)
                return
            noise = noise_alone(self.hospital, got.model, got.arrays, algorithm, private)
            keep(self._plain(noise))

        if masked:
            purpose = f"train {server_round}"
            hiding(self.hospital, purpose, lambda: keep(self._plain(work())), nothing)
        else:
            keep(self._plain(work()))
        return BeginReply(server_round).to_records()

    def work(self) -> LocalUpdate:
        """Train, here and now."""
        got = self.received
        return local_update(
            self.hospital,
            got.model,
            got.training_examples,
            got.arrays,
            self.algorithm,
            self.private,
        )

    def _finish(self, work: LocalUpdate) -> Content:
        algorithm, got = self.algorithm, self.received
        own = {key: work.arrays[key] for key in self.local} or None
        if algorithm.has_own_model:
            own = self.own_model or train_own(self.hospital, got, algorithm)
        if own is not None:
            algorithm.state.save(PERSONAL, own, algorithm.server_round, algorithm.state_round)
        return self._reply(work)

    def _reply(self, work: LocalUpdate) -> Content:
        received = self.received.arrays
        if work.protect is not None:
            assert self.private is not None
            return self.private.reply(self.pending, received, work.protect, work.sensitivity)
        reply, writing = self._plain(work), self.writing
        if writing is not None:
            reply = with_ratios(reply, received, writing)
        if self.pending is not None:
            return finish_training(self.pending, self.hospital, received, reply, writing)
        if writing is not None:
            reply = in_words(reply, received, writing, self.hospital)
        return reply.to_records()

    def _plain(self, work: LocalUpdate) -> TrainReply:
        """What it would be in plain, of work that needs no protection any more."""
        received, algorithm, private = self.received.arrays, self.algorithm, self.private
        arrays = {key: work.arrays[key] for key in received}
        if private is not None:  # a buffer may depend on the rows, and no noise covers it
            moved = algorithm.parameters
            arrays |= {key: value for key, value in received.items() if key not in moved}
        loss, steps = None if private else work.outcome.loss, work.outcome.steps
        extra = algorithm.finish(arrays, steps, work.outcome.lr)
        if (factors := self.hospital.task.low_rank(self.received.model)) is not None:
            run_seed, server_round = self.hospital.config.federation.seed, algorithm.server_round
            arrays |= factors.sent(received, arrays, run_seed, server_round)
        claim = private.claim if private else None
        return TrainReply(arrays, self.count, steps, loss, extra, claim)


def _begun(
    asked: MaskedAsk,
    received: Received,
    parameters: Iterable[str],
    records: Mapping[str, Layout],
    reach: Clip | None,
) -> PendingUpload:
    """The upload that a request asks for; in a blind run with the mask that hospitals take off."""
    shared, model, mask = layout_of(received.arrays), received.blind, None
    if model is not None:
        if asked.task.blind_key is None:
            raise RequestRefused("the request names no key of hospitals, and the run is blind")
        models = BlindModels(asked.hospital, asked.state)
        mask = models.mask(asked.task.blind_key, received.server_round, model)
    layout = training_layout(shared, parameters, records, model is not None)
    return begin_upload(asked, layout, reach, mask)


def _known(algorithm: str, hospital: Hospital) -> str:
    if algorithm not in ALGORITHMS:
        raise RequestRefused(
            f"this client doesn't know the algorithm '{one_line(algorithm, 40)}'; update wardround"
        )
    if ALGORITHMS[algorithm].has_own_model and hospital.config.strategy.keeps != "model":
        raise RequestRefused(f"algorithm '{algorithm}' goes with the strategy of that name only")
    return algorithm


def _check_answered_at_once(content: Content, hospital: Hospital) -> None:
    """Raise RequestRefused for plain values where answers are masked, and in a buffered run."""
    refuse_plain(content, hospital)
    if hospital.config.federation.buffered:
        raise RequestRefused(
            "this hospital's settings have federation.pace = 'buffered': an update is kept first "
            "(train.begin), and sent in another round's sum"
        )


def _check_private(hospital: Hospital, model: nn.Module, local: list[str]) -> None:
    """Raise ConfigError for what can't be private."""
    check_settings(hospital.config)
    check_task(hospital.config, hospital.task)
    check_model(hospital.config, model, local)
