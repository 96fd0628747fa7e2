"""Which examples each step sees, and how they come to the device.

Batches are drawn by a key of (run seed, round, hospital): a round that is repeated sees the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wardround.client.training.ahead import made_ahead
from wardround.common.rng import orders
from wardround.common.settings import TrainingTable
from wardround.common.tasks.base import Examples
from wardround.common.tasks.inputs import in_spans, piece

Rows = NDArray[np.int64]
Batch = tuple[Tensor, Tensor]
"""Inputs and targets of a batch, on the device."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """What one client's steps of a round see: its examples, in the order that ``keys`` give."""

    examples: Examples
    training: TrainingTable
    keys: NDArray[np.uint64]

    def rows(self, least: int = 1) -> Iterator[Rows]:
        """Positions of each batch; see ``batches``."""
        return batches(len(self.examples), self.training, self.keys, least)


def steps_of(size: int, training: TrainingTable) -> int:
    """How many steps a client with ``size`` examples makes in a round: ``local_steps``, or
    ``local_epochs`` times ceil(size / batch_size), counting each epoch's smaller last batch."""
    return training.local_steps or training.local_epochs * -(-size // training.batch_size)


def least_rows(model: nn.Module) -> int:
    """How many examples each of this model's batches needs: batch normalisation has no variance of
    one, unless there are several values of it for each channel."""
    return 1 + any(isinstance(module, _BatchNorm) for module in model.modules())


def batches(
    size: int, training: TrainingTable, keys: NDArray[np.uint64], least: int = 1
) -> Iterator[Rows]:
    """Positions of each batch: shuffled epochs, the last batch of an epoch may be smaller.

    ``local_steps`` batches if set (starting new epochs as needed), else ``local_epochs`` epochs.

    keys : one, of this client's order in this round (``common.rng.client_keys``)
    least : a last batch of fewer joins the one before

    >>> from wardround.common.rng import client_keys
    >>> training = TrainingTable(batch_size=4, local_epochs=2)
    >>> [len(rows) for rows in batches(10, training, client_keys(1, "batches", 1, ["north"]))]
    [4, 4, 2, 4, 4, 2]
    """
    most = training.batch_size
    per_epoch = -(-size // most)
    if per_epoch > 1 and 0 < size % most < least:
        per_epoch -= 1
    order = np.empty(0, dtype=np.int64)
    for step in range(training.local_steps or training.local_epochs * per_epoch):
        position = step % per_epoch
        if position == 0:  # an epoch's order is a function of its number: nothing is drawn before
            (order,) = orders(keys, size, step // per_epoch)
        end = size if position == per_epoch - 1 else (position + 1) * most
        yield order[position * most : end]


def on_device(examples: Examples, rows: Iterable[Rows], device: str) -> Iterator[Batch]:
    """The examples of each batch, on the device; on a GPU the next one comes while one is used,
    and where inputs are stored it is read meanwhile."""
    if torch.device(device).type == "cuda":
        yield from _Ahead(examples, rows, torch.device(device))
        return
    for inputs, targets in _batches(examples, rows):
        yield inputs.to(device), targets.to(device)


def in_order(examples: Examples, most: int) -> Iterator[Tensor]:
    """All inputs, at most so many at a time, fewer where they are large."""
    spans = in_spans(examples.inputs, most=most)
    read = partial(piece, examples.inputs)
    return made_ahead(read, spans) if examples.stored else map(read, spans)


def _batches(examples: Examples, rows: Iterable[Rows]) -> Iterator[Batch]:
    return made_ahead(examples.batch, rows) if examples.stored else map(examples.batch, rows)


class _Ahead:
    """Copies the next batch on a stream of its own while the GPU works on the present one.

    A copy runs beside the work only from pinned memory. What is pinned is the batch, not the shard:
    a selection of pinned rows would be ordinary memory again. torch keeps pinned blocks for the
    next batches, and doesn't hand one out before its copy is done.
    """

    def __init__(self, examples: Examples, rows: Iterable[Rows], device: torch.device) -> None:
        self._examples, self._rows, self._device = examples, rows, device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __iter__(self) -> Iterator[Batch]:
        coming: tuple[Batch, torch.cuda.Event] | None = None
        for batch in _batches(self._examples, self._rows):
            following = self._sent(batch)
            if coming is not None:
                yield self._arrived(*coming)
            coming = following
        if coming is not None:
            yield self._arrived(*coming)

    def _sent(self, taken: Batch) -> tuple[Batch, torch.cuda.Event]:
        inputs, targets = (part.pin_memory() for part in taken)
        with torch.cuda.stream(self._stream):
            batch = (
                inputs.to(self._device, non_blocking=True),
                targets.to(self._device, non_blocking=True),
            )
            return batch, self._stream.record_event()

    def _arrived(self, batch: Batch, event: torch.cuda.Event) -> Batch:
        """The batch, once the copy is done; its memory isn't reused while the work uses it."""
        present = torch.cuda.current_stream(self._device)
        present.wait_event(event)
        for part in batch:
            part.record_stream(present)
        return batch
