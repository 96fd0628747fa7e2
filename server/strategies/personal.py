"""Strategies whose personal part is the hospitals' alone: at the server each is FedAvg.

Each hospital's own model or layers, and what it does in its local steps, are in
``client/algorithms``; its options are read there, from the accepted settings.
"""

from __future__ import annotations

from typing import ClassVar

from flwr.serverapp.strategy import FedAvg

from wardround.common.protocol.strategy import PROXIMAL_MU
from wardround.server.strategies.base import MeanStrategy


class FedPer(MeanStrategy):
    """Arivazhagan et al. 2019, arXiv 1912.00818: the shared layers are FedAvg's, or FedProx's.

    Parameters
    ----------
    proximal_mu : of FedProx's term, which the hospitals add
    """

    aggregate_train = FedAvg.aggregate_train

    def __init__(self, proximal_mu: float = 0.0) -> None:
        super().__init__()
        self.proximal_mu = proximal_mu

    def request_config(self) -> dict[str, float]:
        return {PROXIMAL_MU.key: float(self.proximal_mu)}


class FedRep(FedPer):
    """Collins et al. 2021, arXiv 2102.07078: the same.

    Parameters
    ----------
    head_epochs : of the hospitals' personal layers
    """

    algorithm: ClassVar[str] = "fedrep"

    def __init__(self, proximal_mu: float = 0.0, head_epochs: int = 10) -> None:
        super().__init__(proximal_mu)
        self.head_epochs = head_epochs


class Apfl(MeanStrategy):
    """Deng et al. 2020, arXiv 2003.13461: the shared model is FedAvg's.

    Parameters
    ----------
    mixing, adaptive : of the hospitals' own models
    """

    algorithm: ClassVar[str] = "apfl"
    aggregate_train = FedAvg.aggregate_train

    def __init__(self, mixing: float = 0.5, adaptive: bool = True) -> None:
        super().__init__()
        self.mixing, self.adaptive = mixing, adaptive


class Moon(MeanStrategy):
    """Li et al. 2021, arXiv 2103.16257: the model is FedAvg's.

    Parameters
    ----------
    contrast, temperature : of the hospitals' contrastive loss
    """

    algorithm: ClassVar[str] = "moon"
    aggregate_train = FedAvg.aggregate_train

    def __init__(self, contrast: float = 1.0, temperature: float = 0.5) -> None:
        super().__init__()
        self.contrast, self.temperature = contrast, temperature


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
