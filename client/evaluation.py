"""Evaluation at a hospital: metric sums per split, nothing per patient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wardround.common.metrics import add_sums
from wardround.common.tasks.base import Examples, Sums, Task

ROWS_AT_A_TIME = 8192


def evaluate_model(
    model: nn.Module, examples: Examples, task: Task[Any], device: str = "cpu"
) -> Sums:
    """The task's metric sums of the model on the examples.

    A task with coupled examples (c-index pairs) gets all outputs at once; others would give the
    same sums chunk by chunk, but are handled alike: outputs are small, inputs go through in chunks.
    """
    return add_sums([task.metrics(model_outputs(model, examples, device), examples.targets)])


def model_outputs(model: nn.Module, examples: Examples, device: str = "cpu") -> Tensor:
    """What the model says of each example, N x O, on the CPU; leaves the model in that mode."""
    model.eval()
    outputs = []
    with torch.no_grad():
        for start in range(0, len(examples), ROWS_AT_A_TIME):
            inputs = examples.inputs[start : start + ROWS_AT_A_TIME].to(device)
            outputs.append(model(inputs).cpu())
        return torch.cat(outputs)
