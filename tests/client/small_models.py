"""Models and tasks for tests of local training."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wardround.common.config.load import Config
from wardround.common.figures.sums import Sums
from wardround.common.settings import TrainingTable
from wardround.common.tasks.base import Examples, Task


class Classes(Task[Examples]):
    """Cross entropy on given examples; the model is handed in by the test."""

    class_scores = True

    def load(self, path: Any) -> Examples:
        raise NotImplementedError

    def model(self, totals: Sums) -> nn.Module:
        raise NotImplementedError

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="none")

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        return {"loss": self.loss(outputs, targets).double().sum().reshape(1).numpy()}

    def summarise(self, sums: Sums) -> dict[str, float]:
        return {}


class Residual(nn.Module):
    """x + W2 relu(W1 LN(x)), with dropout."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inside = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.inside(self.norm(x))
        return out


def residual(blocks: int = 3, width: int = 6, classes: int = 3, dropout: float = 0.0) -> nn.Module:
    """A stack of residual blocks and a head."""
    body = nn.Sequential(*(Residual(width, dropout) for _ in range(blocks)))
    return nn.Sequential(body, nn.Linear(width, classes))


def rows(count: int = 23, width: int = 6, classes: int = 3, seed: int = 0) -> Examples:
    """Random rows with random labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    return Examples(torch.randn(count, width, generator=generator), labels)


def configured(**options: Any) -> Config:
    """A configuration with these keys of ``[training]``."""
    return Config(training=TrainingTable(**{"batch_size": 8, "lr": 0.1, **options}))


def vector(model: nn.Module) -> Tensor:
    """All parameters in one vector."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def dirty_memory(*_: Any) -> None:
    """What is allocated next holds NaN, as memory may."""
    for count in (512, 768, 1024, 2304, 4096, 4608, 6912, 8192, 16384, 27648):
        kept = [torch.full((count,), torch.nan) for _ in range(8)]
        del kept
