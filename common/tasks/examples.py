"""Examples: what a shard becomes, ready for a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wardround.common.errors import TaskError
from wardround.common.tasks.inputs import Inputs, joined, selected, taken

_READ_AT_A_TIME = 256


@dataclass(frozen=True)
class Examples:
    """A shard as tensors, ready for a model.

    inputs : tensor, N x ..., float32 (or int64 for tokens); or what reads such rows from a file,
        where they don't fit into memory (``common.tasks.inputs``)
    targets : tensor, N or N x T

    Raises ValueError where their numbers differ.

    >>> from wardround.common.tasks import Examples
    >>> shard = Examples(torch.zeros(3, 2), torch.tensor([0, 1, 1]))
    >>> len(shard), shard.select(np.array([2, 0])).targets.tolist()
    (3, [1, 0])
    """

    inputs: Inputs
    targets: Tensor

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise ValueError(f"{len(self.inputs)} inputs but {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.targets)

    @classmethod
    def of(cls, dataset: Dataset[Any], workers: int = 0) -> Examples:
        """The examples of a torch ``Dataset`` of (input, target) pairs, read once and kept.

        Random transforms would be drawn once; put them into the model, where ``self.training``.

        workers : processes that read, where decoding takes long
        """
        loader = DataLoader(dataset, batch_size=_READ_AT_A_TIME, num_workers=workers)
        pairs = [(torch.as_tensor(x), torch.as_tensor(y)) for x, y in loader]
        if not pairs:
            raise ValueError("the dataset is empty")
        return cls(torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs]))

    @property
    def stored(self) -> bool:
        """Whether inputs are read from a file, batch by batch."""
        return not isinstance(self.inputs, Tensor)

    def select(self, rows: NDArray[np.int64]) -> Examples:
        """The examples at ``rows`` (positions in 0..N-1), in that order, as copies; stored inputs
        stay where they are."""
        rows = np.asarray(rows, dtype=np.int64)
        return Examples(selected(self.inputs, rows), taken(self.targets, rows))

    def tensor(self) -> Tensor:
        """The inputs, where they are in memory. Raises TaskError where they are stored: whoever
        would load them all has to ask before."""
        if not isinstance(self.inputs, Tensor):
            raise TaskError(
                "inputs that lie on the disk are needed in memory here",
                mend="set task.store = 'memory'",
            )
        return self.inputs

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Inputs and targets at ``rows``, in that order. Raises DataError where inputs are stored
        and can't be read."""
        return taken(self.inputs, rows), taken(self.targets, rows)


def concatenate(parts: list[Examples]) -> Examples:
    """One ``Examples`` with the rows of all parts, in order.

    Raises ValueError if there are none, or their inputs aren't of one type: a type means a scale
    (bytes, or numbers up to 1).
    """
    if not parts:
        raise ValueError("nothing to concatenate")
    if len({part.inputs.dtype for part in parts}) > 1:
        raise ValueError("inputs of several types")
    if len(parts) == 1:
        return parts[0]
    inputs = joined([part.inputs for part in parts], parts[0].inputs.dtype)
    return Examples(inputs, torch.cat([part.targets for part in parts]))
