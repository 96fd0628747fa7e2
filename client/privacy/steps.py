"""DP-SGD's gradients: units drawn by Poisson, each one's gradient clipped, summed, noised.

Abadi et al. 2016 (1607.00133), for whatever unit the hospital protects: with patients, all records
of a patient count as one (``client/gradients``).
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import tee
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.client.data.hospital import Units
from wardround.client.gradients import Clipping, Loss, make_unit_gradients
from wardround.client.privacy.draws import MOST_DRAWN, draws_of
from wardround.client.training.batches import on_device
from wardround.client.training.pieces import Pieces
from wardround.common.model.precision import autocast, whole
from wardround.common.privacy.mechanism import Grid
from wardround.common.privacy.noise import Integers, NoiseSource
from wardround.common.privacy.schedule import Bound, Schedule, adapted_norm, clipping_bound
from wardround.common.settings import PrivacyTable, TrainingTable
from wardround.common.tasks.base import Examples

log = logging.getLogger("wardround.client")
_MOST_ROWS = 4096
"""Of one pass: more are added up in pieces, so that memory doesn't follow the sampling rate."""


class Summing(Protocol):
    """Sums of clipped gradients, as private steps need them."""

    parameters: list[tuple[str, nn.Parameter]]
    dimension: int

    def total(self, chosen: Integers, bound: Bound) -> NDArray[np.float64]:
        """The chosen units' summed vector, ``dimension`` float64; the quantile coordinate, if there
        is one, comes last. Its L2 sensitivity to one unit is ``bound.sensitivity``."""


class ClippedGradients:
    """Sums of clipped gradients of a hospital's units, on the model as it stands.

    Parameters
    ----------
    parameters : names of the model's trainable parameters, in the order of the summed vector
    training : device, precision, and how many rows go through the model at once
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        examples: Examples,
        units: Units,
        table: PrivacyTable,
        training: TrainingTable | None = None,
    ) -> None:
        training = training or TrainingTable()
        self._engine = make_unit_gradients(
            model,
            lambda outputs, targets: loss(whole(outputs), targets),
            table.engine,
            context=lambda: autocast(training),
        )
        rows = training.micro_batch_size or _MOST_ROWS
        self._sizes = Pieces(model, "private training", rows, training.device)
        self._examples, self._units = examples, units
        self._per_layer = table.clipping == "per_layer"
        self._quantile = table.clipping == "adaptive"
        self.parameters = self._engine.parameters
        self.dimension = sum(p.numel() for _, p in self.parameters) + self._quantile

    def total(self, chosen: Integers, bound: Bound) -> NDArray[np.float64]:
        """The chosen units' summed vector; the quantile coordinate, if there is one, comes last.

        A unit whose gradient is not finite adds zeros. Raises TaskError where memory runs out.
        """
        rows = int(np.diff(self._units.starts)[chosen].sum())
        return self._sizes.run(rows, lambda most: self._total(chosen, bound, max(1, most)))

    def _total(self, chosen: Integers, bound: Bound, most: int) -> NDArray[np.float64]:
        """``most`` rows at a time, or one unit that has more."""
        total = np.zeros(self.dimension) if len(chosen) == 0 else np.empty(self.dimension)
        first, dropped = True, 0
        self._engine.largest = most
        device = str(self.parameters[0][1].device)
        parts, ahead = tee((part, *self._rows(part)) for part in self._pieces(chosen, most))
        batches = on_device(self._examples, (rows for _, rows, _ in ahead), device)
        for (part, _, numbers), (inputs, targets) in zip(parts, batches, strict=True):
            # where each row is a unit, their norms need no pairs of rows
            alone = np.array_equal(numbers, np.arange(len(part)))
            owners = None if alone else torch.from_numpy(numbers).to(device)
            result = self._engine.clipped_sum(
                inputs,
                targets,
                owners,
                len(part),
                Clipping(bound.norm, self._per_layer),
            )
            start = 0
            for gradient in result.gradients:
                flat = gradient.detach().cpu().numpy().reshape(-1)
                _put(flat, total[start : start + flat.size], first)
                start += flat.size
            if self._quantile:
                # +1/2 for a unit within C, -1/2 for one beyond: half the sensitivity of a count
                within = (result.norms <= bound.norm).sum().item() - 0.5 * len(part)
                _put(bound.quantile_scale * within, total[-1:], first)
            first = False
            dropped += result.dropped
        if dropped:
            log.warning("%d units had a gradient that is not finite; they were left out", dropped)
        return total

    def _pieces(self, chosen: Integers, most: int) -> Iterator[Integers]:
        if len(chosen) == 0:
            return
        sizes = np.diff(self._units.starts)[chosen]
        # by where a unit's first row would lie: a unit is never cut, so a piece may be longer
        piece = (np.cumsum(sizes) - sizes) // most
        for number in np.unique(piece):
            yield chosen[piece == number]

    def _rows(self, chosen: Integers) -> tuple[Integers, Integers]:
        """The chosen units' rows, and for each row the position of its unit in ``chosen``."""
        starts = self._units.starts
        sizes = np.diff(starts)[chosen]
        numbers = np.repeat(np.arange(len(chosen)), sizes)
        first = np.repeat(starts[chosen] - (np.cumsum(sizes) - sizes), sizes)
        return self._units.rows[first + np.arange(sizes.sum())], numbers


def _put(values: Any, where: NDArray[np.float64], first: bool) -> None:
    """Write, or add to what the pieces before have written."""
    if first:
        where[:] = values
    else:
        where += values


class PrivateSteps:
    """Gradients of one round of local DP-SGD: iterating sets ``.grad``, for an optimiser to use.

    A step: draw each unit with probability q, clip and sum, add noise of z times the sensitivity,
    divide by the *expected* number of units q U. Dividing by the number that was drawn would make
    the sensitivity depend on it, and tell it. What the optimiser makes of the gradients is
    post-processing. The loss isn't protected and is not given (NaN).

    norm : the clipping norm, which an adaptive run carries from round to round
    released : the last step's noised vector, before it is divided by the expected batch
    bound : the clipping that it was made with
    """

    def __init__(
        self,
        gradients: Summing,
        units: int,
        schedule: Schedule,
        table: PrivacyTable,
        norm: float,
        source: NoiseSource,
    ) -> None:
        self._gradients, self._units, self._schedule = gradients, units, schedule
        self._table, self._source = table, source
        self.norm = norm
        self.released: NDArray[np.float64] = np.zeros(0)
        self.bound = Bound(norm)

    def __iter__(self) -> Generator[Tensor, None, None]:
        expected, dimension = self._schedule.expected_units, self._gradients.dimension
        with closing(draws_of(self._source, self._schedule, self._units, dimension)) as draws:
            _, chosen = next(draws)
            for _ in range(self._schedule.steps):
                z = self._schedule.noise_multiplier
                bound = clipping_bound(self._table, self.norm, z, expected)
                self.bound = bound
                total = self._gradients.total(chosen, bound)
                grid = Grid.for_local(bound.sensitivity, dimension)
                self.released = np.empty(dimension)
                for start in range(0, dimension, MOST_DRAWN):
                    noise, chosen = next(draws)
                    part = slice(start, start + len(noise))
                    grid.noised(total[part], noise, self.released[part])
                self._set(self.released, expected)
                if bound.quantile_scale:
                    share = self.released[-1] / (expected * bound.quantile_scale) + 0.5
                    self.norm = adapted_norm(self._table, self.norm, float(share))
                yield torch.tensor(float("nan"))

    def _set(self, vector: NDArray[np.float64], expected: float) -> None:
        """Of each parameter, its part over the expected number of units as ``.grad``."""
        start = 0
        for _, parameter in self._gradients.parameters:
            part = vector[start : start + parameter.numel()]
            start += parameter.numel()
            value = np.empty(part.size, np.float32)
            np.divide(part, expected, out=value, casting="same_kind")
            parameter.grad = (
                torch.from_numpy(value).view(parameter.shape).to(parameter.device, parameter.dtype)
            )
