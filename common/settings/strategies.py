"""The options of each built-in strategy: range, default, meaning, and how many hospitals it needs.

``docs/strategies.md`` is made from here. Defaults are those of the class that does the work
(``server/strategies/``), to which the options go.
"""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from wardround.common.settings.base import MANY
from wardround.common.settings.personal import PERSONAL
from wardround.common.settings.strategy_options import StrategyOptions


class FedProxOptions(StrategyOptions):
    """A pull towards the received model."""

    paper: ClassVar[str] = "Li et al. 2020, 1812.06127"

    proximal_mu: float = Field(
        0.0, ge=0, le=1e4, description="weight of the proximal term; with 0 it is fedavg"
    )


class ServerMomentumOptions(StrategyOptions):
    """Momentum at the server."""

    paper: ClassVar[str] = "Hsu et al. 2019, 1909.06335"

    server_learning_rate: float = Field(
        1.0, gt=0, le=1e3, description="of the server's step on the mean update"
    )
    server_momentum: float = Field(
        0.0, ge=0, lt=1, description="of these steps; with 0 and a rate of 1 it is fedavg"
    )


class FedAdagradOptions(StrategyOptions):
    """An adaptive server."""

    paper: ClassVar[str] = "Reddi et al. 2021, 2003.00295"

    eta: float = Field(0.1, gt=0, le=1e3, description="the server's learning rate")
    tau: float = Field(
        1e-3, ge=1e-9, le=1e3, description="added to the root of the second moment: less adaptive"
    )


class FedAdamOptions(FedAdagradOptions):
    """An adaptive server with two moments."""

    remark: ClassVar[str] = (
        "Flower's form, with Adam's bias correction of the first rounds (Kingma and Ba 2014), "
        "which the cited paper leaves out"
    )

    beta_1: float = Field(0.9, ge=0, le=0.9999, description="decay of the first moment")
    beta_2: float = Field(0.99, ge=0, le=0.9999, description="decay of the second moment")


class FedYogiOptions(FedAdagradOptions):
    """As fedadam, with a second moment that grows slowly."""

    eta: float = Field(0.01, gt=0, le=1e3, description="the server's learning rate")
    beta_1: float = Field(0.9, ge=0, le=0.9999, description="decay of the first moment")
    beta_2: float = Field(0.99, ge=0, le=0.9999, description="decay of the second moment")


class ScaffoldOptions(StrategyOptions):
    """Control variates."""

    algorithm: ClassVar[str] = "scaffold"
    weighting: ClassVar[str] = "uniform"
    paper: ClassVar[str] = "Karimireddy et al. 2020, 1910.06378"
    by: ClassVar[str] = "ours"

    server_learning_rate: float = Field(
        1.0, gt=0, le=1e3, description="of the server's step on the mean update"
    )


class FedNovaOptions(StrategyOptions):
    """Updates normalised by their steps."""

    algorithm: ClassVar[str] = "fednova"
    paper: ClassVar[str] = "Wang et al. 2020, 2007.07481"
    by: ClassVar[str] = "ours"


class FedDynOptions(StrategyOptions):
    """Dynamic regularisation."""

    algorithm: ClassVar[str] = "feddyn"
    weighting: ClassVar[str] = "uniform"
    paper: ClassVar[str] = "Acar et al. 2021, 2111.04263"
    by: ClassVar[str] = "ours"

    alpha: float = Field(
        0.01, ge=1e-6, le=1e4, description="weight of the regulariser; the paper uses 0.001 to 0.1"
    )


class FedMedianOptions(StrategyOptions):
    """The median of each coordinate."""

    paper: ClassVar[str] = "Yin et al. 2018, 1803.01498"


class FedTrimmedAvgOptions(FedMedianOptions):
    """The mean of each coordinate without its extremes."""

    beta: float = Field(
        0.2,
        gt=0,
        lt=0.5,
        description="share that is cut off at either end; of n hospitals floor(beta n), at least 1",
    )

    def why_not(self, hospitals: int) -> tuple[str, str] | None:
        if hospitals < 3:
            return "name", f"needs 3 hospitals a round, and there are {hospitals}; use fedmedian"
        if int(self.beta * hospitals) < 1:
            least = math.ceil(1000 / hospitals) / 1000
            return "beta", (
                f"{self.beta:g} of {hospitals} hospitals is less than one, so nothing would be cut "
                f"off; set it to {least:g} or more, below 0.5, or use fedmedian"
            )
        return None


class KrumOptions(StrategyOptions):
    """The update that is nearest to its neighbours."""

    paper: ClassVar[str] = "Blanchard et al. 2017, 1703.02757"
    each: ClassVar[int] = 2
    """Hospitals that the rule needs for each malicious one, besides three."""

    num_malicious_nodes: int = Field(
        0, ge=0, le=MANY, description="f hospitals may send anything; of n, 2 f + 3 <= n"
    )

    def fewest(self) -> int:
        return self.each * self.num_malicious_nodes + 3

    def why_not(self, hospitals: int) -> tuple[str, str] | None:
        if hospitals < 3:
            return "name", f"needs 3 hospitals a round, and there are {hospitals}; use fedmedian"
        if hospitals < self.fewest():
            most = (hospitals - 3) // self.each
            return "num_malicious_nodes", (
                f"{self.num_malicious_nodes} among {hospitals} hospitals a round are more than the "
                f"rule can bear; set it to {most} at most"
            )
        return None


class MultiKrumOptions(KrumOptions):
    """The mean of the updates that are nearest to their neighbours."""

    num_nodes_to_select: int = Field(
        1,
        ge=1,
        le=MANY,
        description="so many updates are averaged; at most n - f; with 1 it is krum",
    )

    def fewest(self) -> int:
        return max(super().fewest(), self.num_nodes_to_select + self.num_malicious_nodes)

    def why_not(self, hospitals: int) -> tuple[str, str] | None:
        left = hospitals - self.num_malicious_nodes
        if hospitals >= super().fewest() and self.num_nodes_to_select > left:
            return "num_nodes_to_select", (
                f"{self.num_nodes_to_select} of {hospitals} hospitals a round, "
                f"{self.num_malicious_nodes} of them malicious, are too many; set it to {left} at "
                "most"
            )
        return super().why_not(hospitals)


class BulyanOptions(KrumOptions):
    """Krum, then a trimmed mean of what it selects."""

    paper: ClassVar[str] = "El Mhamdi et al. 2018, 1802.07927"
    each: ClassVar[int] = 4

    num_malicious_nodes: int = Field(
        0, ge=0, le=MANY, description="f hospitals may send anything; of n, 4 f + 3 <= n"
    )


STRATEGIES: dict[str, type[StrategyOptions]] = {
    "fedavg": StrategyOptions,
    "fedprox": FedProxOptions,
    "fedavgm": ServerMomentumOptions,
    "fedadam": FedAdamOptions,
    "fedadagrad": FedAdagradOptions,
    "fedyogi": FedYogiOptions,
    "scaffold": ScaffoldOptions,
    "fednova": FedNovaOptions,
    "feddyn": FedDynOptions,
    **PERSONAL,
    "fedmedian": FedMedianOptions,
    "fedtrimmedavg": FedTrimmedAvgOptions,
    "krum": KrumOptions,
    "multikrum": MultiKrumOptions,
    "bulyan": BulyanOptions,
}
