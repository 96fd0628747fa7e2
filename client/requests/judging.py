"""A judgement at a hospital: its sums by group of the model that it was evaluated with.

What is asked follows from the accepted settings and the preparation's totals; the model and the
hospitals are those of an evaluation whose sum this hospital has helped to open, and there is one
judgement in a run (``client/secagg/contributions.py``).
"""

from __future__ import annotations

from wardround.client.data.hospital import Hospital
from wardround.client.privacy.sizes import announced_sizes
from wardround.client.requests.received import ModelCache, Received, receive
from wardround.client.secagg.asked import JUDGE, Step
from wardround.client.secagg.masking import MaskedAsk, check_exactly, mask_sums
from wardround.client.state import ClientState
from wardround.client.training.evaluation import model_outputs
from wardround.common.errors import RequestRefused
from wardround.common.figures.sums import Sums
from wardround.common.judgement.judge import SPLIT, Judge, check_judgement
from wardround.common.protocol.evaluate import EvaluateRequest
from wardround.common.protocol.message import Content


def answer_judgement(
    models: ModelCache,
    request: EvaluateRequest,
    content: Content,
    hospital: Hospital,
    state: ClientState,
) -> Content:
    """This hospital's masked sums by group. Raises RequestRefused, ConfigError."""
    if hospital.config.judgement is None:
        raise RequestRefused("this hospital's settings have no [judgement]")
    if request.masked is None:
        raise RequestRefused("a judgement is masked, and the request is for plain values")
    check_judgement(hospital.config, hospital.task)
    if not announced_sizes(hospital)[SPLIT]:
        raise RequestRefused(
            f"this hospital has no {SPLIT} rows, and its zeros would leave the others' figures "
            "alone in the sum"
        )
    received = receive(request, hospital, state, models)
    if request.model.local_keys:
        raise RequestRefused("entries stay with each hospital: there is no one model to be judged")
    judge = Judge.of(hospital.config, hospital.task, received.totals)
    check_exactly(request.masked, judge.shapes())
    step = Step(JUDGE, request.model.server_round, (SPLIT,))
    asked = MaskedAsk.of(request.masked, step, content, hospital, state)
    return mask_sums(asked, lambda: _sums(judge, received))


def _sums(judge: Judge, received: Received) -> Sums:
    hospital, examples = received.hospital, received.examples[SPLIT]
    outputs = model_outputs(received.model, examples, hospital.config.training)
    return judge.sums([hospital.parts()[SPLIT]], outputs, examples.targets)
