"""Training messages of single clients, their local work done many at a time.

Each client's request is checked, paid for and answered by the same code as at a hospital
(``client/requests/job.py``); only the steps of the optimiser in between are shared. Private steps
(examples or patients as units) are each client's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from flwr.app import ArrayRecord, Message
from torch import Tensor

from wardround.client.app import failure_reply
from wardround.client.requests.job import TrainingJob
from wardround.client.requests.local import LocalUpdate, updated
from wardround.client.training.steps import TrainingOutcome
from wardround.common.flower.arrays import Arrays, encoded_view
from wardround.common.flower.hosting import error_reply, own_copy, timestamp
from wardround.common.model.named import load_arrays, to_numpy
from wardround.common.protocol import names as m
from wardround.simulations.clients import Clients
from wardround.simulations.executors.example_pool import Client
from wardround.simulations.executors.own_models import train_own_models
from wardround.simulations.executors.trainer import MOST_JOBS, Terms, Trained, Trainers


@dataclass
class _Begun:
    """A client's job.

    personal : its own values of the entries that stay with it
    apart : whether it is worked at by itself
    """

    message: Message
    node_id: int
    job: TrainingJob
    personal: Arrays
    began_s: float
    apart: bool


def train_messages(
    messages: Sequence[Message], clients: Clients, trainers: Trainers
) -> Iterator[Message]:
    """A reply to each training message, of those trained together in their order.

    Collected as long as they send the same arrays, and no more at once than a chunk holds. What
    can't be shared is answered at once: the model that all use is loaded anew before it moves.
    """
    begun: list[_Begun] = []
    limit, start = MOST_JOBS, None
    for message in messages:
        if begun and (len(begun) >= limit or not _sends_the_same(begun[0].message, message)):
            yield from _finish(begun, clients, trainers)
            begun, limit, start = [], MOST_JOBS, None
        found = _begin(message, clients, start)
        if isinstance(found, Message):
            yield found
            continue
        if found.apart:
            yield _reply(found, _alone)
            continue
        begun.append(found)
        if start is None:
            start = _start(found.job)
            trainer = trainers.of(found.job.received.model, clients, found.node_id)
        # the largest client decides: in a chunk all are padded to it
        limit = min(limit, trainer.chunk_size(_client(found), corrected=True))
    if begun:
        yield from _finish(begun, clients, trainers)


def _begin(message: Message, clients: Clients, start: dict[str, Tensor] | None) -> _Begun | Message:
    node_id = message.metadata.dst_node_id
    message.metadata.created_at = timestamp()
    if reason := clients.failure(message, node_id):
        return error_reply(message, reason)
    began_s = time.monotonic()
    try:
        content = own_copy(message).content
        job = TrainingJob.begin(
            clients.models,
            content,
            clients.hospital(node_id),
            clients.state(node_id),
            start,
            keeps=message.metadata.message_type == m.BEGIN,
        )
        state = job.received.model.state_dict()
        personal = {key: to_numpy(state[key]).copy() for key in job.local}
        apart = not _is_shared_work(job)
        return _Begun(message, node_id, job, personal, time.monotonic() - began_s, apart)
    except Exception as error:
        return failure_reply(message, error)


def _reply(begun: _Begun, work: Callable[[_Begun], LocalUpdate], shared_s: float = 0.0) -> Message:
    """The reply, stamped as late as it would be if the client had been alone."""
    started_s = time.monotonic()
    try:
        answer = begun.job.answer(partial(work, begun))
        reply = Message(answer, reply_to=begun.message)
    except Exception as error:
        reply = failure_reply(begun.message, error)
    took_s = begun.began_s + shared_s + time.monotonic() - started_s
    reply.metadata.created_at = begun.message.metadata.created_at + took_s
    return reply


def _alone(begun: _Begun) -> LocalUpdate:
    """Local work of one client by itself; another's may have moved the model since."""
    received = begun.job.received
    load_arrays(received.model, received.arrays)
    load_arrays(received.model, begun.personal)
    return begun.job.work()


def _finish(begun: list[_Begun], clients: Clients, trainers: Trainers) -> Iterator[Message]:
    """Train these clients at once and reply for each."""
    started_s = time.monotonic()
    received = begun[0].job.received
    load_arrays(received.model, received.arrays)
    trainer = trainers.of(received.model, clients, begun[0].node_id)
    chunk, server_round = [_client(one) for one in begun], begun[0].job.algorithm.server_round
    trained = trainer.train(chunk, server_round, _terms(begun))
    if trained is None:
        for one in begun:
            yield _reply(one, _alone)
        return
    places = {position: index for index, position in enumerate(trained.order)}
    jobs = [one.job for one in begun]
    for job, own in zip(jobs, train_own_models(jobs, chunk, trainer) or [], strict=False):
        job.own_model = own
    shared_s = (time.monotonic() - started_s) / len(begun)
    for position, one in enumerate(begun):
        yield _reply(one, partial(_taken, trained, places[position]), shared_s)


def _taken(trained: Trained, index: int, begun: _Begun) -> LocalUpdate:
    """One client's part of what was trained together, as ``client/requests/local.py`` has it of one
    by itself: its algorithm's parameters are its own slice."""
    job, values = begun.job, trained.result.client(index)
    job.algorithm.parameters = {name: values[name] for name in job.algorithm.parameters}
    arrays = {
        name: encoded_view(to_numpy(values[name])) if name in values else value
        for name, value in (job.received.arrays | begun.personal).items()
    }
    lr = job.hospital.config.lr_of(job.algorithm.server_round)
    loss = float(trained.result.losses[index])
    outcome = TrainingOutcome(int(trained.steps[index]), lr, loss)
    return updated(arrays, outcome, job.received.arrays, job.algorithm, job.private)


def _terms(begun: list[_Begun]) -> Terms:
    """Where these clients start and what their strategy adds. The model holds the first one's."""
    model, first = begun[0].job.received.model, begun[0].job
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    own = [name for name in trained if name in begun[0].personal]
    start = {
        name: torch.stack([torch.from_numpy(one.personal[name]) for one in begun]).to(p.device)
        if name in own
        else p.clone()
        for name, p in trained.items()
    }
    fixed = {
        name: value.clone() for name, value in model.state_dict().items() if name not in trained
    }
    shifts = [one.job.algorithm.shift() for one in begun]
    shift = {name: torch.stack([part[name] for part in shifts]) for name in shifts[0]}
    return Terms(
        start,
        fixed,
        frozenset(own),
        first.algorithm.proximal,
        shift,
        frozenset(first.algorithm.parameters),
    )


def _is_shared_work(job: TrainingJob) -> bool:
    """Whether the local work is ordinary steps of an optimiser, on inputs that are in memory."""
    if job.private is not None and job.private.table.unit != "hospital":
        return False
    if not job.algorithm.at_once:
        return False
    # entries that differ between clients and aren't trained would need a model each
    trained = {name for name, p in job.received.model.named_parameters() if p.requires_grad}
    return all(name in trained for name in job.local) and _in_memory(job)


def _in_memory(job: TrainingJob) -> bool:
    """Whether the rows can be prepared, and are in memory. If they can't that is its answer's to
    say, or not to say."""
    try:
        examples = job.received.examples
        return "train" in examples and not examples["train"].stored
    except Exception:
        return False


def _sends_the_same(one: Message, other: Message) -> bool:
    """Whether two requests send the very same arrays (a strategy may send each its own)."""
    a, b = one.content.get(m.ARRAYS), other.content.get(m.ARRAYS)
    if not isinstance(a, ArrayRecord) or not isinstance(b, ArrayRecord):
        return False
    return a.keys() == b.keys() and all(a[name].data is b[name].data for name in a)


def _start(job: TrainingJob) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in job.algorithm.parameters.items()}


def _client(begun: _Begun) -> Client:
    job = begun.job
    return Client(begun.node_id, job.hospital, job.received.examples["train"])
