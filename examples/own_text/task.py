"""A text model of one's own: a torch ``Dataset`` and a ``Module``, and the task that joins them.

wardround simulate examples/own_text/federation.toml
"""

import csv
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from wardround.common.figures.sums import Sums, binary_figures, binary_sums
from wardround.common.tasks.base import Examples, Task

WORDS, LENGTH = 2000, 24
MADE_UP = [
    ("chest pain and short of breath since the morning", 1),
    ("sudden severe headache with loss of speech", 1),
    ("found unconscious with a weak pulse", 1),
    ("heavy bleeding after a fall from the roof", 1),
    ("repeat prescription for the usual blood pressure tablets", 0),
    ("annual check and a flu vaccination please", 0),
    ("mild cough for two days and no fever", 0),
    ("wants the results of last week's blood test", 0),
] * 15


class Notes(Dataset[tuple[Tensor, Tensor]]):
    """Lines of a CSV with columns text and urgent; without a file, notes made up."""

    def __init__(self, path: Path | None) -> None:
        self.rows: list[tuple[str, int]] = MADE_UP
        if path is not None:
            with open(path, newline="") as file:
                self.rows = [(row["text"], int(row["urgent"])) for row in csv.DictReader(file)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        text, urgent = self.rows[index]
        words = text.lower().split()[:LENGTH]
        # a hash that is the same everywhere; 0 is padding
        numbers = [1 + zlib.crc32(word.encode()) % (WORDS - 1) for word in words]
        numbers += [0] * (LENGTH - len(words))
        return torch.tensor(numbers), torch.tensor(float(urgent))


class Triage(nn.Module):
    """The mean of the words' embeddings, and a small perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, width, padding_idx=0)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, words: Tensor) -> Tensor:
        there = (words != 0).sum(1, keepdim=True).clamp_min(1)
        return self.head(self.embedding(words).sum(1) / there)


class OwnText(Task[Examples]):
    """Options of ``[task]`` are the arguments of ``__init__``."""

    primary_metric = "auc"
    higher_is_better = True

    def __init__(self, width: int = 32) -> None:
        self.width = width

    def load(self, path: Path | None) -> Examples:
        return Examples.of(Notes(path))

    def model(self, totals: Sums) -> nn.Module:
        return Triage(self.width)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs[:, 0], targets, reduction="none")

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        sums = binary_sums(outputs[:, 0].double().sigmoid().numpy(), targets.numpy())
        return sums | {"loss": self.loss(outputs, targets).sum().double().numpy()}

    def summarise(self, sums: Sums) -> dict[str, float]:
        figures = binary_figures(sums)
        return figures | {"loss": float(sums["loss"]) / max(1.0, figures["examples"])}
