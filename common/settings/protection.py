"""``[secure_aggregation]`` and ``[privacy]``: what nobody else learns."""

from __future__ import annotations

import math
from typing import Literal, get_args

from pydantic import Field, model_validator

from wardround.common.settings.base import MANY, Table
from wardround.common.settings.key_errors import WrongKey

Engine = Literal["auto", "own", "opacus"]
OWN_PRIVACY = ("epsilon_limit", "engine")
"""Keys of ``[privacy]`` that are each hospital's own: they change neither what is released nor what
it costs."""


class SecureAggregationTable(Table):
    """``[secure_aggregation]``: the server learns sums over hospitals and nothing else.

    ``min_cohort``, ``colluding`` and ``threads`` are each hospital's own.
    """

    enabled: bool = Field(
        True, description="`false`: the server sees every hospital's update and metrics"
    )
    bits: Literal[16, 32] = Field(
        32, description="of an update's coordinate; `16` halves what is sent, with fewer levels"
    )
    clip: float = Field(
        8.0,
        ge=1e-9,
        le=1e9,
        description="largest change of a coordinate in a round; more is clipped, and told",
    )
    max_examples: int | None = Field(
        None,
        ge=1,
        lt=2**53,
        description="a hospital counts for at most so many rows; left out: the largest hospital's, "
        "as with any number above it",
    )
    threshold: float = Field(
        0.667,
        ge=0.5,
        lt=1,
        description="share of a cohort of n: floor(share n) + 1 open a sum; the rest may drop out",
    )
    colluding: int = Field(
        0,
        ge=0,
        le=MANY,
        description=(
            "hospitals that may collude with the server; the threshold must be above (n + c) / 2, "
            "and above 64 hospitals the graph of masks grows with them"
        ),
    )
    min_cohort: int = Field(
        3, ge=2, le=MANY, description="fewest hospitals whose sum a hospital lets be opened"
    )
    threads: int = Field(1, ge=1, le=64, description="to expand masks of large models")
    blind: bool = Field(
        False,
        description="`true`: the server can't read the sum of updates either, nor any model of "
        "rounds: only hospitals can",
    )
    scheme: Literal["masks", "ckks"] = Field(
        "masks",
        description="with `blind`: what hides the sum of updates from the server, a mask or "
        "homomorphic encryption over masks (`pip install 'wardround[ckks]'` at hospitals)",
    )
    degree: Literal[8192, 4096] = Field(
        8192,
        description="of the ring; 4096 has half the bytes, 8192 NVIDIA FLARE's parameters",
    )


Purpose = Literal["training", "preparation", "evaluation", "statistics"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
"""What a release is for; ``statistics`` is every step of a study that trains nothing."""


class SharesTable(Table):
    """``[privacy.shares]``: what part of ``privacy.epsilon`` a purpose has.

    In squares of one over the noise, which add up: with a share s a purpose's sums together have
    1 / sqrt(s) of the noise that one release for the whole epsilon would have.
    """

    preparation: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="of what a training unit may cost: the preparation's; training has the rest",
    )
    evaluation: float = Field(
        1.0,
        gt=0,
        le=1,
        description=(
            "of what a held-out unit may cost: all figures' together; it trains nothing, so "
            "training has none the less"
        ),
    )


class PrivacyTable(Table):
    """``[privacy]``: differential privacy of an example, a patient or a whole hospital.

    ``epsilon_limit`` and ``engine`` are each hospital's own.
    """

    unit: Literal["none", "example", "patient", "hospital"] = Field(
        "none",
        description=(
            "what is protected: an `example` (a row), a `patient` (all rows of one) or a `hospital`"
        ),
    )
    noise: Literal["local", "distributed", "central"] = Field(
        "local",
        description=(
            "who adds it: `local` each hospital all, `distributed` each a share that only masked "
            "sums carry in full, `central` a trusted server"
        ),
    )
    epsilon: float | None = Field(
        None, ge=1e-3, le=1e4, description="to be reached in the last round; the noise follows"
    )
    delta: float = Field(
        1e-5, ge=1e-15, le=0.1, description="choose well below 1 over the number of units"
    )
    noise_multiplier: float | None = Field(
        None, ge=1e-9, le=1e4, description="noise over clipping norm; epsilon follows"
    )
    clipping: Literal["flat", "per_layer", "adaptive"] = Field(
        "flat",
        description=(
            "`per_layer`: each layer by itself; `adaptive`: the norm follows a quantile, which is "
            "paid for"
        ),
    )
    clipping_norm: float = Field(
        1.0,
        ge=1e-6,
        le=1e6,
        description=(
            "largest norm of a unit's gradient, or of an update where the unit is `hospital`; the "
            "first one if adaptive"
        ),
    )
    target_quantile: float = Field(
        0.5, gt=0, lt=1, description="share of units whose norm is to be within"
    )
    clipping_lr: float = Field(0.2, gt=0, le=10, description="how fast the norm follows")
    covers: list[Purpose] | None = Field(
        None,
        min_length=1,
        description=(
            "what is noised and paid for; left out: all that these settings allow ([what that "
            "is](privacy.md#what-is-covered)). A study that trains nothing needs `statistics`"
        ),
    )
    shares: SharesTable = SharesTable()
    records_per_patient: int = Field(
        32, ge=1, le=MANY, description="of a patient with more, so many rows are drawn once"
    )
    size_noise: float = Field(
        20.0,
        gt=0,
        le=1e4,
        description="standard deviation of the noise on announced numbers of units",
    )
    epsilon_limit: float | None = Field(
        None,
        ge=1e-3,
        le=1e4,
        description=(
            "a hospital refuses a round that would pass it, over all runs in its ledger; left out: "
            "`epsilon`"
        ),
    )

    engine: Engine = Field(
        "auto",
        description=(
            "what forms the units' gradients: `own`, `opacus`, or `auto`, the faster that is right "
            "for the model: [engines](privacy.md#engines)"
        ),
    )

    @model_validator(mode="after")
    def _is_determined(self) -> PrivacyTable:
        if self.unit != "none" and (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError(
                "set either epsilon (the noise follows) or noise_multiplier (epsilon follows)"
            )
        if self.covers is not None and len(set(self.covers)) < len(self.covers):
            raise WrongKey("covers", "a purpose stands there twice; name it once")
        return self

    @property
    def enabled(self) -> bool:
        """Whether anything is protected."""
        return self.unit != "none"

    @property
    def sentence(self) -> str:
        """What is protected, for the head of a console and a report."""
        if not self.enabled:
            return "without differential privacy"
        amount = f"noise multiplier {self.noise_multiplier}, epsilon follows, at"
        if self.epsilon is not None:
            amount = f"epsilon {self.epsilon:g} at"
        return (
            f"differential privacy: unit {self.unit}, {amount} delta {self.delta:g}, {self.noise} "
            "noise"
        )

    @property
    def summed(self) -> bool:
        """Examples or patients, protected by noise on the hospitals' summed gradient."""
        return self.unit in ("example", "patient") and self.noise != "local"

    @property
    def stepwise(self) -> bool:
        """Examples or patients, protected by noise in every step of a hospital's own training."""
        return self.unit in ("example", "patient") and self.noise == "local"

    @property
    def limit(self) -> float:
        """The epsilon that a hospital doesn't pass; infinite where nobody set one."""
        return self.epsilon_limit or self.epsilon or math.inf
