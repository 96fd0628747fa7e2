"""Which examples each client of a cohort sees at each of its steps, as index arrays.

Shapes: C clients, S steps of the longest of them, B slots of a batch, N examples of all.

The batches are those of ``client/training/steps.py``: same keys, same orders. Clients are sorted by
their number of steps, the longest first, so that those which still train at step s are the first
``active(s)``: nothing is computed for a client that has finished.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wardround.client.training.batches import steps_of
from wardround.common.rng import orders
from wardround.common.settings import TrainingTable

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class CohortBatches:
    """The batches of C clients, in the order of ``clients``.

    clients : C positions in what was asked for, the longest first
    examples, offsets : C, how many examples each has, and where they begin
    steps : C, descending
    rows : S x C x B, positions of examples; 0 where a slot is empty
    weights : S x C x B float32, 1 / b in a batch of b examples, 0 in an empty slot
    sizes : S x C, b
    """

    clients: Whole
    examples: Whole
    offsets: Whole
    steps: Whole
    rows: Tensor
    weights: Tensor
    sizes: Whole

    def active(self, step: int) -> int:
        """How many clients, from the first on, have more than ``step`` steps: steps descend, so it
        is the place of the first that hasn't."""
        return int(np.searchsorted(-self.steps, -step, side="left"))

    @property
    def most_steps(self) -> int:
        """S."""
        return int(self.steps[0])


def cohort_batches(
    sizes: Whole, offsets: Whole, keys: NDArray[np.uint64], training: TrainingTable
) -> CohortBatches:
    """The batches of C clients with ``sizes`` examples each, which begin at ``offsets``.

    keys : C, of each client's order in this round
    """
    # thousands of clients have a few sizes: what depends on the size is worked out once for each
    different, which = np.unique(sizes, return_inverse=True)
    steps = np.array([steps_of(int(size), training) for size in different], dtype=np.int64)[which]
    # by steps, then by size: equal sizes, which have equal steps, stand together
    clients = np.lexsort((-sizes, -steps))
    sizes, offsets, keys, steps = sizes[clients], offsets[clients], keys[clients], steps[clients]
    most, slots = int(steps[0]), min(training.batch_size, int(sizes.max()))
    rows = np.zeros((most, len(sizes), slots), dtype=np.int64)
    counts = np.zeros((most, len(sizes)), dtype=np.int64)
    starts = np.flatnonzero(np.r_[True, sizes[1:] != sizes[:-1]])
    for start, end in zip(starts, [*starts[1:], len(sizes)], strict=True):
        part = slice(int(start), int(end))
        _fill(rows[:, part], counts[:, part], int(sizes[start]), keys[part], training)
        rows[:, part] += offsets[part, None]
    # an empty slot takes some example, at weight 0: every look-up stays within the tensor
    filled = np.arange(slots) < counts[..., None]
    rows[~filled] = 0
    weights = filled / np.maximum(counts, 1)[..., None].astype(np.float32)
    return CohortBatches(
        clients,
        sizes,
        offsets,
        steps,
        torch.from_numpy(rows),
        torch.from_numpy(weights.astype(np.float32, copy=False)),
        counts,
    )


def _fill(
    rows: Whole, counts: Whole, size: int, keys: NDArray[np.uint64], training: TrainingTable
) -> None:
    """The batches of clients that have ``size`` examples each: positions from 0 on, in place.

    Each epoch has an order of its own; its last batch has what is left over, and the last epoch
    ends where ``training.local_steps`` does.
    """
    batch, slots = training.batch_size, rows.shape[2]
    per_epoch, steps = -(-size // batch), steps_of(size, training)
    last = size - (per_epoch - 1) * batch
    for start in range(0, steps, per_epoch):
        order = np.zeros((len(keys), per_epoch * batch), dtype=np.int64)
        order[:, :size] = orders(keys, size, start // per_epoch)
        taken = min(per_epoch, steps - start)
        by_step = order.reshape(len(keys), per_epoch, batch)[:, :taken, :slots]
        rows[start : start + taken] = by_step.transpose(1, 0, 2)
        counts[start : start + taken] = min(batch, size)
        if taken == per_epoch:
            counts[start + taken - 1] = last
