"""What a chunk's clients have learnt, on its way into a sum.

Shapes: C clients in the order of the chunk's result, P numbers of a parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from wardround.client.algorithms import LocalAlgorithm
from wardround.common.flower.arrays import Arrays
from wardround.simulations.executors.engines.base import CohortResult

_BLOCK_BYTES = 8 << 20
"""What the changes that stand in memory at once may take."""


class Changes:
    """The changes y_i - x of C clients, which needn't stand in memory.

    Parameters
    ----------
    nodes, rows : of each client its node id, and how many rows it trains on
    steps : that it has made, C int64
    result : what was trained
    arrays : x, as it was sent: all arrays, also those that nobody moves
    kind : the client's half of the strategy, which may scale a change by its steps

    Attributes
    ----------
    losses : C float64
    """

    def __init__(
        self,
        nodes: Sequence[int],
        rows: Sequence[int],
        steps: NDArray[np.int64],
        result: CohortResult,
        arrays: Arrays,
        kind: type[LocalAlgorithm],
    ) -> None:
        self.nodes, self.rows, self.steps, self.arrays = nodes, rows, steps, arrays
        self.losses: NDArray[np.float64] = result.losses.double().cpu().numpy()
        self._result, self._kind, self._made = result, kind, steps
        self._factors: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.nodes)

    def clip(self, factors: NDArray[np.float64]) -> None:
        """Multiply each client's change, C float64. Losses and steps aren't told then, and count as
        0 and 1."""
        self._factors = factors
        self.losses, self.steps = np.zeros(len(self)), np.ones_like(self.steps)

    def weighted(self, weights: NDArray[np.float64]) -> Arrays:
        """sum_i w_i s_i (y_i - x), float64, by name; s_i as ``LocalAlgorithm.scale`` has it."""
        scaled = weights * self._kind.scale(self._made)
        if self._factors is not None:
            scaled = scaled * self._factors
        change = self._result.weighted_change(torch.from_numpy(scaled.astype(np.float32)))
        return {name: value.cpu().numpy() for name, value in change.items()}

    def each(self) -> Iterator[tuple[slice, dict[str, NDArray[np.float32]]]]:
        """Every client's own change, to the bit what it would send by itself where nothing was
        clipped: which clients, and their changes by name, each clients x P; a few at a time."""
        sizes = [self.arrays[name].size for name in self._result.names]
        step = max(1, _BLOCK_BYTES // max(1, 4 * sum(sizes)))
        for start in range(0, len(self), step):
            rows = slice(start, min(len(self), start + step))
            trained = self._result.clients(rows)
            yield rows, {name: self._change(name, y, rows) for name, y in trained.items()}

    def _change(self, name: str, trained: torch.Tensor, rows: slice) -> NDArray[np.float32]:
        """(x + (y - x) s) - x where the strategy scales, which isn't (y - x) s to the bit."""
        x = self.arrays[name].reshape(-1)
        y = trained.detach().cpu().numpy().reshape(len(trained), -1)
        change: NDArray[np.float32] = self._kind.sent(x, y, self._made[rows, None]) - x
        if self._factors is None:
            return change
        return change * self._factors[rows, None].astype(np.float32)
