"""A task of one's own: handwritten digits (scikit-learn's 8 x 8 images), a small CNN, ten classes.

wardround simulate examples/own_task/federation.toml
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from wardround.common.figures.sums import Sums, multiclass_figures, multiclass_sums
from wardround.common.tasks.base import Examples, Task


class Digits(Task[Examples]):
    """Options of ``[task]`` are the arguments of ``__init__``."""

    primary_metric = "accuracy"
    higher_is_better = True

    def __init__(self, channels: int = 16) -> None:
        self.channels = channels

    def load(self, path: Path | None) -> Examples:
        images, labels = load_digits(return_X_y=True)
        pixels = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
        return Examples(pixels, torch.tensor(labels))

    def model(self, totals: Sums) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, self.channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(self.channels * 16, 10),
        )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="none")

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        sums = multiclass_sums(outputs.softmax(1).numpy(), targets.numpy())
        return sums | {"loss": self.loss(outputs, targets).sum().double().numpy()}

    def summarise(self, sums: Sums) -> dict[str, float]:
        figures = multiclass_figures(sums)
        return figures | {"loss": float(sums["loss"]) / max(1.0, figures["examples"])}
