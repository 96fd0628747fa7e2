"""What becomes of low-rank factors between hospitals: how their products are averaged.

A layer's change is s B A. The mean of the hospitals' B times the mean of their A isn't the mean of
their products, which is what averaging whole models would give. Three rules:

* ``factors``: A and B are averaged by themselves. How far that is from the mean of products can be
  told by sums alone: every hospital adds s u^T B A z for a few vectors u and z of +-1 that follow
  from the run's seed, the round and the layer. Their mean minus the same of the averaged factors
  has the mean square |mean(s B A) - s mean(B) mean(A)|^2 (Frobenius; Hutchinson's estimator).
* ``alternate``: B alone moves in odd rounds, A alone in even ones (RoLoRA; Chen et al. 2024,
  arXiv 2409.02346). Then the mean of products is the product of means.
* ``products``: every hospital adds its product too, and what the averaged factors lack of the mean
  product goes into a matrix R beside the frozen weight (FedEx-LoRA; Singhal et al. 2024, arXiv
  2410.09432): R' = R + mean(s B A) - s mean(B) mean(A). That is dense, O x I numbers a layer.

All is arithmetic on named arrays, at a hospital (``sent``) and at the server (``combined``),
whoever trained and however the means were taken. Shapes: O outputs and I inputs of a layer, r its
rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wardround.common.flower.arrays import Arrays

Aggregation = Literal["factors", "alternate", "products"]
PROBES = 16
"""Numbers of a layer that tell the error. Of L layers the estimate of a square is about
1 +- sqrt(8 / (16 L)) of it, or better: each number's square varies most where one rank is all."""


@dataclass(frozen=True)
class Pair:
    """Entries of one layer, by name.

    up, down : B, O x r, and A, r x I
    scale : s
    rest : R, O x I; '' unless products are averaged
    probes : ``PROBES`` numbers; '' where the error isn't told
    """

    up: str
    down: str
    scale: float
    rest: str = ""
    probes: str = ""

    def product(self, arrays: Arrays) -> NDArray[np.float64]:
        """s B A, O x I."""
        up, down = (arrays[name].astype(np.float64) for name in (self.up, self.down))
        found: NDArray[np.float64] = self.scale * (up @ down)
        return found

    def probed(self, arrays: Arrays, seed: int, server_round: int) -> NDArray[np.float64]:
        """s u^T B A z / sqrt(``PROBES``) for each probe of this round."""
        up, down = (arrays[name].astype(np.float64) for name in (self.up, self.down))
        from wardround.common.rng import numpy_generator  # brings torch

        draw = numpy_generator(seed, "low-rank probes", server_round, self.up)
        left = draw.choice((-1.0, 1.0), (PROBES, len(up)))
        right = draw.choice((-1.0, 1.0), (PROBES, down.shape[1]))
        found: NDArray[np.float64] = ((left @ up) * (right @ down.T)).sum(1)
        return self.scale / math.sqrt(PROBES) * found


@dataclass(frozen=True)
class LowRank:
    """The factors of a model and the rule that they are averaged by."""

    pairs: tuple[Pair, ...]
    aggregation: Aggregation

    @property
    def names(self) -> list[str]:
        """All entries that the rule is about."""
        found = [name for one in self.pairs for name in (one.up, one.down, one.rest, one.probes)]
        return [name for name in found if name]

    def resting(self, server_round: int) -> list[str]:
        """Entries that aren't trained in this round, counted from 1."""
        if self.aggregation != "alternate":
            return []
        return [one.down if server_round % 2 else one.up for one in self.pairs]

    def sent(self, received: Arrays, trained: Arrays, seed: int, server_round: int) -> Arrays:
        """What a hospital sends for entries that no step moves, of what it received and trained."""
        found: dict[str, NDArray[Any]] = {}
        for one in self.pairs:
            if one.rest:
                change = one.product(trained) - one.product(received)
                found[one.rest] = _like(received[one.rest] + change, received[one.rest])
            if one.probes:
                probed = one.probed(trained, seed, server_round)
                found[one.probes] = _like(probed, received[one.probes])
        return found

    def combined(
        self, before: Arrays, mean: Arrays, seed: int, server_round: int
    ) -> tuple[Arrays, float | None]:
        """The next round's values of what the means alone don't give, and the error.

        before : the shared entries that the hospitals received; mean : their means now

        The error is |mean(s B A) - s mean(B) mean(A)| over |mean(s B A) - s B A of before|, over
        all layers together and estimated: what share of the round's change averaging the factors
        has changed. None where it isn't told, or nothing has moved.
        """
        found: dict[str, NDArray[Any]] = {}
        lost = moved = 0.0
        for one in self.pairs:
            if one.rest:
                # of the sum only the changes were sent, so what was there before is in it
                value = mean[one.rest] + one.product(before) - one.product(mean)
                found[one.rest] = _like(value, before[one.rest])
            if one.probes:
                of_products = mean[one.probes].astype(np.float64)
                lost += _square(of_products - one.probed(mean, seed, server_round))
                moved += _square(of_products - one.probed(before, seed, server_round))
                found[one.probes] = np.zeros_like(before[one.probes])
        # a mean of equal numbers may be rounded
        found |= {name: before[name] for name in self.resting(server_round)}
        return found, math.sqrt(lost / moved) if moved > 0 else None


def _like(values: NDArray[Any], entry: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values.astype(entry.dtype)).reshape(entry.shape)


def _square(values: NDArray[np.float64]) -> float:
    return float(values @ values)
