"""The gradient of a batch, of which each of several processes computes a share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import tee

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from wardround.client.training.batches import Drawn, Rows, on_device
from wardround.client.training.steps import Scaler


class ShareGradients:
    """Gradients of a batch's mean loss, of which this process computes its share.

    Iterating sets ``.grad``, in all processes alike, and gives this process's part of each loss.
    Each takes every P-th example, from its own number on. The reduction means over P processes, so
    a share's summed loss counts P times, over the size of the whole batch. A process that a small
    batch has no example for goes through the first one, at weight 0: all must take part.

    rank, processes : this process's number, and P
    """

    def __init__(
        self,
        model: DistributedDataParallel,
        drawn: Drawn,
        objective: Callable[[Tensor, Tensor], Tensor],
        *,
        rank: int,
        processes: int,
        scaler: Scaler = None,
    ) -> None:
        self._model, self._drawn, self._objective = model, drawn, objective
        self._rank, self._processes, self._scaler = rank, processes, scaler
        self._parameters = [p for p in model.parameters() if p.requires_grad]

    def __iter__(self) -> Iterator[Tensor]:
        whole, ahead = tee(self._drawn.rows())
        shares = (self._share(rows) for rows in ahead)
        coming = on_device(self._drawn.examples, shares, self._drawn.training.device)
        for rows, (inputs, targets) in zip(whole, coming, strict=True):
            weight = 1.0 / len(rows) if self._rank < len(rows) else 0.0
            yield self._step(inputs, targets, weight)

    def _share(self, rows: Rows) -> Rows:
        own = rows[self._rank :: self._processes]
        return own if len(own) else rows[:1]

    def _step(self, inputs: Tensor, targets: Tensor, weight: float) -> Tensor:
        """The gradient, ``micro_batch_size`` examples at a time; it is reduced with the last."""
        for p in self._parameters:
            p.grad = None
        size = len(targets)
        most = self._drawn.training.micro_batch_size or size
        total = torch.zeros((), device=inputs.device)
        for start in range(0, size, most):
            last = start + most >= size
            with nullcontext() if last else self._model.no_sync():
                piece = slice(start, start + most)
                loss = self._objective(inputs[piece], targets[piece]).sum() * weight
                scaled = loss * self._processes
                scaled = scaled if self._scaler is None else self._scaler.scale(scaled)
                scaled.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total
