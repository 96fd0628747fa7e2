"""Many clients in one batched computation; whatever can't be batched runs one client at a time.

Which form of training is used depends on the model (``engines/``): the first that suits it. A
chunk of clients is trained at once, as many as a cache (on a GPU: its memory) holds; the size
depends on the model and the data alone, so that the same run gives the same bits.

A chunk that gives anything unsound (not a finite number, an exception) is trained again by the
reference, client by client, which says whose update it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from flwr.app import Message, RecordDict
from torch import Tensor, nn

from wardround.client.algorithms import ALGORITHMS
from wardround.client.app import reason_of
from wardround.client.state import ClientState
from wardround.common.flower.arrays import Arrays
from wardround.common.model.named import load_arrays
from wardround.common.protocol import names as m
from wardround.simulations.executors.base import Host, is_group
from wardround.simulations.executors.engines.base import CohortResult
from wardround.simulations.executors.group import (
    EvaluationSums,
    Group,
    TrainingSums,
    evaluate_together,
    failed_with,
    train_each,
    weights_of,
)
from wardround.simulations.executors.jobs import train_messages
from wardround.simulations.executors.pool import Client
from wardround.simulations.executors.sequential import Sequential
from wardround.simulations.executors.trainer import CohortTrainer, Terms

_MOST_KNOWN = 1 << 17


class Cohort(Sequential):
    """Trains chunks of clients at once."""

    name = "cohort"

    def __init__(self) -> None:
        self._trainers: dict[int, CohortTrainer] = {}
        self._known: dict[int, Client] = {}
        self._digest = ""

    def notes(self) -> list[str]:
        return [note for trainer in self._trainers.values() for note in trainer.notes]

    @property
    def form(self) -> str:
        """The name of the form in use, or 'sequential'."""
        return next((x.form for x in self._trainers.values()), "sequential")

    def answers(self, messages: Iterable[Message], host: Host) -> Iterator[Message]:
        waiting: list[Message] = []
        for message in messages:
            if message.metadata.message_type == m.TRAIN and not is_group(message):
                waiting.append(message)
                continue
            yield from train_messages(waiting, host, self.trainer)
            waiting = []
            yield from super().answers([message], host)
        yield from train_messages(waiting, host, self.trainer)

    def trainer(self, model: nn.Module, host: Host, node_id: int) -> CohortTrainer:
        """The trainer of this model, made when it is first needed."""
        trainer = self._trainers.get(id(model))
        if trainer is None or trainer.model is not model:
            hospital = host.hospital(node_id)
            trainer = CohortTrainer(model, hospital.task, hospital.config, host.keep)
            self._trainers = {id(model): trainer}  # one federation, one model at a time
        return trainer

    def train(
        self, group: Group, node_ids: list[int], model: nn.Module, x: Arrays, sums: TrainingSums
    ) -> None:
        clients = self._clients(group, node_ids, sums.refused)
        if not clients:
            return
        trainer = self.trainer(model, group.host, clients[0].node_id)
        load_arrays(model, x)
        terms = group_terms(group, model)
        scale = ALGORITHMS[group.training.algorithm].scale
        for chunk in trainer.chunks(clients, corrected=bool(terms.proximal)):
            trained = trainer.train(chunk, group.server_round, terms)
            if trained is None:
                train_each(group, [client.node_id for client in chunk], model, x, sums)
                load_arrays(model, x)
                continue
            result, order = trained
            _fold(group, [chunk[index] for index in order], trainer, result, scale, x, sums)

    def evaluate(self, group: Group, model: nn.Module) -> EvaluationSums:
        return evaluate_together(group, model)

    def _clients(self, group: Group, node_ids: list[int], refused: dict[int, str]) -> list[Client]:
        """The clients with their examples; why others have none goes to ``refused``."""
        most = _MOST_KNOWN if group.host.keep is None else group.host.keep
        if self._digest != group.digest or len(self._known) > most:
            self._digest, self._known = group.digest, {}
        clients = []
        for node_id in node_ids:
            client = self._known.get(node_id)
            if client is None:
                try:
                    hospital = group.host.hospital(node_id)
                    client = Client(node_id, hospital, group.examples(node_id)["train"])
                except Exception as error:
                    refused[node_id] = failed_with(reason_of(error))
                    continue
                self._known[node_id] = client
            clients.append(client)
        return clients


def _fold(
    group: Group,
    clients: list[Client],
    trainer: CohortTrainer,
    result: CohortResult,
    scale: Callable[[Any], Any],
    x: Arrays,
    sums: TrainingSums,
) -> None:
    """Add what a chunk's clients have learnt to the group's sums."""
    weights = weights_of(group, [client.rows for client in clients])
    steps = trainer.steps(np.array([client.size for client in clients]))
    change = result.weighted_change(torch.from_numpy((weights * scale(steps)).astype(np.float32)))
    total = float(weights.sum())
    added = {name: value * np.float64(total) for name, value in x.items()}
    for name, value in change.items():
        added[name] = added[name] + value.cpu().numpy()
    losses = result.losses.double().cpu().numpy()
    nodes = [client.node_id for client in clients]
    sums.add_sums(nodes, added, total, float(losses @ weights), float(steps @ weights))


def group_terms(group: Group, model: nn.Module) -> Terms:
    """What the group's strategy adds to local training, from the request."""
    parameters = {key: p for key, p in model.named_parameters() if p.requires_grad}
    kind = ALGORITHMS[group.training.algorithm]
    start = {name: p.detach().clone() for name, p in parameters.items()}
    algorithm = kind(dict(parameters), group.training, ClientState(RecordDict()), start)
    fixed: dict[str, Tensor] = {
        name: value.clone() for name, value in model.state_dict().items() if name not in start
    }
    return Terms(start, fixed, frozenset(), algorithm.proximal, None, frozenset(start))
