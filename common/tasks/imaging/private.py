"""Images' preparation under differential privacy: each image's mean and mean square, in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wardround.common.figures.sums import Sums
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.private import GRID, Bounded, Parts, PrivatePreparation

Moments = Callable[[Images], tuple[NDArray[np.float64], NDArray[np.float64]]]


class PrivateImages(PrivatePreparation):
    """``images``: 1 for each; ``mean`` and ``squares``: less 1/2 for each of the channels.

    moments : of images, N x C each: every image's mean and mean square by channel
    """

    phases = 1

    def __init__(self, channels: int, moments: Moments) -> None:
        self._channels, self._moments = channels, moments

    def bound(self, names: frozenset[str]) -> float:
        """A pixel is in [0, 1], so each of 2 C numbers is within 1/2."""
        own = {"images": 1.0, "mean": self._channels / 4, "squares": self._channels / 4}
        return math.sqrt(math.fsum(own[name] for name in names))

    def parts(self, train: Images, phase: int, totals: Sums) -> Parts:
        mean, squares = self._moments(train)
        return {
            "images": Bounded(np.ones((len(mean), 1))),
            "mean": Bounded(np.clip(mean, 0.0, 1.0) - 0.5),
            "squares": Bounded(np.clip(squares, 0.0, 1.0) - 0.5),
        }

    def condense(self, totals: Sums, noise: float) -> Sums:
        """As the exact sums: over units, and within what pixels can have."""
        images = max(1.0, float(totals["images"][0]) / GRID)
        mean = np.clip(totals["mean"] / GRID / images + 0.5, 0.0, 1.0)
        squares = np.clip(totals["squares"] / GRID / images + 0.5, mean**2, 1.0)
        return {
            "images": np.array([images]),
            "mean": mean * images,
            "squares": squares * images,
        }
