"""The sums that answer a message for a group of clients, as they grow and as they travel."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from wardround.client.privacy.book import Balance
from wardround.common.errors import ReplyRefused
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Arrays, check_finite
from wardround.common.protocol import names as m
from wardround.common.protocol.cohort import CohortEvaluateReply, CohortTrainReply, StackedSums
from wardround.common.protocol.errors import failed
from wardround.common.protocol.message import Content
from wardround.common.text import one_line
from wardround.server.strategies.aggregation import RunningMean
from wardround.simulations.executors.changes import Changes

Refused = dict[int, str]
"""Why clients are not in a group's sums, by node."""


class GroupSums(ABC):
    """The answer to a training message for a group, as it grows: what a client's change goes
    through before it is added is here, and nowhere else.

    accepted : nodes whose updates are in it
    refused : why others are not
    in_order : whether clients are trained in chunks of their own order, as single messages are: the
        sums of these must be had to the bit
    """

    in_order: ClassVar[bool] = False
    accepted: list[int]
    refused: Refused

    @abstractmethod
    def weights(self, rows: Sequence[int]) -> NDArray[np.float64]:
        """What each client's update counts for, by how many rows it has announced."""

    @abstractmethod
    def add_client(
        self, node_id: int, arrays: Arrays, *, weight: float, loss: float, steps: int
    ) -> None:
        """Add one client's update: the arrays of its model after training. Raises ReplyRefused for
        bad ones."""

    @abstractmethod
    def add_changes(self, changes: Changes) -> None:
        """Add those of a chunk's clients, as ``add_client`` would one after the other. Raises
        ReplyRefused, with nothing added, where one of them is bad."""

    @abstractmethod
    def content(self) -> Content:
        """What a reply to the group's message holds."""

    @abstractmethod
    def add_content(self, content: Content) -> None:
        """Add what a worker's ``content`` gave. Raises ReplyRefused for anything else."""


@dataclass
class TrainingSums(GroupSums):
    """The answer in plain.

    weighting : 'examples' or 'uniform'
    mean : weighted sums of the clients' arrays, sum_i w_i y_i
    accepted : nodes whose updates are in it
    loss, steps : weighted sums too
    quantile : where the clipping norm adapts, the sum of the clients' coordinates
    balances : in a private run, of the ledgers of all who have paid, by node
    spent : of ``refused``, whose budget or ledger didn't allow it
    """

    mean: RunningMean
    accepted: list[int] = field(default_factory=list)
    refused: Refused = field(default_factory=dict)
    loss: float = 0.0
    steps: float = 0.0
    quantile: float | None = None
    balances: dict[int, Balance] = field(default_factory=dict)
    spent: list[int] = field(default_factory=list)
    weighting: str = "uniform"

    def weights(self, rows: Sequence[int]) -> NDArray[np.float64]:
        counts = np.array(rows, dtype=np.float64)
        return counts if self.weighting == "examples" else np.ones(len(counts))

    def add_client(
        self, node_id: int, arrays: Arrays, *, weight: float, loss: float, steps: int
    ) -> None:
        """Fold one client's arrays in, as the server would. Raises ReplyRefused for bad ones."""
        if not math.isfinite(loss):
            raise ReplyRefused(f"{m.TRAIN_LOSS} is not a finite number; lower training.lr?")
        for name, value in arrays.items():
            check_finite(name, value, trained=True)
        self.mean.add(arrays, weight)
        self._count([node_id], loss * weight, steps * weight)

    def add_changes(self, changes: Changes) -> None:
        """sum_i w_i (x + s_i (y_i - x)), where the strategy scales a client's change by s_i. Worked
        out as (sum_i w_i) x + sum_i w_i s_i (y_i - x), so that no client's array is needed."""
        weights = self.weights(changes.rows)
        total = float(weights.sum())
        added = {name: value * np.float64(total) for name, value in changes.arrays.items()}
        for name, value in changes.weighted(weights).items():
            added[name] = added[name] + value
        self.add_sums(
            changes.nodes,
            added,
            weight=total,
            loss=float(changes.losses @ weights),
            steps=float(changes.steps @ weights),
        )

    def add_sums(
        self, node_ids: Sequence[int], sums: Arrays, *, weight: float, loss: float, steps: float
    ) -> None:
        """Fold in what others have added already: ``sums``, ``weight``, ``loss`` and ``steps`` are
        weighted sums over these nodes."""
        self.mean.add_sums(sums, weight, len(node_ids))
        self._count(node_ids, loss, steps)

    def add_quantile(self, quantile: float) -> None:
        """The sum of further clients' quantile coordinates."""
        self.quantile = (self.quantile or 0.0) + quantile

    def _count(self, node_ids: Sequence[int], loss: float, steps: float) -> None:
        self.accepted += node_ids
        self.loss += loss
        self.steps += steps

    def content(self) -> Content:
        """What a reply to the group's message holds."""
        paid = self.accepted if self.balances else []  # a worker's part is paid for elsewhere
        return CohortTrainReply(
            accepted=tuple(self.accepted),
            refused=self.refused,
            weight=self.mean.weight,
            loss=self.loss,
            steps=self.steps,
            sums=self.mean.sums(),
            quantile=self.quantile,
            epsilons=tuple(self.balances[one].epsilon for one in paid),
            more=tuple(one for one in paid if self.balances[one].more),
            spent=tuple(self.spent),
        ).to_records()

    def add_content(self, content: Content) -> None:
        """Fold in what a worker's ``content`` gave. Raises ReplyRefused for anything else."""
        reply = CohortTrainReply.from_records(content)
        self.refused |= reply.refused
        if reply.quantile is not None:
            self.add_quantile(reply.quantile)
        if reply.accepted:
            self.add_sums(
                reply.accepted,
                dict(reply.sums),
                weight=reply.weight,
                loss=reply.loss,
                steps=reply.steps,
            )


class EvaluationSums:
    """Metric sums by client and split; clients whose sums have equal names and shapes together."""

    def __init__(self) -> None:
        self.refused: Refused = {}
        self._alike: dict[tuple[object, ...], tuple[str, list[int], list[Sums]]] = {}

    def add(self, split: str, node_id: int, sums: Sums) -> None:
        """One client's sums of one split."""
        key = (split, *((name, value.shape) for name, value in sums.items()))
        _, nodes, parts = self._alike.setdefault(key, (split, [], []))
        nodes.append(node_id)
        parts.append(sums)

    def content(self) -> Content:
        """What a reply holds: sums stacked over the clients that have them alike."""
        parts = (
            StackedSums(
                split,
                tuple(nodes),
                {name: np.stack([part[name] for part in parts]) for name in parts[0]},
            )
            for split, nodes, parts in self._alike.values()
        )
        return CohortEvaluateReply(tuple(parts), self.refused).to_records()

    def add_content(self, content: Content) -> None:
        """Add what a worker's ``content`` gave, client by client, as it would be had here."""
        reply = CohortEvaluateReply.from_records(content)
        self.refused |= reply.refused
        for part in reply.parts:
            for index, node in enumerate(part.clients):
                self.add(part.split, node, {key: value[index] for key, value in part.sums.items()})


def failed_with(reason: str) -> str:
    """The line of a client that failed, as the server words it."""
    return failed(one_line(reason))
