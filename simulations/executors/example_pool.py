"""The training examples of many clients in one tensor, so that a cohort's batch is one look-up.
Clients whose inputs are stored aren't brought here: each trains by itself.

A client's examples are copied in once and stay while they fit; then a round only indexes. Beyond
the limits the pool holds what the running round needs, and is filled anew each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wardround.client.data.hospital import Hospital
from wardround.client.privacy.sizes import announced_rows
from wardround.common.tasks.base import Examples
from wardround.common.tasks.inputs import width

_LIMIT_BYTES = 2 << 30


class Client:
    """One client of a cohort: who, and its training examples.

    size : how many examples; width : numbers in an input; rows : how many rows it announced
    """

    __slots__ = ("examples", "hospital", "node_id", "rows", "size", "width")

    def __init__(self, node_id: int, hospital: Hospital, examples: Examples) -> None:
        self.node_id, self.hospital, self.examples = node_id, hospital, examples
        self.size, self.width = len(examples), width(examples.inputs)
        self.rows = announced_rows(hospital)


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
    most_clients : of how many clients that may be; None: of all
    """

    def __init__(
        self,
        device: str = "cpu",
        limit_bytes: int = _LIMIT_BYTES,
        most_clients: int | None = None,
    ) -> None:
        self._device, self._limit = device, limit_bytes
        self._most = most_clients
        self._places: dict[Client, int] = {}
        self._inputs: Tensor | None = None
        self._targets: Tensor | None = None
        self._used = 0

    def place(self, clients: Sequence[Client]) -> Placed:
        """Where the examples of these clients are; new ones are copied in.

        Raises ValueError if examples of two clients differ in shape or dtype.
        """
        places = self._places
        new = [client for client in clients if client not in places]
        if new:
            self._add(clients, new)
        assert self._inputs is not None and self._targets is not None
        offsets = np.array([places[client] for client in clients], dtype=np.int64)
        sizes = np.array([client.size for client in clients], dtype=np.int64)
        return Placed(self._inputs, self._targets, offsets, sizes)

    def _add(self, clients: Sequence[Client], new: Sequence[Client]) -> None:
        first = new[0].examples
        row_bytes = sum(
            part[:1].numel() * part.element_size() for part in (first.tensor(), first.targets)
        )
        needed = self._used + sum(client.size for client in new)
        many = self._most is not None and len(self._places) + len(new) > self._most
        if self._inputs is not None and (many or needed * row_bytes > self._limit):
            self._places.clear()
            self._used, new = 0, clients
            needed = sum(client.size for client in new)
        for client in new:
            _check_alike(first, client.examples)
        if self._inputs is not None:
            assert self._targets is not None
            _check_alike(Examples(self._inputs, self._targets), first)
        self._inputs = self._grown(self._inputs, first.tensor(), needed)
        self._targets = self._grown(self._targets, first.targets, needed)
        for client in new:
            start, end = self._used, self._used + client.size
            self._inputs[start:end].copy_(client.examples.tensor())
            self._targets[start:end].copy_(client.examples.targets)
            self._places[client], self._used = start, end

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
