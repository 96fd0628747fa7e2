"""What a hospital does with a training request: an update, whatever is asked of its privacy.

| ``[privacy]``                        | local work           | what the update is             |
|--------------------------------------|----------------------|--------------------------------|
| off                                  | K ordinary steps     | the trained model              |
| example or patient, noise local      | K steps of DP-SGD    | the trained model              |
| example or patient, noise from all   | one clipped gradient | -lr / b times it, to protect   |
| hospital                             | K ordinary steps     | its clipped change, to protect |
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wardround.client.algorithms import LocalAlgorithm
from wardround.client.data.hospital import Hospital, Units
from wardround.client.privacy.round import PrivateRound
from wardround.client.privacy.steps import ClippedGradients, PrivateSteps, Summing
from wardround.client.requests.ordinary import ordinary
from wardround.client.state import ClientState
from wardround.client.training.steps import (
    Seed,
    TrainingOutcome,
    train_model,
)
from wardround.client.training.teaching import loss_of
from wardround.common.flower.arrays import Arrays
from wardround.common.model.named import live_arrays, load_arrays, model_arrays
from wardround.common.model.torch_state import with_ordinary_torch
from wardround.common.privacy.schedule import Bound
from wardround.common.protocol.names import QUANTILE
from wardround.common.rng import seeded_globals
from wardround.common.tasks.base import Examples

_NORM = "clipping-norm"


@dataclass
class LocalUpdate:
    """What local work gave.

    arrays : the whole model after training (or as received, where ``protect`` is given)
    protect : changes of the shared parameters that still need protection; clipped
    sensitivity : of ``protect``, L2
    """

    arrays: Arrays
    outcome: TrainingOutcome
    protect: Arrays | None = None
    sensitivity: float = 0.0


@with_ordinary_torch
def local_update(
    hospital: Hospital,
    model: nn.Module,
    examples: Examples,
    received: Arrays,
    algorithm: LocalAlgorithm,
    private: PrivateRound | None,
) -> LocalUpdate:
    """Train ``model`` in place and say what is to leave.

    examples : as ``Hospital.training_examples`` gives them
    received : the shared arrays
    """
    seed = (hospital.config.federation.seed, algorithm.server_round, hospital.name)
    if private is None:
        outcome = ordinary(hospital, model, examples, algorithm, seed)
        return LocalUpdate(_arrays(hospital, model, algorithm), outcome)
    if private.table.summed:
        return _summed(hospital, model, examples, private, seed)
    if private.table.unit == "hospital":
        outcome = ordinary(hospital, model, examples, algorithm, seed)
        return updated(_arrays(hospital, model, algorithm), outcome, received, algorithm, private)
    outcome = _private_steps(hospital, model, examples, algorithm, private, seed)
    return LocalUpdate(_arrays(hospital, model, algorithm), outcome)


def _arrays(hospital: Hospital, model: nn.Module, algorithm: LocalAlgorithm) -> Arrays:
    """Of a model that has just been trained. It isn't moved again before they are written down,
    but by another simulated hospital, or for the hospital's own model."""
    moved = hospital.simulated or algorithm.has_own_model
    return model_arrays(model) if moved else live_arrays(model)


def noise_alone(
    hospital: Hospital,
    model: nn.Module,
    received: Arrays,
    algorithm: LocalAlgorithm,
    private: PrivateRound,
) -> LocalUpdate:
    """What a private round owes where nothing could be trained: an update of zeros, to which the
    noise comes that was paid for. It is what a hospital without a unit would give; no row is
    touched."""
    seed = (hospital.config.federation.seed, algorithm.server_round, hospital.name)
    parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    load_arrays(model, received)
    if not private.table.summed and private.table.unit != "hospital":
        silent = _Silent(parameters, private.table.clipping == "adaptive")
        outcome = _steps_on(silent, 0, hospital, model, algorithm, private, seed)
        return LocalUpdate(model_arrays(model), outcome)
    bound, lr = private.bound(), hospital.config.lr_of(algorithm.server_round)
    scale = lr / private.schedule.expected_units if private.table.summed else 1.0
    protect: Arrays = {name: np.zeros(received[name].shape) for name in algorithm.parameters}
    if bound.quantile_scale:
        protect[QUANTILE] = np.zeros(1)
    outcome = TrainingOutcome(1, lr, float("nan"))
    return LocalUpdate(model_arrays(model), outcome, protect, bound.sensitivity * scale)


class _Silent:
    """The sums of clipped gradients of no unit at all. As ``privacy.steps.Summing``."""

    def __init__(self, parameters: list[tuple[str, nn.Parameter]], quantile: bool) -> None:
        self.parameters = parameters
        self.dimension = sum(p.numel() for _, p in parameters) + quantile

    def total(self, chosen: NDArray[np.int64], bound: Bound) -> NDArray[np.float64]:
        return np.zeros(self.dimension)


def updated(
    arrays: Arrays,
    outcome: TrainingOutcome,
    received: Arrays,
    algorithm: LocalAlgorithm,
    private: PrivateRound | None,
) -> LocalUpdate:
    """What ordinary training gave, clipped if it is to be protected as a whole.

    arrays : the whole model after training; received : the shared arrays before
    """
    if private is None:
        return LocalUpdate(arrays, outcome)
    change = {key: arrays[key] - received[key] for key in algorithm.parameters}
    bound = private.bound()
    return LocalUpdate(arrays, outcome, private.clip_update(change, bound), bound.sensitivity)


def _private_steps(
    hospital: Hospital,
    model: nn.Module,
    examples: Examples,
    algorithm: LocalAlgorithm,
    private: PrivateRound,
    seed: Seed,
) -> TrainingOutcome:
    units = hospital.units()
    model.train()
    gradients = _clipped(hospital, model, examples, private, units)
    return _steps_on(gradients, len(units), hospital, model, algorithm, private, seed)


def _clipped(
    hospital: Hospital, model: nn.Module, examples: Examples, private: PrivateRound, units: Units
) -> ClippedGradients:
    """Of the loss that the settings ask for. A teacher's output is a function of a fixed model and
    of one row, so a unit's gradient is its own as ever."""
    config = hospital.config
    loss = loss_of(hospital.task, config.teacher)
    return ClippedGradients(model, loss, examples, units, private.table, config.training)


def _steps_on(
    gradients: Summing,
    units: int,
    hospital: Hospital,
    model: nn.Module,
    algorithm: LocalAlgorithm,
    private: PrivateRound,
    seed: Seed,
) -> TrainingOutcome:
    """K steps of DP-SGD on so many units, whose sums of clipped gradients are these."""
    table, state = private.table, algorithm.state
    model.train()
    norm = _remembered_norm(state, algorithm.state_round, table.clipping_norm)
    steps = PrivateSteps(gradients, units, private.schedule, table, norm, private.source)
    secret = _secret_seed(hospital, seed)
    # closed, so that the thread that draws noise ends with the round also where the round fails
    with _others_unmoved(model), closing(iter(steps)) as noised:
        outcome = train_model(model, noised, hospital.config, secret, algorithm)
    if table.clipping == "adaptive":
        kept = {_NORM: np.array([steps.norm])}
        state.save(_NORM, kept, algorithm.server_round, algorithm.state_round)
    return outcome


@contextmanager
def _others_unmoved(model: nn.Module) -> Iterator[None]:
    """Whatever isn't trained is afterwards as it was: buffers leave with the model, and no noise is
    on what a forward pass has put into them."""
    frozen = [p for p in model.parameters() if not p.requires_grad]
    before = [(value, value.detach().clone()) for value in [*frozen, *model.buffers()]]
    names = [(module, dict(module._buffers)) for module in model.modules() if module._buffers]
    try:
        yield
    finally:
        for module, buffers in names:  # one may have been set anew
            module._buffers.update(buffers)
        with torch.no_grad():
            for value, was in before:
                value.copy_(was)


def _secret_seed(hospital: Hospital, seed: Seed) -> Seed:
    """Of dropout and the like in private steps: nobody else may know them, as an example's draws
    depend on how many others are in its batch. In a simulation the run's, so that it repeats."""
    _, server_round, name = seed
    return seed if hospital.simulated else (secrets.randbits(63), server_round, name)


def _remembered_norm(state: ClientState, state_round: int, default: float) -> float:
    kept = state.load(_NORM, state_round)
    return float(kept[_NORM][0]) if kept else default


def _summed(
    hospital: Hospital,
    model: nn.Module,
    examples: Examples,
    private: PrivateRound,
    seed: Seed,
) -> LocalUpdate:
    """-lr / b times the sum of clipped gradients of the drawn units, b the expected number of
    them: the step that plain SGD would take, of which the server adds up all hospitals'. The model
    itself isn't moved."""
    run_seed, server_round, name = _secret_seed(hospital, seed)
    units, schedule, bound = hospital.units(), private.schedule, private.bound()
    lr = hospital.config.lr_of(server_round)
    scale = lr / schedule.expected_units
    model.train()
    gradients = _clipped(hospital, model, examples, private, units)
    with seeded_globals(run_seed, "training", server_round, name):
        chosen = private.source.poisson_sample(len(units), schedule.sampling_rate)
        total = gradients.total(chosen, bound) * scale
    protect: dict[str, Any] = {}
    start = 0
    for key, parameter in gradients.parameters:
        part = total[start : start + parameter.numel()]
        protect[key] = -part.reshape(tuple(parameter.shape))
        start += parameter.numel()
    if bound.quantile_scale:
        protect[QUANTILE] = total[start:]
    outcome = TrainingOutcome(1, lr, float("nan"))
    return LocalUpdate(model_arrays(model), outcome, protect, bound.sensitivity * scale)
