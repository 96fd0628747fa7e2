"""Local steps without privacy: which models and layers of a hospital move, and in which order.

| strategy | local work |
|---|---|
| fedrep | steps of the personal layers, then of the shared ones |
| moon | steps on a loss with a term of the last local model's representations |
| apfl | steps of the shared model, and by the same batches of the hospital's own |
| all others | steps of all that is trained, with what the strategy adds to gradients |
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from wardround.client.algorithms import LocalAlgorithm
from wardround.client.algorithms.apfl import Apfl
from wardround.client.algorithms.base import to_arrays, to_tensors
from wardround.client.algorithms.fedrep import FedRep
from wardround.client.algorithms.moon import Moon
from wardround.client.data.hospital import Hospital
from wardround.client.requests.kept import PERSONAL
from wardround.client.training.contrast import Contrast
from wardround.client.training.mixture import Mixture
from wardround.client.training.steps import (
    Seed,
    TrainingOutcome,
    gradients_of,
    train_on_batches,
)
from wardround.common.errors import TaskError
from wardround.common.model.named import load_arrays, model_arrays
from wardround.common.settings.personal import ApflOptions, FedRepOptions, MoonOptions
from wardround.common.tasks.base import Examples


def ordinary(
    hospital: Hospital,
    model: nn.Module,
    examples: Examples,
    algorithm: LocalAlgorithm,
    seed: Seed,
) -> TrainingOutcome:
    """The local steps of a round, in place; a hospital's own, by ``training.processes`` processes.

    Raises TaskError for what the strategy or several processes can't do with such settings.
    """
    config, task, name = hospital.config, hospital.task, hospital.config.strategy.name
    alone = hospital.simulated or config.training.processes == 1
    if not alone and not algorithm.at_once:
        raise TaskError(
            f"training.processes = {config.training.processes}: the local steps of strategy "
            f"'{name}' aren't one model's alone; set it to 1"
        )
    settings = config.strategy.settings
    if isinstance(algorithm, FedRep) and isinstance(settings, FedRepOptions):
        return _head_first(hospital, model, examples, algorithm, seed, settings.head_epochs)
    if isinstance(algorithm, Moon) and isinstance(settings, MoonOptions):
        return _contrasted(hospital, model, examples, algorithm, seed, settings)
    if isinstance(algorithm, Apfl) and isinstance(settings, ApflOptions):
        return _mixed(hospital, model, examples, algorithm, seed, settings)
    if alone:
        return train_on_batches(model, examples, task, config, seed, algorithm)
    if hospital.processes is None:
        raise TaskError(
            f"training.processes = {config.training.processes}: each process makes the task from "
            "the configuration, and this one was given as an object; set it to 1 (or, if [task] "
            "names it, give the Hospital its TrainingProcesses)"
        )
    return hospital.processes.train(model, task, examples, hospital.totals, algorithm, seed)


def _head_first(
    hospital: Hospital,
    model: nn.Module,
    examples: Examples,
    algorithm: FedRep,
    seed: Seed,
    head_epochs: int,
) -> TrainingOutcome:
    """FedRep: the personal layers for so many epochs, then the shared ones as configured."""
    config, task = hospital.config, hospital.task
    shared = set(algorithm.parameters)
    own = {k for k, p in model.named_parameters() if p.requires_grad} - shared
    epochs = {"local_epochs": head_epochs, "local_steps": None}
    first = config.model_copy(update={"training": config.training.model_copy(update=epochs)})
    if own:
        local = algorithm.request.model.local_keys
        with _only(model, own), _unmoved([b for k, b in model.named_buffers() if k not in local]):
            train_on_batches(model, examples, task, first, seed, algorithm)
    with _only(model, shared):
        return train_on_batches(model, examples, task, config, seed, algorithm)


@contextmanager
def _only(model: nn.Module, names: set[str]) -> Iterator[None]:
    """Within, only these parameters are trained."""
    others = [p for k, p in model.named_parameters() if p.requires_grad and k not in names]
    for p in others:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in others:
            p.requires_grad_(True)


@contextmanager
def _unmoved(buffers: list[Tensor]) -> Iterator[None]:
    """Afterwards these are as they were: the shared layers don't learn while the head does."""
    before = [value.detach().clone() for value in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for value, was in zip(buffers, before, strict=True):
                value.copy_(was)


def _contrasted(
    hospital: Hospital,
    model: nn.Module,
    examples: Examples,
    algorithm: Moon,
    seed: Seed,
    settings: MoonOptions,
) -> TrainingOutcome:
    """MOON. Without a last local model it would be the received one: a term without a gradient."""
    config, last = hospital.config, algorithm.last_sent()
    if config.training.compile:
        raise TaskError(
            "training.compile: strategy 'moon' looks at the last layer's input, which a compiled "
            "model hides; set it to false"
        )
    if last is None or not settings.contrast:
        return train_on_batches(model, examples, hospital.task, config, seed, algorithm)
    with Contrast(model, last, settings.contrast, settings.temperature) as contrast:
        return train_on_batches(model, examples, hospital.task, config, seed, algorithm, contrast)


def _mixed(
    hospital: Hospital,
    model: nn.Module,
    examples: Examples,
    algorithm: Apfl,
    seed: Seed,
    settings: ApflOptions,
) -> TrainingOutcome:
    """APFL. The mixed model has running statistics of its own."""
    config, task = hospital.config, hospital.task
    if config.training.precision == "fp16":
        raise TaskError(
            "training.precision: strategy 'apfl' takes two models' steps in one, whose losses "
            "aren't scaled together; set it to 'bf16' or 'float32'"
        )
    own, share = algorithm.own() or (None, settings.mixing)
    mixture = Mixture(
        model,
        lambda mixed: gradients_of(mixed, examples, task, config, seed),
        config.training,
        config.lr_of(algorithm.server_round),
        own=to_tensors(own) if own else None,
        share=share,
        adaptive=settings.adaptive,
    )
    if kept := algorithm.state.load(PERSONAL, algorithm.state_round):
        buffers = {name for name, _ in model.named_buffers()}
        load_arrays(mixture.mixed, {k: v for k, v in kept.items() if k in buffers})
    outcome = train_on_batches(model, examples, task, config, seed, mixture)
    mixture.mix()
    with torch.no_grad():
        algorithm.keep(to_arrays(dict(mixture.own)), mixture.share, model_arrays(mixture.mixed))
    return outcome
