"""A task whose every number is a small sum of powers of two: no processor rounds any of them, so
whole messages may be compared byte by byte, whoever calculates.

A row is a split, a patient, x and y; the model is y = w x + b from w = b = 0, with loss
(w x + b - y)^2 / 2. Learning rate, weights and numbers of rows are powers of two as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.config.load import Config, parse_config
from wardround.common.figures.sums import Sums
from wardround.common.tasks.base import Examples, Task

ROWS = {
    "north": "train a 1 1\nvalidation b 1 0\ntest c 2 1\n",
    "south": "train a 2 -1\nvalidation b 2 1\ntest c 1 0\ntest d 1 2\n",
    "East Side": "train a 1 2\ntrain b 2 2\nvalidation c 1 1\ntest d 2 2\n",
    "west": "train a 1 0\ntrain a 2 1\ntrain b 1 -2\ntrain c -1 1\nvalidation d 1 1\ntest e 1 1\n",
}
"""By file: 1, 1, 2 and 4 training rows, so their sum is a power of two too."""
SETTINGS = """
[federation]
name = "golden"
rounds = 2
min_clients = 2
[data]
path = "hospitals"
[training]
batch_size = 2
lr = 0.5
[simulation]
baselines = false
executor = "sequential"
"""


@dataclass(frozen=True)
class Rows(Examples):
    """Rows with the split and the patient that the file says."""

    splits: NDArray[np.str_]
    names: NDArray[np.str_]

    def select(self, rows: NDArray[np.int64]) -> Rows:
        part = super().select(rows)
        return Rows(part.inputs, part.targets, self.splits[rows], self.names[rows])


class Parts(nn.Module):
    """y = w x + b + f x; f, where there is one, is frozen. With counts: one of forward passes in
    training, by fours, and half of that as a float."""

    passes: Tensor
    halves: Tensor

    def __init__(self, frozen: bool, counts: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)
        for parameter in self.linear.parameters():
            nn.init.zeros_(parameter)
        self.fixed = nn.Parameter(torch.full((1,), 0.25), requires_grad=False) if frozen else None
        self.counts = counts
        if counts:
            self.register_buffer("passes", torch.tensor(0))
            self.register_buffer("halves", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        if self.counts and self.training:
            self.passes += 4
            self.halves += 2.0
        y: Tensor = self.linear(x)
        return y if self.fixed is None else y + self.fixed * x


class Exact(Task[Rows]):
    """The task; see the module."""

    phases = 2
    primary_metric = "loss"
    higher_is_better = False

    def __init__(self, frozen: bool = False, counts: bool = False) -> None:
        self.frozen, self.counts = frozen, counts

    def load(self, path: Path | None) -> Rows:
        assert path is not None
        splits, names, x, y = zip(
            *map(str.split, path.read_text("utf-8").splitlines()), strict=True
        )
        inputs = torch.tensor([float(value) for value in x]).view(-1, 1)
        targets = torch.tensor([float(value) for value in y])
        return Rows(inputs, targets, np.array(splits), np.array(names))

    def given_split(self, raw: Rows) -> NDArray[np.str_]:
        return raw.splits

    def patients(self, raw: Rows) -> NDArray[np.str_] | None:
        return raw.names

    def together(self, raw: Rows) -> None:
        return None

    def warnings(self, raw: Rows) -> list[str]:
        return ["few rows", "straße with \N{GREEK SMALL LETTER MU}"] if len(raw) == 1 else []

    def statistics(self, train: Rows, phase: int, totals: Sums) -> Sums:
        x = train.tensor().double().numpy()
        if phase == 0:
            return {"rows": np.array([float(len(x))]), "sum of x": x.sum(0)}
        return {"squares": np.square(x - totals["sum of x"] / totals["rows"]).sum(0).reshape(1, 1)}

    def prepare(self, raw: Rows, totals: Sums, train: Rows) -> Examples:
        return Examples(raw.inputs, raw.targets)

    def model(self, totals: Sums) -> nn.Module:
        if self.frozen or self.counts:
            return Parts(self.frozen, self.counts)
        model = nn.Sequential(nn.Linear(1, 1))
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        return model

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] - targets) ** 2 / 2

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        losses = self.loss(outputs, targets).double()
        return {
            "loss": losses.sum().reshape(1).numpy(),
            "examples": np.array([float(len(losses))]),
        }

    def summarise(self, sums: Sums) -> dict[str, float]:
        return {"loss": float(sums["loss"][0]) / max(1.0, float(sums["examples"][0]))}


def settings(folder: Path, *overrides: str, rows: Mapping[str, str] = ROWS) -> Config:
    """A configuration for these hospitals, whose files are written below ``folder``."""
    place = folder / "hospitals"
    place.mkdir(parents=True, exist_ok=True)
    for name, text in rows.items():
        (place / f"{name}.txt").write_text(text, "utf-8")
    return parse_config(SETTINGS, list(overrides), folder / "federation.toml")
