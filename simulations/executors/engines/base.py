"""What an engine does: local training of many clients at once, from one start.

Shapes: C clients, A of them still training, B slots of a batch, P parameters.

An engine is arithmetic only. It gets tensors and the batches' indices, and gives trained parameters
or their weighted sum; strategies, privacy and messages are the executor's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wardround.common.settings import TrainingTable
from wardround.simulations.executors.engines.batches import CohortBatches


class Unsuited(Exception):
    """This model or task can't be trained in this form; the text says why."""


def plain_sgd(training: TrainingTable) -> bool:
    """Whether the optimiser's step is exactly y <- y - lr g(y)."""
    return (
        training.optimizer == "sgd"
        and not training.momentum
        and not training.weight_decay
        and training.max_grad_norm is None
    )


@dataclass
class CohortWork:
    """Local training of C clients, in the order of their batches.

    inputs, targets : pooled examples, N x ...
    start : trainable parameters by name; of shape P, or C x P for those in ``own``
    fixed : the model's other entries by name: buffers, and parameters that aren't trained
    own : names of parameters that start from each client's own values
    proximal, shift : every gradient gets proximal (y - x) + shift; shift is C x P by name, for the
        parameters that have one; proximal takes part only for ``shared``
    shared : names that ``proximal`` is for
    seeds : gives C seeds, of each client's generator for dropout; called only where there is any
    """

    batches: CohortBatches
    training: TrainingTable
    lr: float
    inputs: Tensor
    targets: Tensor
    start: dict[str, Tensor]
    seeds: Callable[[], Sequence[int]]
    fixed: dict[str, Tensor] = field(default_factory=dict)
    own: frozenset[str] = frozenset()
    proximal: float = 0.0
    shift: dict[str, Tensor] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()

    @property
    def clients(self) -> int:
        """C."""
        return len(self.batches.steps)

    def is_plain_sgd(self) -> bool:
        """Whether a step is exactly y <- y - lr g(y)."""
        return plain_sgd(self.training) and not self.proximal and not self.shift


@dataclass(frozen=True)
class Need:
    """What the memory that a client takes depends on.

    shapes : of the trainable parameters, by name
    plain_sgd : as ``CohortWork.is_plain_sgd``
    examples : how many the client has
    example_numbers : in one example's input
    slots : of a batch
    """

    shapes: dict[str, torch.Size]
    plain_sgd: bool
    examples: int
    example_numbers: int
    slots: int

    @property
    def parameters(self) -> int:
        """P."""
        return sum(shape.numel() for shape in self.shapes.values())


def rows_of(pool: Tensor, rows: Tensor) -> Tensor:
    """``pool[rows]``, whatever the shape of ``rows``, at a tenth of its time on a CPU."""
    return pool.index_select(0, rows.flatten()).reshape(*rows.shape, *pool.shape[1:])


class CohortResult(ABC):
    """What C clients have learnt, in the order of their batches (``CohortBatches.clients``).

    losses : C float32, each client's mean over its steps of the batch's mean loss
    """

    losses: Tensor

    @abstractmethod
    def client(self, index: int) -> dict[str, Tensor]:
        """The trained parameters of one client, by name."""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Of the trained parameters."""

    def clients(self, rows: slice) -> dict[str, Tensor]:
        """``client`` of several: clients x P by name."""
        found = [self.client(index) for index in range(rows.start, rows.stop)]
        return {name: torch.stack([one[name] for one in found]) for name in self.names}

    @abstractmethod
    def weighted_change(self, weights: Tensor) -> dict[str, Tensor]:
        """sum over clients of weight (y - x), float64, by name; ``weights``: C float32."""

    @abstractmethod
    def norms(self) -> Tensor:
        """|y - x|_2 of each client, over all its trained parameters: C float64."""

    @abstractmethod
    def is_sound(self) -> bool:
        """Whether every parameter of every client is a number of a healthy size."""


class StackedResult(CohortResult):
    """Parameters that were formed for every client: C x P by name."""

    def __init__(
        self, start: dict[str, Tensor], parameters: dict[str, Tensor], losses: Tensor
    ) -> None:
        self.losses = losses
        self._start, self._parameters = start, parameters

    @property
    def names(self) -> list[str]:
        return list(self._parameters)

    def client(self, index: int) -> dict[str, Tensor]:
        return {name: value[index] for name, value in self._parameters.items()}

    def clients(self, rows: slice) -> dict[str, Tensor]:
        return {name: value[rows] for name, value in self._parameters.items()}

    def weighted_change(self, weights: Tensor) -> dict[str, Tensor]:
        # sum of w y less the sum of w times x: no copy of C parameters for their differences
        total = float(weights.double().sum())
        change = {}
        for name, y in self._parameters.items():
            x = self._start[name].double()
            sums = torch.mv(y.flatten(1).t(), weights).reshape(x.shape).double()
            change[name] = sums - total * x
        return change

    def norms(self) -> Tensor:
        squares = torch.zeros(len(self.losses), dtype=torch.float64, device=self.losses.device)
        for name, y in self._parameters.items():
            # each number's change in float32, as a client sends it; their squares added in float64
            change = (y - self._start[name]).flatten(1)
            squares += torch.linalg.vector_norm(change, dim=1, dtype=torch.float64).square()
        return squares.sqrt()

    def is_sound(self) -> bool:
        # far below where float32's squares overflow (1.8e19); a NaN is neither above nor below
        limit = 1e12
        for value in self._parameters.values():
            low, high = torch.aminmax(value)
            if not (float(low) >= -limit and float(high) <= limit):
                return False
        return True


class Engine(ABC):
    """One form of training a cohort."""

    name: str
    note = ""
    """What a user should know of it."""

    @abstractmethod
    def train(self, work: CohortWork) -> CohortResult:
        """Train all clients; what ``work`` holds stays as it is. Raises Unsuited where this form
        can't: another may."""

    @abstractmethod
    def client_bytes(self, need: Need) -> int:
        """About how much memory one client takes while it trains. Of model and data alone, so that
        chunks, and with them every rounding, are the same in each run on a machine."""
