"""Clients of a group whose steps are private by example, trained many at a time.

Where the form for dense stacks doesn't suit, or anything in a chunk is unsound, clients are left to
the reference, which says whose fault it is. Before a model is trained so, the reference looks at it
once: whether it bounds each example's gradient, and whether this form gives the same sum.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wardround.client.gradients import Clipping
from wardround.client.gradients.company import AGREES
from wardround.client.privacy.steps import ClippedGradients
from wardround.client.training.teaching import loss_of
from wardround.common.errors import reason_of
from wardround.common.privacy.schedule import Bound
from wardround.common.rng import derive_seed
from wardround.common.text import one_line
from wardround.simulations.executors.engines.base import StackedResult, Unsuited
from wardround.simulations.executors.engines.dense import dense_layers
from wardround.simulations.executors.engines.dropout import Masks, with_given_masks
from wardround.simulations.executors.engines.private import PrivateDense, PrivateWork, single_rows
from wardround.simulations.executors.example_pool import Client
from wardround.simulations.executors.group import Group
from wardround.simulations.executors.trainer import CohortTrainer, Trained

_ROOM_BYTES = 64 << 20
_NUMBER_BYTES = 64
"""Of each parameter of a client: weights, moments, sums, noise and released values."""
_MOST_CLIENTS = 1024


class PrivateStepsAtOnce:
    """Trains chunks of one model's clients."""

    def __init__(self) -> None:
        self._model: nn.Module | None = None
        self._form: PrivateDense | None = None

    def chunks(self, group: Group, clients: list[Client]) -> list[list[Client]]:
        """The clients, those with most steps first, in chunks to be trained at once."""
        assert group.private is not None
        rounds = {one.node_id: group.private.round_of(one.node_id) for one in clients}
        ordered = sorted(clients, key=lambda one: -rounds[one.node_id].schedule.steps)
        parameters = sum(p.numel() for p in group.model.parameters() if p.requires_grad)
        most = max(1, min(_MOST_CLIENTS, _ROOM_BYTES // (_NUMBER_BYTES * parameters)))
        return [ordered[start : start + most] for start in range(0, len(ordered), most)]

    def train(
        self, group: Group, chunk: list[Client], trainer: CohortTrainer, proximal: float
    ) -> Trained | None:
        """Train a chunk of ``chunks``; None where each must be trained by itself."""
        assert group.private is not None
        if trainer.form != "dense" or torch.device(trainer.device).type != "cpu":
            return None
        try:
            result, steps = self._train(group, chunk, trainer, proximal)
        except Unsuited as error:
            trainer.note(f"private steps one client at a time: {error}")
            return None
        except Exception as error:  # the reference will say whose fault it is
            trainer.note(f"private steps one client at a time: {one_line(reason_of(error), 120)}")
            return None
        if not result.is_sound():
            return None
        return Trained(result, list(range(len(chunk))), steps)

    def _train(
        self, group: Group, chunk: list[Client], trainer: CohortTrainer, proximal: float
    ) -> tuple[StackedResult, NDArray[np.int64]]:
        assert group.private is not None
        config = chunk[0].hospital.config
        rounds = [group.private.round_of(one.node_id) for one in chunk]
        rows = []
        placed = trainer.placed(chunk)
        for one, offset in zip(chunk, placed.offsets, strict=True):
            own = single_rows(one.hospital.units())
            if own is None:
                raise Unsuited("a patient has several rows")
            rows.append(own + offset)
        group.load()
        start = {name: p.detach().clone() for name, p in group.model.named_parameters()}
        table, seed = config.privacy, config.federation.seed
        bound = Bound(table.clipping_norm)
        work = PrivateWork(
            rounds,
            rows,
            placed.inputs,
            placed.targets,
            start,
            config.training,
            config.lr_of(group.server_round),
            Clipping(bound.norm, table.clipping == "per_layer"),
            bound.sensitivity,
            proximal,
            [derive_seed(seed, "training", group.server_round, one.hospital.name) for one in chunk],
        )
        form = self._of(group, chunk[0], work)
        return form.train(work), np.array([one.schedule.steps for one in rounds])

    def _of(self, group: Group, client: Client, work: PrivateWork) -> PrivateDense:
        """The form for the group's model, held against the reference once."""
        if self._model is not group.model or self._form is None:
            model = with_given_masks(group.model)
            masks = Masks(model, work.inputs[:1])
            form = PrivateDense(dense_layers(model), client.hospital.task, masks)
            _hold(form, group, client, work)
            self._model, self._form = group.model, form
        return self._form


def _hold(form: PrivateDense, group: Group, client: Client, work: PrivateWork) -> None:
    """Raise Unsuited unless the reference bounds this model's gradients and gives the same sum of
    some examples; without dropout, whose draws aren't the point."""
    hospital = client.hospital
    config, model = hospital.config, copy.deepcopy(group.model)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    model.train()
    examples = group.training_examples(client.node_id)
    some = np.arange(min(8, len(work.rows[0])), dtype=np.int64)
    if not len(some):
        raise Unsuited("there is no row to try it on")
    with torch.random.fork_rng():
        loss = loss_of(hospital.task, config.teacher)
        reference = ClippedGradients(
            model, loss, examples, hospital.units(), config.privacy, config.training
        )
        bound = Bound(config.privacy.clipping_norm)
        wanted = reference.total(some, bound)
    found = form.without_dropout().sums(
        work, {name: value[None] for name, value in work.start.items()}, [some], []
    )[0]
    if not np.linalg.norm(found - wanted) <= AGREES * bound.norm * len(some):
        raise Unsuited("the model or its loss mixes the examples of a batch")
