"""Hospitals' own models (Ditto's), trained many at a time.

As ``client/requests/own_pass.py`` trains one: from each hospital's own start, with its own pull."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wardround.client.requests.job import TrainingJob
from wardround.client.requests.own_pass import pulled
from wardround.common.flower.arrays import Arrays, encoded_view
from wardround.simulations.executors.example_pool import Client
from wardround.simulations.executors.trainer import CohortTrainer, Terms


def train_own_models(
    jobs: Sequence[TrainingJob], chunk: Sequence[Client], trainer: CohortTrainer
) -> list[Arrays] | None:
    """Each job's own model after the round, in their order; None where each must be trained by
    itself: nothing is pulled, the model has buffers, or no form suits.

    chunk : the jobs' clients, in their order
    """
    first, found = jobs[0], [pulled(job.hospital, job.received, job.algorithm) for job in jobs]
    own = [one for one in found if one is not None]
    names = list(first.algorithm.parameters)
    if len(own) < len(jobs) or set(names) != set(first.received.arrays):
        return None
    state = first.received.model.state_dict()
    device = next(iter(state.values())).device
    start = {
        name: torch.stack([torch.from_numpy(one.start[name].copy()) for one in own]).to(device)
        for name in names
    }
    shift = {
        name: own[0].weight * (value - torch.from_numpy(own[0].towards[name].copy()).to(device))
        for name, value in start.items()
    }
    terms = Terms(
        start,
        {name: value.clone() for name, value in state.items() if name not in start},
        frozenset(names),
        own[0].weight,
        shift if own[0].weight else {},
        frozenset(names),
    )
    trained = trainer.train(chunk, first.algorithm.server_round, terms)
    if trained is None:
        return None
    places = {position: index for index, position in enumerate(trained.order)}
    models = []
    for position in range(len(jobs)):
        values = trained.result.client(places[position])
        models.append({name: encoded_view(values[name].cpu().numpy()) for name in names})
    return models
