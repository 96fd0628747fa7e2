"""A model's losses on examples, in the configured precision, with what distillation adds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from wardround.client.training.contrast import Contrast
from wardround.client.training.distillation import Teacher
from wardround.client.training.teaching import loss_of
from wardround.common.errors import TaskError
from wardround.common.model.precision import autocast, whole
from wardround.common.settings import TeacherTable, TrainingTable
from wardround.common.tasks.base import Task


class Objective:
    """Maps inputs and targets to the loss of each example.

    contrast : the term that a strategy adds, of the representations of these very inputs
    taught : by a finished model, whose outputs stand beside the targets (``teaching.beside``)

    Raises TaskError if the task's loss isn't one value per example.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Any],
        task: Task[Any],
        training: TrainingTable,
        teacher: Teacher | None = None,
        *,
        taught: TeacherTable | None = None,
        contrast: Contrast | None = None,
    ) -> None:
        self._model, self._task, self._training = model, task, training
        self._teacher, self._loss = teacher, loss_of(task, taught)
        self._contrast = contrast

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        with autocast(self._training):
            outputs = whole(self._model(inputs))
            losses = self._loss(outputs, targets)
            if losses.shape != (len(targets),):
                raise TaskError(
                    f"{type(self._task).__name__}.loss returned shape {tuple(losses.shape)} for a "
                    f"batch of {len(targets)}; return one loss per example"
                )
            if self._teacher is not None:
                losses = losses + self._teacher.losses(inputs, outputs, targets)
            if self._contrast is not None:
                losses = losses + self._contrast.losses(inputs)
            return losses
