"""Clients whose inputs differ by noise: NIID-Bench's noise-based feature skew.

Client i of N gets Gaussian noise of variance sigma * i / N on its prepared inputs (Li et al. 2022,
arXiv 2102.02079, section IV-B), sigma being ``simulation.feature_noise``. It is of one distribution
on training, validation and test rows, as if the client's instruments were that imprecise, and a
row's is the same in every round. Statistics of the preparation are of the rows without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wardround.client.data.shard import Opened, Parts, Shard
from wardround.common.config.load import Config
from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.rng import numpy_generator
from wardround.common.tasks.base import Examples, Task


@dataclass(frozen=True)
class NoisyShard:
    """A simulated hospital's shard with noise on its prepared inputs, so in units of their scale.

    noise_variance : of each input
    """

    shard: Shard
    noise_variance: float

    @property
    def name(self) -> str:
        return self.shard.name

    @property
    def task(self) -> Task[Any]:
        return self.shard.task

    @property
    def config(self) -> Config:
        return self.shard.config

    @property
    def sizes(self) -> dict[str, int] | None:
        return self.shard.sizes

    def open(self) -> Opened:
        """As of the shard. Raises ConfigError for inputs that are no measurements."""
        opened = self.shard.open()
        if not all(self.task.measured(part) for part in opened.parts.values()):
            raise self.config.error(
                "simulation.feature_noise",
                "inputs are whole numbers, which noise would break",
                "set it to 0",
            ).by(self.name)
        return opened

    def prepare(self, parts: Callable[[], Parts], totals: Sums, digest: str) -> dict[str, Examples]:
        prepared = self.shard.prepare(parts, totals, digest)
        return {split: self._with_noise(split, part) for split, part in prepared.items()}

    def _with_noise(self, split: str, part: Examples) -> Examples:
        inputs = part.inputs
        if not inputs.dtype.is_floating_point:
            raise TaskError(
                "its inputs are whole numbers, which noise would break",
                who=self.name,
                mend="set simulation.feature_noise = 0",
            )
        if not isinstance(inputs, Tensor):
            raise TaskError(
                "its inputs lie on the disk, and noise is drawn for all of them at once",
                who=self.name,
                mend="set simulation.feature_noise = 0, or task.store = 'memory'",
            )
        seed = self.config.federation.seed
        generator = numpy_generator(seed, "feature noise", self.name, split)
        noise = generator.standard_normal(inputs.shape) * math.sqrt(self.noise_variance)
        return Examples(inputs + torch.from_numpy(noise).to(inputs.dtype), part.targets)
