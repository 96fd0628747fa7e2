"""What a group is asked, done for many clients at once.

A chunk that gives anything unsound (not a finite number, an exception) is trained again by the
reference, client by client, which says whose update it was; so are clients evaluated.

Shapes: C clients of a chunk.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wardround.client.training.evaluation import ROWS_AT_A_TIME, model_outputs
from wardround.common.bfloat16 import BFLOAT16
from wardround.common.errors import ReplyRefused, reason_of
from wardround.common.settings import TrainingTable
from wardround.common.tasks.base import Examples, concatenate
from wardround.common.tasks.inputs import Inputs
from wardround.simulations.executors.changes import Changes
from wardround.simulations.executors.engines.base import CohortResult
from wardround.simulations.executors.example_pool import Client
from wardround.simulations.executors.group import Group
from wardround.simulations.executors.group_privacy import GroupPrivacy
from wardround.simulations.executors.one_by_one import evaluate_each, train_each
from wardround.simulations.executors.private_steps import PrivateStepsAtOnce
from wardround.simulations.executors.sums import (
    EvaluationSums,
    GroupSums,
    Refused,
    TrainingSums,
    failed_with,
)
from wardround.simulations.executors.trainer import Terms, Trained, Trainers

log = logging.getLogger("wardround.simulations")

_MOST_KNOWN = 1 << 17
_HELD_OUT = ("validation", "test")


class KnownClients:
    """The clients of groups with their examples, kept while the preparation is the same."""

    def __init__(self) -> None:
        self._known: dict[int, Client] = {}
        self._digest = ""

    def of(self, group: Group, node_ids: list[int], refused: Refused) -> list[Client]:
        """These clients; why others have no examples goes to ``refused``."""
        most = _MOST_KNOWN if group.clients.keep is None else group.clients.keep
        if self._digest != group.digest or len(self._known) > most:
            self._digest, self._known = group.digest, {}
        found = []
        for node_id in node_ids:
            client = self._known.get(node_id)
            if client is None:
                try:
                    hospital = group.clients.hospital(node_id)
                    client = Client(node_id, hospital, group.examples(node_id)["train"])
                except Exception as error:
                    refused[node_id] = failed_with(reason_of(error))
                    continue
                self._known[node_id] = client
            found.append(client)
        return found


class TrainingAtOnce:
    """Trains a group's clients in chunks."""

    def __init__(self, trainers: Trainers) -> None:
        self._trainers, self._known = trainers, KnownClients()
        self._private = PrivateStepsAtOnce()

    def train(self, group: Group, node_ids: list[int], sums: GroupSums) -> None:
        """Train these clients and fold their updates into ``sums``."""
        clients = self._known.of(group, node_ids, sums.refused)
        if not clients:
            return
        trainer = self._trainers.of(group.model, group.clients, clients[0].node_id)
        if any(client.examples.stored for client in clients):  # not to be pooled in memory
            trainer.note("clients train one at a time: their inputs lie on the disk (task.store)")
            train_each(group, [client.node_id for client in clients], sums)
            return
        if any(value.dtype == BFLOAT16 for value in group.arrays.values()):
            trainer.note("clients train one at a time: the model has numbers of bfloat16")
            train_each(group, [client.node_id for client in clients], sums)
            return
        group.load()
        terms = group_terms(group)
        if group.private is not None and not group.private.clips_alone:
            self._train_privately(group, clients, sums, terms.proximal)
            return
        if sums.in_order:
            chunks = trainer.chunks_in_order(clients)
        else:
            chunks = trainer.chunks(clients, corrected=bool(terms.proximal))
        for chunk in chunks:
            trained = trainer.train(chunk, group.server_round, terms)
            if trained is None or not _added(group, chunk, trained, sums):
                train_each(group, [client.node_id for client in chunk], sums)
                group.load()

    def _train_privately(
        self, group: Group, clients: list[Client], sums: GroupSums, proximal: float
    ) -> None:
        """Clients that add noise themselves."""
        assert group.private is not None
        if not group.private.stepwise:
            train_each(group, [client.node_id for client in clients], sums)
            return
        trainer = self._trainers.of(group.model, group.clients, clients[0].node_id)
        for chunk in self._private.chunks(group, clients):
            trained = self._private.train(group, chunk, trainer, proximal)
            if trained is None or not _added(group, chunk, trained, sums):
                train_each(group, [client.node_id for client in chunk], sums)


def _added(group: Group, chunk: list[Client], trained: Trained, sums: GroupSums) -> bool:
    """Add what a chunk's clients have learnt; False, and nothing is added, where one of them must
    be refused: client by client it shows which."""
    clients = [chunk[index] for index in trained.order]
    nodes, rows = [x.node_id for x in clients], [x.rows for x in clients]
    changes = Changes(nodes, rows, trained.steps, trained.result, group.arrays, group.kind)
    private = group.private
    if private is not None and private.of_hospitals and isinstance(sums, TrainingSums):
        changes.clip(_clipped(private, clients, trained.result, sums))
    try:
        sums.add_changes(changes)
    except ReplyRefused:
        return False
    return True


def _clipped(
    private: GroupPrivacy, clients: list[Client], result: CohortResult, sums: TrainingSums
) -> NDArray[np.float64]:
    """What each client's change is multiplied by, that its norm be within C."""
    bound = private.round_of(clients[0].node_id).bound()
    norms = result.norms().cpu().numpy()
    within = norms <= bound.norm
    if bound.quantile_scale:
        half = float(np.float32(0.5 * bound.quantile_scale))  # as a client's reply has it
        sums.add_quantile(half * float(2 * within.sum() - len(within)))
    return np.where(within, 1.0, bound.norm / np.maximum(norms, bound.norm))


def group_terms(group: Group) -> Terms:
    """What the group's strategy adds to local training, and x, which the model holds."""
    model = group.model
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    entries = model.state_dict()
    start = {name: entries[name].detach().clone() for name in trained}
    fixed = {name: value.clone() for name, value in entries.items() if name not in start}
    proximal = group.algorithm(start).proximal
    return Terms(start, fixed, proximal=proximal, shared=frozenset(start))


def evaluate_together(group: Group) -> EvaluationSums:
    """Metric sums with the inputs of many clients in one forward pass: equal to the reference's up
    to rounding. Where anything fails, the reference says whose fault it is."""
    try:
        return _evaluate_blocks(group)
    except Exception as error:
        log.debug("clients are evaluated one by one: %s", reason_of(error))
        return evaluate_each(group)


def _evaluate_blocks(group: Group) -> EvaluationSums:
    found, training = EvaluationSums(), TrainingTable()
    waiting: dict[str, list[tuple[int, Examples]]] = {split: [] for split in _HELD_OUT}
    for node_id in group.node_ids:
        if node_id in group.failed:
            found.refused[node_id] = group.failed[node_id]
            continue
        try:
            examples, hospital = group.examples(node_id), group.clients.hospital(node_id)
        except Exception as error:
            found.refused[node_id] = failed_with(reason_of(error))
            continue
        task, training = hospital.task, hospital.config.training
        for split in waiting:
            if split in examples:
                waiting[split].append((node_id, examples[split]))
    for split, clients in waiting.items():
        for block in _blocks(clients):
            outputs = model_outputs(group.model, concatenate([x for _, x in block]), training)
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


def _are_alike(one: Inputs, other: Inputs) -> bool:
    alike = one.dtype == other.dtype and one.shape[1:] == other.shape[1:]
    return alike and isinstance(one, Tensor) and isinstance(other, Tensor)
