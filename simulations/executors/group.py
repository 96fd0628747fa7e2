"""A message for a group of clients: what it asks, and the sums that answer it.

In a simulation the server may ask many clients by one message, because one process runs them all:
the reply then holds the weighted sum of their models and never a single one. The arithmetic is the
server's own (``server/strategies/aggregation.py``), client after client in the order of their
names, so that a sequential executor gives the bits that single messages give.

Only what needs nothing of a single client goes so: ``server/gathering/cohorts.py`` decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from flwr.app import Message, RecordDict
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.client.algorithms import ALGORITHMS
from wardround.client.app import reason_of
from wardround.client.requests.received import shared_arrays, totals_of
from wardround.client.state import ClientState
from wardround.client.training.evaluation import ROWS_AT_A_TIME, evaluate_model, model_outputs
from wardround.client.training.steps import train_on_batches
from wardround.common.errors import ReplyRefused
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Arrays, check_finite
from wardround.common.flower.hosting import error_reply
from wardround.common.model.named import load_arrays
from wardround.common.protocol import names as m
from wardround.common.protocol.cohort import CohortEvaluateReply, CohortTrainReply, StackedSums
from wardround.common.protocol.errors import failed
from wardround.common.protocol.evaluate import EvaluateRequest
from wardround.common.protocol.train import TrainRequest
from wardround.common.tables import TrainingTable
from wardround.common.tasks.base import Examples, concatenate
from wardround.common.text import one_line
from wardround.server.strategies.aggregation import RunningMean
from wardround.simulations.executors.base import Host


class Group:
    """The clients that one message asks, and what it sends them."""

    def __init__(self, message: Message, host: Host) -> None:
        self.message, self.host = message, host
        self.request: TrainRequest | EvaluateRequest = (
            EvaluateRequest.from_records(message.content)
            if message.metadata.message_type == m.EVALUATE
            else TrainRequest.from_records(message.content)
        )
        self.node_ids = list(self.request.model.clients)
        self.server_round = self.request.model.server_round
        self.totals, self.digest = totals_of(self.request.totals)

    @property
    def training(self) -> TrainRequest:
        """The request, where it is one for training."""
        assert isinstance(self.request, TrainRequest)  # its executor asks by the message's type
        return self.request

    @cached_property
    def failed(self) -> dict[int, str]:
        """Clients that don't answer, and why."""
        names = [self.host.name(x) for x in self.node_ids]
        reasons = self.host.failures(self.message, self.server_round, names)
        return {
            node: failed_with(reasons[name])
            for node, name in zip(self.node_ids, names, strict=True)
            if name in reasons
        }

    def examples(self, node_id: int) -> dict[str, Examples]:
        """The client's prepared examples by split."""
        return self.host.hospital(node_id).examples(self.totals, self.digest)

    def model(self) -> tuple[nn.Module, Arrays]:
        """The model that every client of the group uses, and the arrays it was sent."""
        hospital = self.host.hospital(self.node_ids[0])
        model, initial = self.host.models.get(hospital, self.totals, self.digest)
        return model, shared_arrays(self.request.model, initial)


@dataclass
class TrainingSums:
    """The answer to a training message, as it grows.

    mean : weighted sums of the clients' arrays
    refused : why clients' updates are not in it, by node
    """

    mean: RunningMean
    accepted: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    loss: float = 0.0
    steps: float = 0.0

    def add_client(
        self, node_id: int, arrays: Arrays, weight: float, loss: float, steps: int
    ) -> None:
        """Fold one client's arrays in, as the server would. Raises ReplyRefused for bad ones."""
        if not math.isfinite(loss):
            raise ReplyRefused(f"{m.TRAIN_LOSS} is not a finite number; lower training.lr?")
        for name, value in arrays.items():
            check_finite(name, value)
        self.mean.add(arrays, weight)
        self._count([node_id], loss * weight, steps * weight)

    def add_sums(
        self, node_ids: Sequence[int], sums: Arrays, weight: float, loss: float, steps: float
    ) -> None:
        """Fold in what others have added already; loss and steps are weighted sums too."""
        self.mean.add_sums(sums, weight, len(node_ids))
        self._count(node_ids, loss, steps)

    def _count(self, node_ids: Sequence[int], loss: float, steps: float) -> None:
        self.accepted += node_ids
        self.loss += loss
        self.steps += steps

    def reply(self, group: Group) -> Message:
        """The reply to the group's message."""
        reply = CohortTrainReply(
            tuple(self.accepted),
            self.refused,
            self.mean.weight,
            self.loss,
            self.steps,
            self.mean.sums(),
        )
        return Message(reply.to_records(), reply_to=group.message)


def weights_of(group: Group, rows: Sequence[int]) -> NDArray[np.float64]:
    """What each client's update counts for, by how many rows it trains on."""
    counts = np.array(rows, dtype=np.float64)
    return counts if group.training.weighting == "examples" else np.ones(len(counts))


def train_each(
    group: Group, node_ids: Sequence[int], model: nn.Module, x: Arrays, sums: TrainingSums
) -> None:
    """The reference: train these clients one after the other and fold them in.

    model : whose trainable parameters are moved; x : its arrays, as sent
    """
    name = group.training.algorithm
    parameters = {key: p for key, p in model.named_parameters() if p.requires_grad}
    state = ClientState(RecordDict())  # of an algorithm that keeps none
    entries = model.state_dict()
    for node_id in node_ids:
        hospital = group.host.hospital(node_id)
        try:
            part = group.examples(node_id)["train"]
            load_arrays(model, x)
            algorithm = ALGORITHMS[name](dict(parameters), group.training, state)
            config = hospital.config
            seed = (config.federation.seed, group.server_round, hospital.name)
            done = train_on_batches(model, part, hospital.task, config, seed, algorithm)
            arrays = {key: entries[key].detach().cpu().numpy() for key in x}
            algorithm.finish(arrays, done.steps, done.lr)
            (weight,) = weights_of(group, [hospital.sizes()["train"]])
        except Exception as error:
            sums.refused[node_id] = failed_with(reason_of(error))
            continue
        try:
            sums.add_client(node_id, arrays, float(weight), done.loss, done.steps)
        except ReplyRefused as error:
            sums.refused[node_id] = one_line(str(error))


def evaluate_each(group: Group, model: nn.Module) -> EvaluationSums:
    """The reference: metric sums of each client, one after the other."""
    found = EvaluationSums()
    for node_id in group.node_ids:
        if node_id in group.failed:
            found.refused[node_id] = group.failed[node_id]
            continue
        hospital = group.host.hospital(node_id)
        try:
            examples = group.examples(node_id)
            sums = {
                split: evaluate_model(
                    model, examples[split], hospital.task, hospital.config.training
                )
                for split in ("validation", "test")
                if split in examples
            }
            for split, part in sums.items():
                found.add(split, node_id, part)
        except Exception as error:
            found.refused[node_id] = failed_with(reason_of(error))
    return found


def evaluate_together(group: Group, model: nn.Module) -> EvaluationSums:
    """The same with the inputs of many clients in one forward pass: equal up to rounding.

    Where anything fails, the reference says whose fault it is.
    """
    try:
        return _evaluate_blocks(group, model)
    except Exception:
        return evaluate_each(group, model)


def _evaluate_blocks(group: Group, model: nn.Module) -> EvaluationSums:
    found, training = EvaluationSums(), TrainingTable()
    waiting: dict[str, list[tuple[int, Examples]]] = {"validation": [], "test": []}
    for node_id in group.node_ids:
        if node_id in group.failed:
            found.refused[node_id] = group.failed[node_id]
            continue
        try:
            examples, hospital = group.examples(node_id), group.host.hospital(node_id)
        except Exception as error:
            found.refused[node_id] = failed_with(reason_of(error))
            continue
        task, training = hospital.task, hospital.config.training
        for split in waiting:
            if split in examples:
                waiting[split].append((node_id, examples[split]))
    for split, clients in waiting.items():
        for block in _blocks(clients):
            outputs = model_outputs(model, concatenate([x for _, x in block]), training)
            parts = torch.split(outputs, [len(x) for _, x in block])
            for (node_id, examples_of_one), part in zip(block, parts, strict=True):
                found.add(split, node_id, task.metrics(part, examples_of_one.targets))
    return found


def _blocks(clients: list[tuple[int, Examples]]) -> Iterator[list[tuple[int, Examples]]]:
    """The clients in their order, so many at a time that their rows fit into one pass; those of a
    block have inputs of one type and shape."""
    block: list[tuple[int, Examples]] = []
    rows = 0
    for client in clients:
        full = rows + len(client[1]) > ROWS_AT_A_TIME
        if block and (full or not _are_alike(block[0][1].inputs, client[1].inputs)):
            yield block
            block, rows = [], 0
        block.append(client)
        rows += len(client[1])
    if block:
        yield block


def _are_alike(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape[1:] == other.shape[1:]


def failed_with(reason: str) -> str:
    """The line of a client that failed, as the server words it."""
    return failed(one_line(reason))


class EvaluationSums:
    """Metric sums by client and split; clients whose sums have equal names and shapes together."""

    def __init__(self) -> None:
        self.refused: dict[int, str] = {}
        self._alike: dict[tuple[object, ...], tuple[str, list[int], list[Sums]]] = {}

    def add(self, split: str, node_id: int, sums: Sums) -> None:
        """One client's sums of one split."""
        key = (split, *((name, value.shape) for name, value in sums.items()))
        _, nodes, parts = self._alike.setdefault(key, (split, [], []))
        nodes.append(node_id)
        parts.append(sums)

    def reply(self, group: Group) -> Message:
        """The reply: sums stacked over the clients that have them alike."""
        stacked = (
            StackedSums(
                split,
                tuple(nodes),
                {name: np.stack([part[name] for part in parts]) for name in parts[0]},
            )
            for split, nodes, parts in self._alike.values()
        )
        reply = CohortEvaluateReply(tuple(stacked), self.refused)
        return Message(reply.to_records(), reply_to=group.message)


def refusing(group_message: Message, error: Exception) -> Message:
    """The reply where nobody of the group could be asked."""
    return error_reply(group_message, one_line(reason_of(error)))
