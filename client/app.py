"""The hospital's Flower ``ClientApp``: describe, statistics, train, evaluate.

The same app runs in the in-process grid, behind the gRPC client and on Flower's own engine; a host
only says how to open the hospital of a context. Nothing leaves but sums, sizes, model arrays and
one-line reasons that carry no patient-level value.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from torch import nn

from wardround.client.algorithms import ALGORITHMS
from wardround.client.algorithms.base import integer
from wardround.client.evaluation import evaluate_model
from wardround.client.hospital import Hospital
from wardround.client.local import local_update
from wardround.client.masking import (
    answer_with,
    begin_training,
    finish_training,
    is_secure,
    mask_sums,
    refuse_plain,
    sums_shapes,
)
from wardround.client.privacy import PrivateRound, announced_sizes, plain_reply
from wardround.client.secagg import SecureClient
from wardround.client.state import ClientState
from wardround.common import messages as m
from wardround.common.arrays import (
    MAX_ABS_SUM,
    Arrays,
    decode_arrays,
    digest_arrays,
    encode_arrays,
    layout_of,
)
from wardround.common.errors import PrivacyRefused, ReplyRefused, WardroundError
from wardround.common.hosting import error_reply
from wardround.common.models import build_model, load_arrays, model_arrays
from wardround.common.privacy.rules import check_model, check_settings, check_task
from wardround.common.tasks.base import Examples, Sums

log = logging.getLogger("wardround.client")

Handler = Callable[[RecordDict, Hospital, ClientState], RecordDict]
PERSONAL = "personal"


def create_client_app(open_hospital: Callable[[Context], Hospital]) -> ClientApp:
    """A ClientApp whose contexts are turned into hospitals by ``open_hospital``."""
    app = ClientApp()
    models = _ModelCache()

    def answering(handler: Handler) -> Callable[[Message, Context], Message]:
        def answer(message: Message, context: Context) -> Message:
            try:
                reply = handler(message.content, open_hospital(context), ClientState(context.state))
                return Message(reply, reply_to=message)
            except PrivacyRefused as error:
                return error_reply(message, m.one_line(f"{m.BUDGET}{error}"))
            except WardroundError as error:
                return error_reply(message, m.one_line(str(error)))
            except Exception as error:  # its text might quote a cell: only the hospital may see it
                log.debug("a request failed", exc_info=True)
                where = traceback.extract_tb(error.__traceback__)[-1]
                name = where.filename.rpartition("/")[2]
                return error_reply(message, f"{type(error).__name__} at {name}:{where.lineno}")

        return answer

    app.query("describe")(answering(describe))
    app.query("statistics")(answering(statistics))
    app.query("layout")(answering(partial(layout, models)))
    app.query("hello")(answering(answer_with(SecureClient.hello)))
    app.query("group")(answering(answer_with(SecureClient.bundle)))
    app.query("keys")(answering(answer_with(SecureClient.accept)))
    app.query("unmask")(answering(answer_with(SecureClient.unmask)))
    app.train()(answering(partial(train, models)))
    app.evaluate()(answering(partial(evaluate, models)))
    return app


class _ModelCache:
    """The last model built, with its initial values: many simulated hospitals share one."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._built: tuple[nn.Module, Arrays] | None = None

    def get(self, hospital: Hospital, totals: Sums, digest: str) -> tuple[nn.Module, Arrays]:
        seed, device = hospital.config.federation.seed, hospital.config.training.device
        key = (id(hospital.task), digest, seed, device)
        if self._built is None or key != self._key:
            model = build_model(hospital.task, totals, seed)
            self._built, self._key = (model.to(device), model_arrays(model)), key
        return self._built


def describe(request: RecordDict, hospital: Hospital, state: ClientState) -> RecordDict:
    """Who this is and how many rows it has."""
    protocol = _config(request).get(m.PROTOCOL_KEY)
    if protocol != m.PROTOCOL:
        raise ReplyRefused(
            f"the server speaks protocol {protocol!r}, this client {m.PROTOCOL}; "
            "install the same version of wardround on both sides"
        )
    # what a warning says of one hospital's rows is not for a server that may see sums only
    warnings = hospital.warnings()[:20]
    for line in warnings:
        log.warning(line)
    shown = [] if is_secure(hospital) or hospital.config.privacy.enabled else warnings
    return RecordDict(
        {
            "describe": ConfigRecord({"hospital": hospital.name, "warnings": shown}),
            m.SIZES: MetricRecord(dict(announced_sizes(hospital))),
        }
    )


def statistics(request: RecordDict, hospital: Hospital, state: ClientState) -> RecordDict:
    """This hospital's sums for one phase of the federated preparation."""
    masked = refuse_plain(request, hospital)
    phase = integer(_config(request), m.PHASE)
    totals, _ = _totals(request)
    if masked:
        return mask_sums(request, hospital, state, lambda: hospital.statistics(phase, totals))
    return RecordDict({m.ARRAYS: encode_arrays(hospital.statistics(phase, totals))})


def layout(
    models: _ModelCache, request: RecordDict, hospital: Hospital, state: ClientState
) -> RecordDict:
    """Names and shapes of this hospital's sums: statistics of a phase, or metrics of a model."""
    if m.ARRAYS in request:
        return sums_shapes(_metric_sums(request, hospital, state, models))
    totals, _ = _totals(request)
    return sums_shapes(hospital.statistics(integer(_config(request), m.PHASE), totals))


def train(
    models: _ModelCache, request: RecordDict, hospital: Hospital, state: ClientState
) -> RecordDict:
    """Load the global model (and personal layers), train, and send the result."""
    masked = refuse_plain(request, hospital)
    received = _receive(request, hospital, state, models)
    config, model = received.config, received.model
    examples = received.examples["train"]
    local = set(_local_keys(config))
    name = str(config.get(m.ALGORITHM, "plain"))
    if name not in ALGORITHMS:
        raise ReplyRefused(
            f"this client doesn't know the algorithm '{m.one_line(name, 40)}'; update wardround"
        )
    parameters = {
        key: p for key, p in model.named_parameters() if p.requires_grad and key not in local
    }
    algorithm = ALGORITHMS[name](dict(parameters), request, state)
    count = announced_sizes(hospital)["train"]
    private = _private_round(request, hospital, model, sorted(local), count)
    pending = None
    if masked:
        shared = layout_of(received.arrays)
        records = algorithm.reply_records({key: shared[key] for key in parameters})
        records = records | (private.records() if private else {})
        fine = private is not None and not private.table.stepwise
        pending = begin_training(request, hospital, state, shared, list(parameters), records, fine)
    work = local_update(hospital, model, examples, received.arrays, algorithm, private)
    if local:
        personal = {key: work.arrays[key] for key in sorted(local)}
        state.save(PERSONAL, personal, algorithm.server_round, algorithm.state_round)
    arrays = {key: work.arrays[key] for key in received.arrays}
    if private is not None:  # a buffer may depend on the rows, and no noise covers it
        arrays |= {key: v for key, v in received.arrays.items() if key not in parameters}
    loss, steps = None if private else work.outcome.loss, work.outcome.steps
    if work.protect is not None:
        assert private is not None
        return private.reply(pending, received.arrays, work.protect, work.sensitivity)
    extra = algorithm.finish(arrays, steps, work.outcome.lr)
    claim = private.claim if private else None
    if pending is not None:
        return finish_training(
            pending, hospital, received.arrays, arrays, extra, count, loss, steps, claim
        )
    return plain_reply(arrays, extra, count, steps, loss, claim)


def _private_round(
    request: RecordDict, hospital: Hospital, model: nn.Module, local: list[str], units: int
) -> PrivateRound | None:
    """The round's privacy, paid for; None where none is configured."""
    if not hospital.config.privacy.enabled:
        return None
    check_settings(hospital.config)
    check_task(hospital.config, hospital.task)
    check_model(hospital.config, model, local)
    return PrivateRound.begin(request, hospital, units)


def evaluate(
    models: _ModelCache, request: RecordDict, hospital: Hospital, state: ClientState
) -> RecordDict:
    """Metric sums of the global model (with personal layers) on the held-out splits."""
    if refuse_plain(request, hospital):
        return mask_sums(
            request, hospital, state, lambda: _metric_sums(request, hospital, state, models)
        )
    return RecordDict({m.ARRAYS: encode_arrays(_metric_sums(request, hospital, state, models))})


def _metric_sums(
    request: RecordDict, hospital: Hospital, state: ClientState, models: _ModelCache
) -> Sums:
    received = _receive(request, hospital, state, models)
    device, sums = hospital.config.training.device, Sums()
    for split in ("validation", "test"):
        if split in received.examples:
            part = evaluate_model(received.model, received.examples[split], hospital.task, device)
            sums |= {f"{split}/{name}": value for name, value in part.items()}
    return sums


class _Received(NamedTuple):
    """A request's config, the hospital's examples, the model, and the arrays that it was sent."""

    config: ConfigRecord
    examples: dict[str, Examples]
    model: nn.Module
    arrays: Arrays


def _receive(
    request: RecordDict, hospital: Hospital, state: ClientState, models: _ModelCache
) -> _Received:
    """The model loaded with what was sent, and all that goes with it."""
    config = _config(request)
    totals, digest = _totals(request)
    examples = hospital.examples(totals, digest)
    model, initial = models.get(hospital, totals, digest)
    local = _local_keys(config)
    if unknown := sorted(set(local) - set(initial)):
        raise ReplyRefused(f"the request names an unknown personal layer '{unknown[0][:100]}'")
    layout = layout_of({key: value for key, value in initial.items() if key not in local})
    record = request.get(m.ARRAYS)
    if not isinstance(record, ArrayRecord):
        raise ReplyRefused(f"the request has no '{m.ARRAYS}' record")
    arrays = decode_arrays(record, layout)
    load_arrays(model, arrays)
    if local:
        personal = state.load(PERSONAL, integer(config, m.STATE_ROUND))
        load_arrays(model, personal or {key: initial[key] for key in local})
    return _Received(config, examples, model, arrays)


def _config(request: RecordDict) -> ConfigRecord:
    record = request.get(m.CONFIG)
    if not isinstance(record, ConfigRecord):
        raise ReplyRefused(f"the request has no '{m.CONFIG}' record")
    return record


def _local_keys(config: ConfigRecord) -> list[str]:
    keys = config.get(m.LOCAL_KEYS, [])
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ReplyRefused(f"the request's '{m.LOCAL_KEYS}' must be a list of names")
    return [str(key) for key in keys]


_totals_cache: dict[str, Sums] = {}


def _totals(request: RecordDict) -> tuple[Sums, str]:
    """The federation's summed preparation and its digest (of what was really received)."""
    record = request.get(m.TOTALS)
    if not isinstance(record, ArrayRecord):
        return {}, "none"
    claimed = _config(request).get(m.TOTALS_DIGEST)
    if isinstance(claimed, str) and claimed in _totals_cache:
        return _totals_cache[claimed], claimed
    totals = decode_arrays(record, max_abs=MAX_ABS_SUM)
    digest = digest_arrays(totals)
    if claimed is not None and digest != claimed:
        raise ReplyRefused("the preparation that was received doesn't match its digest")
    _totals_cache.clear()  # one federation at a time: the newest is all that is asked for
    _totals_cache[digest] = totals
    return totals, digest
