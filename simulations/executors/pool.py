"""The training examples of many clients in one tensor, so that a cohort's batch is one look-up.

A client's examples are copied in once and stay while they fit; then a round only indexes. Beyond
the limit the pool holds what the running round needs, and is filled anew each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wardround.common.tasks.base import Examples

_LIMIT_BYTES = 2 << 30


@dataclass
class _Place:
    examples: Examples  # kept, so that another object can't take its identity
    offset: int


@dataclass(frozen=True)
class Placed:
    """Where clients' examples are: C offsets and sizes, in the pooled tensors."""

    inputs: Tensor
    targets: Tensor
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]


class ExamplePool:
    """Pooled examples by client.

    Parameters
    ----------
    device : where the pooled tensors are
    limit_bytes : of what is kept from round to round
    """

    def __init__(self, device: str = "cpu", limit_bytes: int = _LIMIT_BYTES) -> None:
        self._device, self._limit = device, limit_bytes
        self._places: dict[int, _Place] = {}
        self._inputs: Tensor | None = None
        self._targets: Tensor | None = None
        self._used = 0

    def place(self, clients: Sequence[tuple[int, Examples]]) -> Placed:
        """Where the examples of these clients (by node id) are; new ones are copied in.

        Raises ValueError if examples of two clients differ in shape or dtype.
        """
        places = self._places
        new = [
            (node, examples)
            for node, examples in clients
            if (known := places.get(node)) is None or known.examples is not examples
        ]
        if new:
            self._add(clients, new)
        assert self._inputs is not None and self._targets is not None
        offsets = np.array([places[node].offset for node, _ in clients], dtype=np.int64)
        sizes = np.array([len(examples) for _, examples in clients], dtype=np.int64)
        return Placed(self._inputs, self._targets, offsets, sizes)

    def _add(
        self, clients: Sequence[tuple[int, Examples]], new: Sequence[tuple[int, Examples]]
    ) -> None:
        first = new[0][1]
        row_bytes = sum(
            part[:1].numel() * part.element_size() for part in (first.inputs, first.targets)
        )
        needed = self._used + sum(len(examples) for _, examples in new)
        if self._inputs is not None and needed * row_bytes > self._limit:
            self._places.clear()
            self._used, new = 0, clients
            needed = sum(len(examples) for _, examples in new)
        for _, examples in new:
            _check_alike(first, examples)
            if self._inputs is not None:
                assert self._targets is not None
                _check_alike(Examples(self._inputs, self._targets), examples)
        self._inputs = self._grown(self._inputs, first.inputs, needed)
        self._targets = self._grown(self._targets, first.targets, needed)
        for node, examples in new:
            start, end = self._used, self._used + len(examples)
            self._inputs[start:end].copy_(examples.inputs)
            self._targets[start:end].copy_(examples.targets)
            self._places[node], self._used = _Place(examples, start), end

    def _grown(self, buffer: Tensor | None, like: Tensor, rows: int) -> Tensor:
        """A buffer of at least ``rows`` rows with what is used of this one."""
        if buffer is not None and len(buffer) >= rows:
            return buffer
        room = rows if buffer is None else max(rows, len(buffer) + len(buffer) // 2)
        grown = torch.zeros(room, *like.shape[1:], dtype=like.dtype, device=self._device)
        if buffer is not None and self._used:
            grown[: self._used].copy_(buffer[: self._used])
        return grown


def _check_alike(one: Examples, other: Examples) -> None:
    for a, b in ((one.inputs, other.inputs), (one.targets, other.targets)):
        if a.shape[1:] != b.shape[1:] or a.dtype != b.dtype:
            raise ValueError(
                f"clients' examples differ: {a.dtype} {list(a.shape[1:])} and "
                f"{b.dtype} {list(b.shape[1:])}"
            )
