"""Strategies whose personal part is the hospitals' alone: at the server each is FedAvg.

Each hospital's own model or layers, and what it does in its local steps, are in
``client/algorithms``; its options are read there, from the accepted settings.
"""

from __future__ import annotations

from typing import ClassVar

from flwr.serverapp.strategy import FedAvg

from wardround.server.strategies.base import MeanStrategy


class Ditto(MeanStrategy):
    """Li et al. 2021, arXiv 2012.04221: the shared model is FedAvg's.

    Parameters
    ----------
    pull : of the hospitals' own models
    """

    algorithm: ClassVar[str] = "ditto"
    aggregate_train = FedAvg.aggregate_train

    def __init__(self, pull: float = 0.1) -> None:
        super().__init__()
        self.pull = pull
