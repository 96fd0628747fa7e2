"""SCAFFOLD, server side (Karimireddy et al. 2020, arXiv 1910.06378, algorithm 1).

x <- x + eta_g * mean_S(y_i - x)
c <- c + |S|/N * mean_S(c_i+ - c_i)
"""

from __future__ import annotations

from flwr.app import MetricRecord

from wardround.common.config.load import Config
from wardround.common.flower.arrays import Arrays, Layout
from wardround.common.protocol.names import CONTROL
from wardround.server.strategies.base import MeanStrategy, zeros


class Scaffold(MeanStrategy):
    """Control variates against client drift; clients keep c_i, the server keeps c.

    Parameters
    ----------
    server_learning_rate : eta_g; the paper's experiments use 1.0
    """

    algorithm = "scaffold"
    weighting = "uniform"

    def __init__(self, server_learning_rate: float = 1.0) -> None:
        super().__init__()
        self.server_learning_rate = server_learning_rate
        self.c: Arrays = {}

    @staticmethod
    def check(config: Config) -> None:
        if config.training.optimizer != "sgd" or config.training.momentum:
            raise config.error(
                "training.optimizer",
                "scaffold's control variates are defined for plain SGD; set optimizer = 'sgd' and "
                "momentum = 0",
            )

    def prepare(self, arrays: Arrays, trainable: list[str], population: int) -> None:
        super().prepare(arrays, trainable, population)
        self.c = zeros(arrays, trainable)

    def reply_records(self, trainable: Layout) -> dict[str, Layout]:
        return {CONTROL: trainable}

    def request_records(self) -> dict[str, Arrays]:
        return {CONTROL: self.c}

    def step(self, mean: Arrays, records: dict[str, Arrays], metrics: MetricRecord) -> Arrays:
        fraction = self.accepted / self.population
        self.c = {
            name: c + (fraction * records[CONTROL][name]).astype(c.dtype)
            for name, c in self.c.items()
        }
        eta_g = self.server_learning_rate
        return {name: self.x[name] + eta_g * (mean[name] - self.x[name]) for name in self.trainable}
