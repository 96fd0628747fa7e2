"""What ``[training]`` can't do with a task, or on this machine, said before anyone trains."""

from __future__ import annotations

from typing import Any

from wardround.client.precision import check_precision
from wardround.common.config import Config
from wardround.common.tasks.base import Task


def check_training(config: Config, task: Task[Any]) -> None:
    """Raise ConfigError, by key and mend. What depends on the model is told when it trains."""
    check_precision(config)
    training = config.training
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
