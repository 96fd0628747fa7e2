"""Clients whose inputs differ by noise: NIID-Bench's noise-based feature skew.

Client i of N gets Gaussian noise of variance sigma * i / N on its prepared inputs (Li et al. 2022,
arXiv 2102.02079, section IV-B), sigma being ``simulation.feature_noise``. It is of one distribution
on training, validation and test rows, as if the client's instruments were that imprecise, and a
row's is the same in every round. Statistics of the preparation are of the rows without it.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from wardround.client.data.hospital import Hospital
from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.rng import numpy_generator
from wardround.common.tasks.base import Examples


class NoisyHospital(Hospital):
    """A simulated hospital with noise on its prepared inputs, so in units of their scale.

    noise_variance : of each input; other parameters as of ``Hospital``
    """

    _noisy: tuple[str, dict[str, Examples]] | None = None

    def __init__(self, *args: Any, noise_variance: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.noise_variance = noise_variance

    def parts(self) -> dict[str, Any]:
        parts = super().parts()
        if not all(self.task.measured(part) for part in parts.values()):
            raise self.config.error(
                "simulation.feature_noise",
                "inputs are whole numbers, which noise would break",
                "set it to 0",
            ).by(self.name)
        return parts

    def examples(self, totals: Sums, digest: str) -> dict[str, Examples]:
        if self._noisy is None or self._noisy[0] != digest:
            parts = super().examples(totals, digest)
            noisy = {split: self._with_noise(split, part) for split, part in parts.items()}
            self._noisy = (digest, noisy)
            self._prepared = None  # each row's inputs are kept once
        return self._noisy[1]

    def _with_noise(self, split: str, part: Examples) -> Examples:
        if not part.inputs.is_floating_point():
            raise TaskError(
                "its inputs are whole numbers, which noise would break",
                who=self.name,
                mend="set simulation.feature_noise = 0",
            )
        seed = self.config.federation.seed
        generator = numpy_generator(seed, "feature noise", self.name, split)
        noise = generator.standard_normal(part.inputs.shape) * math.sqrt(self.noise_variance)
        return Examples(part.inputs + torch.from_numpy(noise).to(part.inputs.dtype), part.targets)
