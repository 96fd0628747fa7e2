"""The parts of a split network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from wardround.common.rng import seeded_globals
from wardround.common.tasks.imaging.layers import Standardise
from wardround.common.tasks.imaging.networks import small_cnn
from wardround.common.tasks.imaging.options import NetworkOptions

M = TypeVar("M", bound=nn.Module)
_GROUPS = 4
_MIDDLE, _SPREAD = 0.5, 0.25
"""Of pixels, fixed: a mean over patients' images would depend on each of them."""


def table_tower(columns: int, hidden: int, width: int) -> nn.Module:
    """N x columns, standardised, to N x width: one hidden layer."""
    return nn.Sequential(nn.Linear(columns, hidden), nn.ReLU(), nn.Linear(hidden, width))


def image_tower(size: Sequence[int], channels: int, first: int, width: int) -> nn.Module:
    """Pixels, uint8 or float32 in [0, 1], N x channels x size, to N x width: the imaging task's
    small CNN with group normalisation, which keeps persons apart. ``first`` a multiple of 4."""
    options = NetworkOptions(kind="cnn", norm="group", groups=_GROUPS, width=first)
    axes = len(size)
    scaled = Standardise([_MIDDLE] * channels, [_SPREAD] * channels, axes)
    return nn.Sequential(scaled, small_cnn(axes, channels, width, options))


class Head(nn.Module):
    """The outcome holder's part: a tower over its own columns, where it has some, and a head over
    that tower's numbers and those that came.

    crossing : numbers of a person that come, of all parties together
    """

    def __init__(self, tower: nn.Module | None, crossing: int, width: int, hidden: int) -> None:
        super().__init__()
        self.tower = tower
        inputs = crossing + (width if tower is not None else 0)
        self.head = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, received: Tensor, own: Tensor) -> Tensor:
        """N x crossing and the own inputs, N rows, to N logits."""
        parts = [received] if self.tower is None else [received, self.tower(own)]
        found: Tensor = self.head(torch.cat(parts, dim=1))[:, 0]
        return found


def seeded(seed: int, name: str, make: Callable[[], M]) -> M:
    """What ``make`` gives, with the initial weights of this run and party."""
    with seeded_globals(seed, "split weights", name):
        return make()
