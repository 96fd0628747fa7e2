"""Evaluation at a hospital: metric sums per split, nothing per patient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wardround.client.training.batches import in_order
from wardround.client.training.compiling import Compiled
from wardround.client.training.pieces import Pieces
from wardround.common.figures.sums import Sums, add_sums
from wardround.common.model.activations import rows_at_once
from wardround.common.model.precision import autocast, whole
from wardround.common.model.torch_state import with_ordinary_torch
from wardround.common.settings import TrainingTable
from wardround.common.tasks.base import Examples, Task
from wardround.common.tasks.inputs import piece

ROWS_AT_A_TIME = 8192
_DEFAULTS = TrainingTable()


@with_ordinary_torch
def evaluate_model(
    model: nn.Module, examples: Examples, task: Task[Any], training: TrainingTable = _DEFAULTS
) -> Sums:
    """The task's metric sums of the model on the examples.

    A task with coupled examples (c-index pairs) gets all outputs at once; others would give the
    same sums chunk by chunk, but are handled alike: outputs are small, inputs go through in chunks.
    """
    return add_sums([task.metrics(model_outputs(model, examples, training), examples.targets)])


def model_outputs(
    model: nn.Module, examples: Examples, training: TrainingTable = _DEFAULTS
) -> Tensor:
    """What the model says of each example, N x O, float32, on the CPU; leaves the model in
    evaluation mode (dropout off, batch normalisation by its running statistics). Inputs go through
    in pieces, which are smaller where an input, or what layers make of it, is large.

    Device, precision, size of the pieces and compilation are those of training.
    """
    model.eval()
    most = training.micro_batch_size or _as_fits(model, examples, training)
    pieces = Pieces(model, "evaluation", most, training.device)
    forward = Compiled(model) if training.compile else model

    def outputs(most: int) -> Tensor:
        found = []
        for inputs in in_order(examples, most):
            with autocast(training):
                found.append(whole(forward(inputs.to(training.device))).cpu())
        return torch.cat(found)

    with torch.no_grad():
        return pieces.run(len(examples), outputs)


def _as_fits(model: nn.Module, examples: Examples, training: TrainingTable) -> int:
    def row() -> Tensor:
        return piece(examples.inputs, slice(0, 1)).to(training.device)

    with autocast(training):
        return rows_at_once(model, row, len(examples), ROWS_AT_A_TIME)
