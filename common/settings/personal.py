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


PERSONAL: dict[str, type[StrategyOptions]] = {
    "fedbn": FedBnOptions,
    "ditto": DittoOptions,
}
"""By name."""
