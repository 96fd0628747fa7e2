"""What ``[training]`` can't do with a task, or on this machine, said before anyone trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed

from wardround.client.training.devices import missing_device
from wardround.client.training.precision import check_precision
from wardround.common.config.load import Config
from wardround.common.procedures.finished import check_named
from wardround.common.tasks.base import Task


def check_training(config: Config, task: Task[Any], simulated: bool = False) -> None:
    """Raise ConfigError, by key and mend. What depends on the model is told when it trains.

    simulated : every client trains in one process, whatever ``training.processes``
    """
    check_precision(config)
    if config.training.processes > 1 and not simulated:
        _check_processes(config, task)
    check_named(config)
    training = config.training
    if config.teacher is not None:
        _check_teacher(config, task)
    if training.distillation and not task.class_scores:
        raise config.error(
            "training.distillation",
            "compares scores of classes, and this task's outputs are none; set it to 0 (a task of "
            "your own: class_scores = True, if they are)",
        )
    micro = training.micro_batch_size
    if micro is not None and micro < training.batch_size and task.coupled_examples:
        raise config.error(
            "training.micro_batch_size",
            "this task's loss of one row depends on the others of its batch, which can't be cut; "
            "leave it out",
        )
    on_ray = simulated and config.simulation.executor == "ray"  # workers compute, elsewhere
    if not on_ray and (why := missing_device(training.device)):
        raise config.error("training.device", f"'{training.device}': {why}")


def _check_teacher(config: Config, task: Task[Any]) -> None:
    """What a finished model can't teach."""
    if not (task.class_scores or task.squared_error):
        raise config.error(
            "teacher",
            "what a teacher says is compared as scores of classes or as a value, and this task's "
            "outputs are neither",
            "leave the table out (a task of your own: class_scores = True or squared_error = True, "
            "if they are)",
        )
    if config.training.distillation:
        raise config.error(
            "training.distillation",
            "beside [teacher] there would be two teachers, of which the received model knows less",
            "set it to 0, or leave [teacher] out",
        )


def _check_processes(config: Config, task: Task[Any]) -> None:
    """What several processes can't train together, or not here."""
    if why := _obstacle(config, task):
        raise config.error("training.processes", f"{why}; set it to 1")
    training = config.training
    device = torch.device(training.device)
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if device.index:
            raise config.error(
                "training.processes",
                f"{training.processes} processes take the GPUs from 0 on, and training.device is "
                f"'{training.device}'; set the device to 'cuda'",
            )
        if found < training.processes:
            raise config.error(
                "training.processes",
                f"{training.processes} processes take a GPU each, and torch sees {found} here; set "
                f"it to {max(1, found)}, or training.device to 'cpu'",
            )


def _obstacle(config: Config, task: Task[Any]) -> str:
    """Why several processes can't train this at all; '' if they can."""
    if config.privacy.unit in ("example", "patient"):
        return (
            f"with privacy.unit = '{config.privacy.unit}' each unit's gradient is clipped, which "
            "one process does"
        )
    if task.coupled_examples:
        return "this task's loss of one row depends on the others of its batch, which can't be cut"
    if torch.device(config.training.device).type not in ("cpu", "cuda"):
        return f"processes don't share training.device = '{config.training.device}'"
    if not distributed.is_available():
        return "this torch has no torch.distributed"
    return ""
