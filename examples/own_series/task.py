"""A task of one's own: will a patient worsen? From twelve measurements of four vital signs each.

An LSTM, and a layer that the engine for privacy is told about. The series are made up.

wardround simulate examples/own_series/federation.toml
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from opacus.grad_sample import register_grad_sampler
from torch import Tensor, nn

from wardround.common.figures.sums import Sums, binary_figures, binary_sums
from wardround.common.tasks.base import Examples, Task

SIGNS, TIMES = 4, 12


class Decay(nn.Module):
    """The older a measurement, the less it counts: one rate for each vital sign."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.full((SIGNS,), -2.0))

    def forward(self, series: Tensor, hours: Tensor) -> Tensor:
        return series * torch.exp(-self.rate.exp() * hours)


@register_grad_sampler(Decay)
def _samples(layer: Decay, given: list[Tensor], backward: Tensor) -> dict[nn.Parameter, Tensor]:
    """One gradient a row, B x 4, of what the layer was given and the gradient at its output."""
    series, hours = given
    rate = layer.rate.exp()
    return {layer.rate: (-backward * series * hours * rate * torch.exp(-rate * hours)).sum(1)}


class Course(nn.Module):
    """B x 12 x 5, the last column hours before now, to B."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.decay = Decay()
        self.series = nn.LSTM(SIGNS, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, rows: Tensor) -> Tensor:
        states, _ = self.series(self.decay(rows[..., :SIGNS], rows[..., SIGNS:]))
        return self.head(states[:, -1]).squeeze(1)


class Worsening(Task[Examples]):
    """Options of ``[task]`` are the arguments of ``__init__``."""

    primary_metric = "auc"
    higher_is_better = True

    def __init__(self, hidden: int = 8, rows: int = 1200) -> None:
        self.hidden, self.rows = hidden, rows

    def load(self, path: Path | None) -> Examples:
        generator = torch.Generator().manual_seed(0)
        steps = torch.randn(self.rows, TIMES, SIGNS, generator=generator)
        series = 0.5 * steps.cumsum(1)
        gaps = torch.rand(self.rows, TIMES, 1, generator=generator)
        hours = gaps.flip(1).cumsum(1).flip(1)
        trend = (series[:, -4:] - series[:, -8:-4]).mean(1).sum(1)
        chance = torch.sigmoid(1.5 * trend)
        worse = torch.rand(self.rows, generator=generator) < chance
        return Examples(torch.cat([series, hours], 2), worse.float())

    def model(self, totals: Sums) -> nn.Module:
        return Course(self.hidden)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        sums = binary_sums(outputs.sigmoid().numpy(), targets.numpy())
        return sums | {"loss": self.loss(outputs, targets).sum().double().numpy()}

    def summarise(self, sums: Sums) -> dict[str, float]:
        figures = binary_figures(sums)
        return figures | {"loss": float(sums["loss"]) / max(1.0, figures["examples"])}
