"""FedDyn, server side (Acar et al. 2021, arXiv 2111.04263, algorithm 1).

h <- h - alpha * 1/N * sum_S(y_i - x)
x <- mean_S(y_i) - h / alpha
"""

from __future__ import annotations

from flwr.app import MetricRecord

from wardround.common.flower.arrays import Arrays
from wardround.common.protocol.strategy import FEDDYN_ALPHA
from wardround.server.strategies.base import MeanStrategy, zeros


class FedDyn(MeanStrategy):
    """Dynamic regularisation: local optima are bent until they agree with the global one.

    Parameters
    ----------
    alpha : weight of the regulariser; the paper uses 0.001 to 0.1
    """

    algorithm = "feddyn"
    weighting = "uniform"

    def __init__(self, alpha: float = 0.01) -> None:
        super().__init__()
        if not alpha > 0:
            raise ValueError("alpha must be positive")
        self.alpha = alpha
        self.h: Arrays = {}

    def prepare(self, arrays: Arrays, trainable: list[str], population: int) -> None:
        super().prepare(arrays, trainable, population)
        self.h = zeros(arrays, trainable)

    def request_config(self) -> dict[str, float]:
        return {FEDDYN_ALPHA.key: float(self.alpha)}

    def step(self, mean: Arrays, records: dict[str, Arrays], metrics: MetricRecord) -> Arrays:
        share = self.alpha * self.accepted / self.population
        self.h = {
            name: h - (share * (mean[name] - self.x[name])).astype(h.dtype)
            for name, h in self.h.items()
        }
        return {name: mean[name] - self.h[name] / self.alpha for name in self.trainable}
