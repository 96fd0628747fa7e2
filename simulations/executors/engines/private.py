"""DP-SGD of many clients at once, for stacks of dense layers.

What ``client/privacy/steps.py`` does for one hospital: units drawn by Poisson, each one's gradient
clipped, summed, noised, divided by the expected number. An example's gradient of a dense layer is
an outer product of what comes back and what went in, so its norm is a product of norms
(book-keeping; Bu et al. 2023, 2210.00038) and no example's gradient is formed. Draws and noise are
each client's own stream, in its order: what is drawn doesn't depend on who else is in the chunk.

Shapes: C clients (A of them still training), B slots of a step, P parameters, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.client.gradients import Clipping
from wardround.client.gradients.base import clip_factors
from wardround.client.gradients.per_layer import ROUNDING, squared
from wardround.client.privacy.draws import MOST_DRAWN, draws_of
from wardround.client.privacy.round import PrivateRound
from wardround.common.privacy.mechanism import Grid
from wardround.common.privacy.noise import MOST_TOGETHER, Integers
from wardround.common.settings import TrainingTable
from wardround.common.tasks.base import Task
from wardround.simulations.executors.engines.base import StackedResult, Unsuited, rows_of
from wardround.simulations.executors.engines.dense import DERIVATIVES, Layer, affine
from wardround.simulations.executors.engines.dropout import Masks
from wardround.simulations.executors.engines.optimizers import make_stacked

MOST_SLOTS = 4096
"""A hospital takes more rows in pieces; such a client trains by itself."""


@dataclass(frozen=True, eq=False)
class PrivateWork:
    """DP-SGD of C clients, those with most steps first.

    rounds : C, paid for: schedules, and streams of draws and noise
    rows : C arrays, positions of each client's examples in ``inputs`` and ``targets``
    start : trainable parameters by name, in the order of a client's summed vector
    clipping : of an example's gradient; ``sensitivity`` of their sum to one
    proximal : every gradient gets proximal (y - x), after the noise
    seeds : C, of each client's generator for dropout
    """

    rounds: Sequence[PrivateRound]
    rows: Sequence[Integers]
    inputs: Tensor
    targets: Tensor
    start: dict[str, Tensor]
    training: TrainingTable
    lr: float
    clipping: Clipping
    sensitivity: float
    proximal: float
    seeds: Sequence[int]


class PrivateDense:
    """Stacks of dense layers, with dropout between them."""

    def __init__(self, layers: list[Layer], task: Task[Any], masks: Masks) -> None:
        self._layers, self._task, self._masks = layers, task, masks

    def without_dropout(self) -> PrivateDense:
        """The same stack as if it had none."""
        layers = [replace(layer, dropout="") for layer in self._layers]
        return PrivateDense(layers, self._task, Masks(nn.Module(), torch.empty(0)))

    @torch.no_grad()
    def train(self, work: PrivateWork) -> StackedResult:
        """Train all. Raises Unsuited where a gradient isn't finite, or a step draws too many."""
        count = len(work.rounds)
        parameters = {name: x.expand(count, *x.shape).clone() for name, x in work.start.items()}
        optimizer = make_stacked(work.training, work.lr, list(parameters.values()))
        generators = [torch.Generator().manual_seed(seed) for seed in work.seeds if self._masks]
        steps = np.array([one.schedule.steps for one in work.rounds])
        dimension = sum(x.numel() for x in work.start.values())
        grid = Grid.for_local(work.sensitivity, dimension)
        together = dimension <= MOST_TOGETHER
        with _Together(work, grid) if together else _Apart(work, dimension) as draws:
            for step in range(int(steps[0])):
                active = int(np.searchsorted(-steps, -step, side="left"))
                now = {name: value[:active] for name, value in parameters.items()}
                sums = self.sums(work, now, draws.chosen[:active], generators[:active])
                noise = draws.next(active, int(np.searchsorted(-steps, -step - 1, side="left")))
                self._move(work, now, grid.noised(sums, noise.reshape(-1)), optimizer)
        return StackedResult(work.start, parameters, torch.zeros(count))

    @torch.no_grad()
    def sums(
        self,
        work: PrivateWork,
        now: dict[str, Tensor],
        chosen: Sequence[Integers],
        generators: Sequence[torch.Generator],
    ) -> NDArray[np.float64]:
        """Of each client, its chosen examples' clipped gradients, summed: A x P."""
        sizes = [len(one) for one in chosen]
        slots = max(sizes)
        dimension = sum(x.numel() for x in work.start.values())
        if slots == 0:
            return np.zeros((len(chosen), dimension))
        if slots > MOST_SLOTS:
            raise Unsuited("a step draws more rows than go through a model at once")
        filled = np.arange(slots) < np.array(sizes)[:, None]
        rows = np.zeros(filled.shape, np.int64)
        for target, own, drawn in zip(rows, work.rows, chosen, strict=False):
            target[: len(drawn)] = own[drawn]
        place = torch.from_numpy(rows)
        masks = self._masks.draw(generators, sizes, slots)
        inputs, outputs = self._forward(rows_of(work.inputs, place).flatten(2), now, masks)
        real = torch.from_numpy(filled)
        d = self._loss_gradient(outputs[-1], rows_of(work.targets, place), real)
        back = self._backward(d, now, outputs, masks)
        return self._clipped(work, back, inputs, real)

    def _forward(
        self, h: Tensor, now: dict[str, Tensor], masks: dict[str, Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """What each layer gets, A x B x I, and gives after its activation, A x B x O."""
        inputs, outputs = [], []
        for layer in self._layers:
            inputs.append(h)
            z = affine(h, now[layer.weight], now[layer.bias] if layer.bias else None)
            if layer.activation is not None:
                z = layer.activation(z)
            outputs.append(z)
            h = z * masks[layer.dropout] if layer.dropout else z
        return inputs, outputs

    def _loss_gradient(self, outputs: Tensor, targets: Tensor, real: Tensor) -> Tensor:
        """d loss / d outputs of each example, A x B x O; zero in an empty slot."""
        with torch.enable_grad():
            flat = outputs.flatten(0, 1).requires_grad_()
            losses = self._task.loss(flat, targets.flatten(0, 1))
            if losses.shape != (real.numel(),):
                raise Unsuited("the task's loss isn't one number per example")
            (d,) = torch.autograd.grad((losses * real.flatten()).sum(), flat)
        return d.reshape(outputs.shape)

    def _backward(
        self, d: Tensor, now: dict[str, Tensor], outputs: list[Tensor], masks: dict[str, Tensor]
    ) -> list[Tensor]:
        """The gradient of each example's loss at each layer's output, A x B x O."""
        back = [d]
        for number in range(len(self._layers) - 1, 0, -1):
            below = self._layers[number - 1]
            d = torch.bmm(d, now[self._layers[number].weight])
            if below.dropout:
                d = d * masks[below.dropout]
            if below.activation is not None:
                d = d.mul_(DERIVATIVES[type(below.activation)](outputs[number - 1]))
            back.insert(0, d)
        return back

    def _clipped(
        self, work: PrivateWork, back: list[Tensor], inputs: list[Tensor], real: Tensor
    ) -> NDArray[np.float64]:
        squares = []
        for layer, d, h in zip(self._layers, back, inputs, strict=True):
            scale = squared(h) + 1.0 if layer.bias else squared(h)
            squares.append((squared(d) * scale * (1.0 + ROUNDING)).flatten())
        factors = clip_factors(squares, work.clipping, real.flatten())
        if factors.dropped:
            raise Unsuited("an example's gradient is not finite")
        by_layer = factors.by_layer
        if len(by_layer) == 1:
            by_layer = by_layer * len(back)
        found: dict[str, Tensor] = {}
        for layer, d, h, factor in zip(self._layers, back, inputs, by_layer, strict=True):
            scaled = d * factor.reshape(*real.shape, 1)
            found[layer.weight] = torch.bmm(scaled.transpose(1, 2), h)
            if layer.bias:
                found[layer.bias] = scaled.sum(1)
        parts = [found[name].flatten(1) for name in work.start]
        total: NDArray[np.float64] = torch.cat(parts, 1).double().numpy()
        return total

    @staticmethod
    def _move(
        work: PrivateWork,
        now: dict[str, Tensor],
        released: NDArray[np.float64],
        optimizer: Any,
    ) -> None:
        """A step by the released sums over each client's expected number of examples."""
        expected = np.array([one.schedule.expected_units for one in work.rounds[: len(released)]])
        vector = torch.from_numpy((released / expected[:, None]).astype(np.float32))
        gradients, start = [], 0
        for name, value in now.items():
            size = work.start[name].numel()
            gradient = vector[:, start : start + size].reshape(value.shape).clone()
            if work.proximal:
                gradient.add_(value - work.start[name], alpha=work.proximal)
            gradients.append(gradient)
            start += size
        optimizer.step(list(now.values()), gradients)


class _Together:
    """The draws of clients with small models, made at once.

    chosen : C, each client's units of the step that comes
    """

    def __init__(self, work: PrivateWork, grid: Grid) -> None:
        self._schedules = [one.schedule for one in work.rounds]
        self._sources = [one.source for one in work.rounds]
        self._units, self._grid = [len(rows) for rows in work.rows], grid
        self.chosen = [self._sample(number) for number in range(len(work.rounds))]

    def next(self, active: int, more: int) -> Integers:
        """The noise of the first ``active`` clients, A x P; ``more`` of them go on."""
        multipliers = np.array([one.noise_multiplier for one in self._schedules[:active]])
        noise = np.empty((active, self._grid.dimension), np.int64)
        for z in np.unique(multipliers):
            which = np.flatnonzero(multipliers == z)
            sources = [self._sources[number] for number in which]
            noise[which] = self._grid.draw_each(sources, float(z))
        self.chosen = [self._sample(number) for number in range(more)]
        return noise

    def _sample(self, number: int) -> Integers:
        rate = self._schedules[number].sampling_rate
        return self._sources[number].poisson_sample(self._units[number], rate)

    def __enter__(self) -> _Together:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


class _Apart:
    """The same of clients with large models, each as ``PrivateSteps`` has it, drawn ahead."""

    def __init__(self, work: PrivateWork, dimension: int) -> None:
        self._dimension, self._open = dimension, ExitStack()
        self._draws = [
            self._open.enter_context(
                closing(draws_of(each.source, each.schedule, len(rows), dimension))
            )
            for each, rows in zip(work.rounds, work.rows, strict=True)
        ]
        self.chosen = [next(one)[1] for one in self._draws]

    def next(self, active: int, more: int) -> Integers:
        """As ``_Together.next``."""
        noise = np.empty((active, self._dimension), np.int64)
        for number, target in enumerate(noise):
            for start in range(0, self._dimension, MOST_DRAWN):
                part, self.chosen[number] = next(self._draws[number])
                target[start : start + len(part)] = part
        return noise

    def __enter__(self) -> _Apart:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def single_rows(units: Any) -> Integers | None:
    """Each unit's only row; None where a unit has several."""
    starts, rows = units.starts, units.rows
    return rows if np.array_equal(np.diff(starts), np.ones(len(starts) - 1)) else None
