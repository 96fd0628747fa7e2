"""The hospital's Flower ``ClientApp``: describe, statistics, sums, train, evaluate.

The same app runs in the in-process grid, behind the gRPC client and on Flower's own engine; a host
only says how to open the hospital of a context. Nothing leaves but sums, sizes, model arrays and
one-line reasons that carry no patient-level value.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from wardround.client.data.hospital import Hospital
from wardround.client.joint.answer import answer_letters
from wardround.client.privacy.sizes import announced_sizes
from wardround.client.requests.blind import give_model, keep_chosen, take_model
from wardround.client.requests.buffered import send_kept
from wardround.client.requests.job import TrainingJob
from wardround.client.requests.judging import answer_judgement
from wardround.client.requests.layouts import metrics_layout, statistics_layout
from wardround.client.requests.own_model import keep_own_model
from wardround.client.requests.preparing import answer_privately, private_shapes
from wardround.client.requests.private_figures import PrivateFigures
from wardround.client.requests.received import ModelCache, Received, receive, totals_of
from wardround.client.requests.steps import answer_step, step_layout
from wardround.client.secagg.asked import Step
from wardround.client.secagg.blind import deal_key, take_key
from wardround.client.secagg.masking import (
    MaskedAsk,
    answer_with,
    asked_splits,
    check_lacking,
    is_secure,
    mask_sums,
    refuse_plain,
    shapes_of,
    sums_shapes,
)
from wardround.client.secagg.party import SecureClient
from wardround.client.site.outward import Outward
from wardround.client.state import ClientState
from wardround.client.training.devices import kind
from wardround.client.training.evaluation import evaluate_model
from wardround.common.errors import RequestRefused, WardroundError, reason_of
from wardround.common.figures.intervals import figure_variances
from wardround.common.figures.sums import Sums
from wardround.common.figures.within import own_sums
from wardround.common.flower.hosting import error_reply
from wardround.common.model.torch_state import ordinary_torch
from wardround.common.privacy.figures import figures_covered
from wardround.common.privacy.preparing import phases_of, private_preparation
from wardround.common.protocol import names as m
from wardround.common.protocol.describe import MOST_WARNINGS, DescribeReply, DescribeRequest
from wardround.common.protocol.errors import code_for
from wardround.common.protocol.evaluate import EvaluateReply, EvaluateRequest, named
from wardround.common.protocol.kept import asks_for_kept
from wardround.common.protocol.layout import LayoutRequest
from wardround.common.protocol.message import Content
from wardround.common.protocol.statistics import StatisticsReply, StatisticsRequest
from wardround.common.protocol.totals import Totals
from wardround.common.secagg.content import content_digest
from wardround.common.text import one_line

log = logging.getLogger("wardround.client")

_WARNED = "there is something about its data that its IT should look at: its own log says what"
Handler = Callable[[Content, Hospital, ClientState], Content]


def create_client_app(
    open_hospital: Callable[[Context], Hospital],
    models: ModelCache | None = None,
    outward: Callable[[Exception], str] | None = None,
) -> ClientApp:
    """A ClientApp whose contexts are turned into hospitals by ``open_hospital``.

    models : where the built model is kept; a new place by default
    outward : what may leave of an error: by default nothing of the hospital's own; a simulation,
        whose reader is at the same machine, says ``reason_of``
    """
    told = outward or Outward()
    app = ClientApp()
    models = models or ModelCache()

    def answering(handler: Handler) -> Callable[[Message, Context], Message]:
        def answer(message: Message, context: Context) -> Message:
            try:
                with ordinary_torch():
                    hospital, state = open_hospital(context), ClientState(context.state)
                    return Message(handler(message.content, hospital, state), reply_to=message)
            except Exception as error:
                return failure_reply(message, error, told)

        return answer

    app.query("describe")(answering(describe))
    app.query("statistics")(answering(statistics))
    app.query("sums")(answering(answer_step))
    app.query("letters")(answering(answer_letters))
    app.query("layout")(answering(partial(layout, models)))
    app.query("hello")(answering(answer_with(SecureClient.hello)))
    app.query("group")(answering(answer_with(SecureClient.bundle)))
    app.query("keys")(answering(answer_with(SecureClient.accept)))
    app.query("deal")(answering(deal_key))
    app.query("dealt")(answering(take_key))
    app.query("give")(answering(partial(give_model, models)))
    app.query("take")(answering(take_model))
    app.query("model")(answering(partial(keep_chosen, models)))
    app.query("unmask")(answering(answer_with(SecureClient.unmask)))
    app.train()(answering(partial(train, models)))
    app.train("begin")(answering(partial(begin, models)))
    app.evaluate()(answering(partial(evaluate, models)))
    return app


def failure_reply(
    message: Message, error: Exception, told: Callable[[Exception], str] = reason_of
) -> Message:
    """The reply to a request that ended with an error, of which ``told`` says what may leave."""
    reason = reason_of(error)
    if not isinstance(error, WardroundError):
        log.debug("a request failed", exc_info=error)  # only the hospital may see its text
    if (line := one_line(told(error))) != one_line(reason):
        log.warning("%s", reason)  # the whole of it stays here
    return error_reply(message, line, code_for(error))


def describe(content: Content, hospital: Hospital, state: ClientState) -> Content:
    """Who this is, how many rows it has, and whether it computes on a GPU."""
    DescribeRequest.from_records(content)
    # warnings name files, columns and counts; what they say of one hospital's rows is not for a
    # server that may see sums only
    warnings = hospital.warnings()
    joint = hospital.config.procedure.joint
    hidden = joint or is_secure(hospital) or hospital.config.privacy.enabled
    shown = [] if hidden else warnings
    if not hospital.simulated:  # a simulation tells all hospitals' lines itself
        for line in warnings:
            log.warning(line)
        shown = [f"{hospital.name}: {_WARNED}"] if shown else []
    if len(shown) > MOST_WARNINGS:
        rest = len(shown) - MOST_WARNINGS + 1
        shown = [*shown[: MOST_WARNINGS - 1], f"{hospital.name}: {rest} more stand in its own log"]
    device = kind(hospital.config.training.device)
    sizes = announced_sizes(hospital)
    return DescribeReply(hospital.name, sizes, tuple(shown), device).to_records()


def statistics(content: Content, hospital: Hospital, state: ClientState) -> Content:
    """This hospital's sums for one phase of the federated preparation."""
    refuse_plain(content, hospital)
    request = StatisticsRequest.from_records(content)
    _check_phase(hospital, request.phase)
    totals, _ = totals_of(request.totals)
    if (private := private_preparation(hospital.config, hospital.task)) is not None:
        if request.phase == 0:
            _without_totals(totals)
        return answer_privately(private, request, totals, content, hospital, state)
    if request.masked is not None:
        if first := request.phase == 0:
            _without_totals(totals)
        else:
            check_lacking(request.masked, statistics_layout(hospital, request.phase, totals))
        step = Step("statistics", request.phase)
        asked = MaskedAsk.of(request.masked, step, content, hospital, state)
        own = partial(hospital.statistics, request.phase, totals)
        return mask_sums(asked, own, all_asked=False, told=first)
    return StatisticsReply(hospital.statistics(request.phase, totals)).to_records()


def layout(models: ModelCache, content: Content, hospital: Hospital, state: ClientState) -> Content:
    """Names and shapes of this hospital's sums: statistics of a phase, or metrics."""
    request = LayoutRequest.from_records(content)
    if not hospital.config.procedure.trains:
        return step_layout(hospital, request.phase or 0, request.totals or Totals.of({}))
    totals, digest = totals_of(request.totals)
    if request.phase is None:
        return sums_shapes(shapes_of(named(metrics_layout(hospital, totals, digest, models))))
    _check_phase(hospital, request.phase)
    if (private := private_preparation(hospital.config, hospital.task)) is not None:
        return sums_shapes(private_shapes(private, hospital, request.phase, totals))
    if request.phase > 0:
        return sums_shapes(shapes_of(statistics_layout(hospital, request.phase, totals)))
    _without_totals(totals)
    return sums_shapes(shapes_of(hospital.statistics(0, {})))


def _check_phase(hospital: Hospital, phase: int) -> None:
    """Hold that the task has such a phase. Asked for another one it might give sums that it gave
    before, over other hospitals, or of what a server chose."""
    phases = phases_of(hospital.config, hospital.task)
    if phase >= phases:
        raise RequestRefused(
            f"the preparation of this hospital's task has {phases} phase"
            f"{'s' * (phases != 1)}, and the request is for number {phase + 1}"
        )


def _without_totals(totals: Sums) -> None:
    """Hold that nothing of the server's has a part in the first phase: what fails is told."""
    if totals:
        raise RequestRefused("the first phase of the preparation is asked without totals")


def train(models: ModelCache, content: Content, hospital: Hospital, state: ClientState) -> Content:
    """Load the global model (and personal layers), train, and send the result; or send what was
    kept of a training before."""
    if asks_for_kept(content):
        return send_kept(content, hospital, state)
    return TrainingJob.begin(models, content, hospital, state).answer()


def begin(models: ModelCache, content: Content, hospital: Hospital, state: ClientState) -> Content:
    """Load the global model, train, and keep the result."""
    return TrainingJob.begin(models, content, hospital, state, keeps=True).answer()


def evaluate(
    models: ModelCache, content: Content, hospital: Hospital, state: ClientState
) -> Content:
    """Metric sums of the global model (with personal layers) on the held-out splits."""
    refuse_plain(content, hospital)
    request = EvaluateRequest.from_records(content)
    if request.judge:
        return answer_judgement(models, request, content, hospital, state)
    if request.masked is not None:
        splits = asked_splits(request.masked, announced_sizes(hospital))
        step = Step("evaluate", request.model.server_round, tuple(splits))
        asked = MaskedAsk.of(request.masked, step, content, hospital, state)
        # what is wrong with the request is told: no row has met it yet
        received, best = receive(request, hospital, state, models), request.best_round
        if figures_covered(hospital.config, hospital.task):
            return _private_figures(models, received, content, splits).masked(asked)
        return mask_sums(asked, lambda: named(_metric_sums(received, hospital, best, splits)))
    sizes = announced_sizes(hospital)
    splits = [split for split in m.HELD_OUT if sizes[split]]
    received = receive(request, hospital, state, models)
    if figures_covered(hospital.config, hospital.task):
        return _private_figures(models, received, content, splits).plain()
    return EvaluateReply(_metric_sums(received, hospital, request.best_round, splits)).to_records()


def _private_figures(
    models: ModelCache, received: Received, content: Content, splits: Sequence[str]
) -> PrivateFigures:
    return PrivateFigures.begin(received, models, content_digest(content), splits)


def _metric_sums(
    received: Received, hospital: Hospital, best_round: int, splits: Sequence[str]
) -> dict[str, Sums]:
    examples = received.examples
    keep_own_model(hospital, received, best_round)
    training, found, task = hospital.config.training, dict[str, Sums](), hospital.task
    within = task.figure_table().within() if is_secure(hospital) else []
    for split in m.HELD_OUT:
        if split in splits and split in examples:
            part = evaluate_model(received.model, examples[split], task, training)
            if within:  # the server works them out itself where it may see a hospital's sums
                own = _own_figures(hospital, part)
                part |= own_sums(own, within, figure_variances(own, part))
            found[split] = part
    return found


def _own_figures(hospital: Hospital, sums: Sums) -> Mapping[str, float]:
    """Figures of this hospital alone; none where they can't be had: that its rows allow none is
    inside the masked sum, and no error that the server gets in clear."""
    try:
        return hospital.task.summarise(sums)
    except Exception as error:  # a task of one's own may do what it likes with too few rows
        log.warning("%s: its rows allow no figures (%s)", hospital.name, type(error).__name__)
        return {}
