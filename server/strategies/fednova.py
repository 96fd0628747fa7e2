"""FedNova, server side (Wang et al. 2020, arXiv 2007.07481), for plain SGD: a_i = K_i local steps.

    x <- x - tau_eff * sum_i p_i d_i,   tau_eff = sum_i p_i a_i,   p_i the aggregation weights

Clients send x - d_i (``client/algorithms/fednova.py``), so x - sum p_i d_i is what arrives.
"""

from __future__ import annotations

from flwr.app import MetricRecord

from wardround.common.config.load import Config
from wardround.common.flower.arrays import Arrays
from wardround.common.protocol.names import LOCAL_STEPS
from wardround.server.strategies.base import MeanStrategy


class FedNova(MeanStrategy):
    """Hospitals that take more local steps no longer pull the model towards their own optimum."""

    algorithm = "fednova"

    @staticmethod
    def check(config: Config) -> None:
        if config.training.optimizer != "sgd" or config.training.momentum:
            raise config.error(
                "training.optimizer",
                "fednova normalises steps of plain SGD; set optimizer = 'sgd' and momentum = 0",
            )

    def step(self, mean: Arrays, records: dict[str, Arrays], metrics: MetricRecord) -> Arrays:
        tau_eff = metrics[LOCAL_STEPS]
        assert isinstance(tau_eff, float)  # a gatherer's mean of numbers that were checked
        return {
            name: self.x[name] + tau_eff * (mean[name] - self.x[name]) for name in self.trainable
        }
