"""Strategies of our own: the server's half, working on weighted means alone.

Notation as in the papers: x the global model, y_i a client's model, S the clients whose replies
were accepted, N all clients. ``aggregate_train`` gets one reply that holds the weighted mean of the
y_i as ``arrays``, and the plain mean of any further record, so every one of these strategies keeps
working when the server can't see single updates. x and y_i are parameters: statistics and counters
are averaged without them (``view.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from wardround.common.config.load import Config
from wardround.common.flower.arrays import Arrays, Layout, decode_arrays, encode_arrays
from wardround.common.protocol.names import records_of

SAMPLING = {"fraction_train": 1.0, "fraction_evaluate": 1.0, "min_train_nodes": 1}
SAMPLING |= {"min_evaluate_nodes": 1, "min_available_nodes": 1}
"""Attributes that switch Flower's own sampling off: the cohort is drawn before a strategy is
asked."""


class MeanStrategy(FedAvg):
    """Base of our strategies. ``trainable`` names the parameters that an optimiser moves."""

    algorithm: ClassVar[str] = "plain"
    weighting: ClassVar[str] = "examples"

    def __init__(self) -> None:
        super().__init__()
        self.x: dict[str, NDArray[Any]] = {}
        self.trainable: list[str] = []
        self.accepted = 0
        self.population = 0

    @staticmethod
    def check(config: Config) -> None:
        """Raise ConfigError if the configuration doesn't suit the strategy."""

    def prepare(self, arrays: Arrays, trainable: list[str], population: int) -> None:
        """Called once, before round 1 (a resumed run restores the state instead)."""
        self.trainable, self.population = trainable, population

    def reply_records(self, trainable: Layout) -> dict[str, Layout]:
        """Array records that each training reply must hold besides ``arrays``."""
        return {}

    def request_records(self) -> dict[str, Arrays]:
        """Array records that each training request holds besides ``arrays``."""
        return {}

    def request_config(self) -> dict[str, float]:
        """Numbers that each training request's config holds."""
        return {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self.x = {name: array.numpy() for name, array in arrays.items()}
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        (reply,) = replies
        records = {k: decode_arrays(v) for k, v in records_of(reply.content, ArrayRecord).items()}
        metrics = next(iter(records_of(reply.content, MetricRecord).values()))
        mean = records.pop(self.arrayrecord_key)
        moved = self.step(mean, records, metrics)
        return encode_arrays(mean | moved), metrics

    def step(self, mean: Arrays, records: dict[str, Arrays], metrics: MetricRecord) -> Arrays:
        """New values of the trainable parameters."""
        return {name: mean[name] for name in self.trainable}


def zeros(arrays: Arrays, names: list[str]) -> Arrays:
    """Zero arrays of the same shapes and dtypes."""
    return {name: np.zeros_like(arrays[name]) for name in names}
