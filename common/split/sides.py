"""Both halves of a split network, on plain arrays.

    a feature party:   a_i = clip(tower(x_i)) + noise                   -> to the outcome's holder
    the holder:        l_i = loss(head(a_i, own_i), y_i);   g_i = clip(dl_i / da_i) + noise  -> back
    a feature party:   steps on the mean over the batch of  g_i . clip(tower(x_i))

Without noise and clip that is the whole network's gradient (Vepakomma et al. 2018, 1812.00564).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wardround.common.split.modules import Head
from wardround.common.split.schedule import Rows, Schedule
from wardround.common.split.weights import Named, Protection, Weights, clipped

Floats = NDArray[np.float32]


class FeatureSide:
    """A party with a tower.

    inputs : what the tower takes, N rows in the agreed order
    """

    def __init__(
        self, weights: Weights, inputs: Tensor, schedule: Schedule, protection: Protection
    ) -> None:
        self.weights, self._inputs = weights, inputs
        self._schedule, self._protection = schedule, protection

    def sends(self, number: int) -> Floats:
        """What crosses of a batch: B x width, float32."""
        return self._crosses(self._schedule.batch(number), number)

    def sends_held_out(self) -> Floats:
        """What crosses of those held out, when the last batch is done."""
        return self._crosses(self._schedule.held_out, self._schedule.batches)

    def _crosses(self, rows: Rows, number: int) -> Floats:
        with torch.no_grad():
            found = self._tower(self.weights.named, self._inputs[rows]).numpy()
        return self._protection.noised(found, "numbers", number, found.shape[1])

    def _tower(self, named: Named, inputs: Tensor) -> Tensor:
        return clipped(self.weights.call(named, inputs), self._protection.clip)

    def receives(self, number: int, gradients: Floats) -> None:
        """The step that follows from the gradients that came back for a batch, B x width."""

        def objective(named: Named, inputs: Tensor, back: Tensor) -> Tensor:
            return (self._tower(named, inputs) * back).sum(1)

        rows = self._inputs[self._schedule.batch(number)], torch.from_numpy(gradients)
        self.weights.step(
            self.weights.protected_gradient(objective, self._protection, "weights", *rows)
        )


class OutcomeSide:
    """The party with the outcome.

    own : its own inputs, N rows, of as many columns as it has: maybe none
    outcome : N, 0 or 1
    parties : the feature parties' names, in their order
    """

    def __init__(
        self,
        weights: Weights,
        own: Tensor,
        outcome: Tensor,
        parties: tuple[str, ...],
        schedule: Schedule,
        protection: Protection,
    ) -> None:
        self.weights, self._own, self._outcome = weights, own, outcome
        self._parties, self._schedule, self._protection = parties, schedule, protection

    def answers(self, number: int, came: Mapping[str, Floats]) -> dict[str, Floats]:
        """The gradients of each person's loss by what came for a batch, to each party; and the
        step of its own part. All that goes out of one person is bounded together: parties may put
        together what they got."""
        rows = self._schedule.batch(number)
        joined = torch.from_numpy(np.concatenate([came[name] for name in self._parties], axis=1))
        inputs = joined, self._own[rows], self._outcome[rows]
        leaf = joined.clone().requires_grad_()
        loss = self._loss(self.weights.named, leaf, *inputs[1:]).sum()
        (back,) = torch.autograd.grad(loss, [leaf])
        out = clipped(back, self._protection.clip).numpy()
        out = self._protection.noised(out, "gradients", number, out.shape[1])
        self.weights.step(
            self.weights.protected_gradient(self._loss, self._protection, "weights", *inputs)
        )
        parts = np.split(out, len(self._parties), axis=1)
        return {n: np.ascontiguousarray(p) for n, p in zip(self._parties, parts, strict=True)}

    def _loss(self, named: Named, received: Tensor, own: Tensor, outcome: Tensor) -> Tensor:
        logits = self.weights.call(named, received, own)
        return F.binary_cross_entropy_with_logits(logits, outcome, reduction="none")

    def scores(self, came: Mapping[str, Floats]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Logits and outcomes of those held out."""
        rows = self._schedule.held_out
        joined = torch.from_numpy(np.concatenate([came[name] for name in self._parties], axis=1))
        with torch.no_grad():
            logits = self.weights.call(self.weights.named, joined, self._own[rows])
        return logits.double().numpy(), self._outcome[rows].numpy()


def alone(
    head: Head, rate: float, own: Tensor, outcome: Tensor, schedule: Schedule
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Logits and outcomes of those held out, by a network of the outcome holder's columns alone,
    trained on the same batches; nothing of it leaves.

    head : with a tower, and no numbers of others
    """
    weights = Weights(head, rate)
    nothing = torch.zeros(len(own), 0)

    def loss(named: Named, received: Tensor, rows: Tensor, truth: Tensor) -> Tensor:
        logits = weights.call(named, received, rows)
        return F.binary_cross_entropy_with_logits(logits, truth, reduction="none")

    for number in range(schedule.batches):
        rows = schedule.batch(number)
        weights.step(weights.gradient(loss, nothing[rows], own[rows], outcome[rows]))
    rows = schedule.held_out
    with torch.no_grad():
        logits = weights.call(weights.named, nothing[rows], own[rows])
    return logits.double().numpy(), outcome[rows].numpy()
