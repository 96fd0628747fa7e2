"""A task whose model can take every form of training, and hospitals of unequal sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wardround.common.figures.sums import Sums
from wardround.common.tasks.base import Examples, Task

CLASSES = 3


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Dropout(0.4), nn.Linear(5, CLASSES))


def deep() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 4), nn.Sigmoid()),
        nn.Dropout(0.2),
        nn.Linear(4, CLASSES),
    )


def wide() -> nn.Module:
    """Wide enough for the dual form."""
    return nn.Sequential(nn.Linear(6 * 40, 200), nn.ReLU(), nn.Linear(200, CLASSES))


def linear() -> nn.Module:
    return nn.Linear(6, CLASSES)


def conv() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)),
        nn.Conv1d(1, 4, 3),
        nn.GroupNorm(2, 4),
        nn.GELU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(16, CLASSES),
    )


def batchnorm() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, CLASSES))


class Tied(nn.Module):
    """The first layer's weights are the last one's, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 6)
        self.last.weight = self.first.weight

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.last(torch.tanh(self.first(inputs)))
        return outputs[:, :CLASSES]


class Counting(nn.Module):
    """Keeps how often it was used."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, CLASSES)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        self.count += 1.0
        outputs: Tensor = self.layer(inputs)
        return outputs


class Shifted(nn.Module):
    """Has numbers that nothing trains and nothing moves."""

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, CLASSES)
        self.register_buffer("shift", torch.arange(1.0, 7.0))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs - self.shift)
        return outputs


class Fickle(nn.Module):
    """Its control flow depends on data."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs)
        return outputs * 2 if bool(inputs.mean() > 0) else outputs


class Noisy(nn.Module):
    """Draws numbers that no one gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs + 0.1 * torch.randn_like(inputs))
        return outputs


def noisy() -> nn.Module:
    return Noisy()


def tied() -> nn.Module:
    return Tied()


def counting() -> nn.Module:
    return Counting()


def shifted() -> nn.Module:
    return Shifted()


def fickle() -> nn.Module:
    return Fickle()


MODELS: dict[str, Callable[[], nn.Module]] = {
    x.__name__: x
    for x in (dense, deep, wide, linear, conv, batchnorm, tied, counting, shifted, fickle, noisy)
}


class Net(Task[Examples]):
    """A classifier of three classes."""

    primary_metric = "loss"

    def __init__(self, form: str = "dense") -> None:
        self.form = form

    def load(self, path: Path | None) -> Examples:
        raise NotImplementedError

    def model(self, totals: Sums) -> nn.Module:
        return MODELS[self.form]()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="none")

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        losses = self.loss(outputs, targets).double()
        return {"loss": losses.sum().reshape(1).numpy(), "n": np.array([float(len(losses))])}

    def summarise(self, sums: Sums) -> dict[str, float]:
        return {"loss": float(sums["loss"][0]) / max(1.0, float(sums["n"][0]))}


def hospitals(sizes: list[int], features: int = 6, seed: int = 0) -> dict[str, Examples]:
    """A hospital of each size: inputs N x features."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"h{number:02d}": Examples(
            torch.randn(size, features, generator=generator),
            torch.randint(0, CLASSES, (size,), generator=generator),
        )
        for number, size in enumerate(sizes)
    }


@pytest.fixture
def net() -> type[Net]:
    return Net


@pytest.fixture
def make_hospitals() -> Callable[..., dict[str, Examples]]:
    return hospitals
