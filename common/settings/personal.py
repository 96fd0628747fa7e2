"""The options of strategies that fit a model to each hospital; see ``strategies.py``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from wardround.common.settings.strategy_options import StrategyOptions


class FedBnOptions(StrategyOptions):
    """Batch normalisation stays at each hospital."""

    keeps: ClassVar[str] = "layers"
    paper: ClassVar[str] = "Li et al. 2021, 2102.07623"
    by: ClassVar[str] = "ours"


class DittoOptions(StrategyOptions):
    """A whole model of its own at each hospital, pulled towards the shared one."""

    algorithm: ClassVar[str] = "ditto"
    keeps: ClassVar[str] = "model"
    paper: ClassVar[str] = "Li et al. 2021, 2012.04221"
    by: ClassVar[str] = "ours"

    pull: float = Field(
        0.1,
        ge=0,
        le=1e4,
        description="the paper's lambda, of lambda / 2 |v - w|^2; with 0 each hospital's own model "
        "is its alone",
    )


class FedPerOptions(StrategyOptions):
    """The last layer stays at each hospital, or what `personal_layers` names."""

    keeps: ClassVar[str] = "layers"
    paper: ClassVar[str] = "Arivazhagan et al. 2019, 1912.00818"
    by: ClassVar[str] = "ours"
    remark: ClassVar[str] = "as `personal_layers` with fedavg or, with a `proximal_mu`, fedprox"

    proximal_mu: float = Field(
        0.0, ge=0, le=1e4, description="weight of fedprox's term on the shared layers"
    )


class FedRepOptions(FedPerOptions):
    """As fedper, and local steps move the personal layers first, then the shared ones."""

    algorithm: ClassVar[str] = "fedrep"
    paper: ClassVar[str] = "Collins et al. 2021, 2102.07078"
    remark: ClassVar[str] = "`local_epochs` and `local_steps` are those of the shared layers"

    head_epochs: int = Field(
        10, ge=1, le=1000, description="of the personal layers, before the shared ones move"
    )


class ApflOptions(StrategyOptions):
    """A model of its own at each hospital, mixed with the shared one by a weight that it learns."""

    algorithm: ClassVar[str] = "apfl"
    keeps: ClassVar[str] = "model"
    paper: ClassVar[str] = "Deng et al. 2020, 2003.13461"
    by: ClassVar[str] = "ours"

    mixing: float = Field(
        0.5, ge=0, le=1, description="the paper's alpha: the own model's share, at first"
    )
    adaptive: bool = Field(
        True, description="the share learns, by a step of the learning rate at each round's start"
    )


class MoonOptions(StrategyOptions):
    """A row's representation is drawn to the shared model's and from the last local model's."""

    algorithm: ClassVar[str] = "moon"
    paper: ClassVar[str] = "Li et al. 2021, 2103.16257"
    by: ClassVar[str] = "ours"
    remark: ClassVar[str] = "the representation is the last layer's input, without a projection"

    contrast: float = Field(
        1.0, ge=0, le=1e4, description="the paper's mu: weight of the contrastive loss"
    )
    temperature: float = Field(
        0.5, ge=1e-3, le=1e3, description="the paper's tau, of cosine similarities"
    )


PERSONAL: dict[str, type[StrategyOptions]] = {
    "fedbn": FedBnOptions,
    "fedper": FedPerOptions,
    "fedrep": FedRepOptions,
    "ditto": DittoOptions,
    "apfl": ApflOptions,
    "moon": MoonOptions,
}
"""By name."""
