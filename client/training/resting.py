"""What isn't trained in a round: of factors that take turns, those whose turn it isn't."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from wardround.common.tasks.base import Task


@contextmanager
def resting(model: nn.Module, task: Task[Any], server_round: int) -> Iterator[None]:
    """Within, parameters that rest in this round need no gradient, so no optimiser moves them."""
    factors = task.low_rank(model)
    names = factors.resting(server_round) if factors else []
    parameters = [model.get_parameter(name) for name in names]
    for parameter in parameters:
        parameter.requires_grad = False
        parameter.grad = None
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad = True
