"""``[procedure]`` of joint procedures, whose parties hold different things of the same persons."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wardround.common.settings.base import Table
from wardround.common.settings.key_errors import WrongKey

LINKAGE, VERTICAL, SPLIT = "linkage", "vertical", "split"
StudyPattern = Annotated[str, Field(min_length=1, max_length=200)]


class JointOptions(Table):
    """What every joint procedure has."""


class LinkageOptions(JointOptions):
    """``[procedure]`` with ``name = "linkage"``: which persons all parties have rows of."""

    smallest: int = Field(
        20,
        ge=3,
        le=1_000_000_000,
        description="fewest persons that may be linked; of fewer no party learns anything",
    )
    compare: str = Field(
        "coordinator",
        min_length=1,
        max_length=64,
        description=(
            "who compares tokens that are under the secrets of all parties, and so sees how many "
            "persons any of them have in common: `coordinator`, or a party's name"
        ),
    )
    padded: int = Field(
        1000,
        ge=1,
        le=10_000_000,
        description="each party's list is filled up to a multiple of this many rows",
    )
    most_rows: int = Field(
        1_000_000,
        ge=1,
        le=10_000_000,
        description="most rows that a party may ask about",
    )
    used_by: list[StudyPattern] = Field(
        [],
        max_length=100,
        description=(
            "studies that may use the link, by patterns of their names; each is approved by "
            "itself, too. None named: studies of the linkage's own name"
        ),
    )


class VerticalOptions(JointOptions):
    """``[procedure]`` with ``name = "vertical"``: a model of columns at several parties."""

    model: Literal["linear", "logistic", "poisson", "cox"] = Field(
        description=(
            "of an outcome that is a number (`linear`), two-valued (`logistic`), a count "
            "(`poisson`), or time and event (`cox`)"
        ),
    )
    link: str = Field(
        min_length=1,
        max_length=200,
        description="the study whose [linkage](linkage.md) says which rows are of one person",
    )
    dealer: str = Field(
        "coordinator",
        min_length=1,
        max_length=64,
        description=(
            "who deals random numbers, and must not work together with any party: `coordinator`, "
            "or a party without columns"
        ),
    )
    ridge: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description=(
            "penalty: the mean loss of a person has half of it times the sum of squared "
            "coefficients of columns of deviation 1 added"
        ),
    )
    iterations: int = Field(
        25, ge=1, le=200, description="most points at which the gradient is opened"
    )
    tolerance: float = Field(
        0.01,
        ge=1e-4,
        le=0.1,
        description=(
            "the search ends with a step by the opened curvature after one in which no coefficient "
            "changed by more; of `poisson` and `cox` where none changes by more than a tenth of "
            "it, or by 1/16 of its standard error"
        ),
    )
    intervals: int = Field(
        20,
        ge=1,
        le=100,
        description=(
            "of `cox`: of time, in each of which the hazard has a level of its own; with at least "
            "`smallest_cell` events each"
        ),
    )
    smallest_cell: int = Field(
        5,
        ge=3,
        le=100,
        description=(
            "counts of two-valued columns and outcomes that are opened have at least as many "
            "persons; columns that would have fewer are left out (`smallest_cell` of site.toml)"
        ),
    )
    padded: int = Field(
        1000,
        ge=1,
        le=10_000_000,
        description="linked rows are filled up to a multiple of this many, which the server sees",
    )
    most_rows: int = Field(
        1_000_000, ge=1, le=10_000_000, description="most persons; of more the study is refused"
    )


class SplitOptions(JointOptions):
    """``[procedure]`` with ``name = "split"``: a network whose parts lie at several parties."""

    link: StudyPattern = Field(
        description="the study that linked the persons; its `used_by` names this one",
    )
    width: int = Field(
        16, ge=1, le=1024, description="numbers that cross for each person, of each party's tower"
    )
    hidden: int = Field(
        32,
        ge=1,
        le=4096,
        description="units of the hidden layer of a table's tower and of the head",
    )
    channels: int = Field(
        8,
        ge=4,
        le=256,
        multiple_of=4,
        description="channels of the first stage of a tower for images",
    )
    batches: int = Field(
        500, ge=1, le=1_000_000, description="steps of training, each of one batch there and back"
    )
    batch_size: int = Field(64, ge=2, le=65_536, description="persons of a batch")
    held_out: int = Field(
        200,
        ge=10,
        le=1_000_000,
        description="linked persons that aren't trained on; figures are of these",
    )
    learning_rate: float = Field(0.003, gt=0, le=10, description="of Adam's steps, at all parties")
    clip: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description=(
            "the largest norm (L2) of what crosses for a person, numbers and gradients; with noise "
            "also of its gradient of a party's own weights. Left out: not bounded"
        ),
    )
    noise_multiplier: float = Field(
        0.0,
        ge=0,
        le=1e4,
        description=(
            "deviation of the Gaussian noise on each number that crosses, either way, and in each "
            "step of a party's weights, over 2 `clip`; 0: none, and what crosses protects nobody"
        ),
    )
    delta: float = Field(1e-5, ge=1e-12, lt=1, description="of the epsilon that is told with noise")

    @model_validator(mode="after")
    def _has_a_bound_for_its_noise(self) -> SplitOptions:
        if self.noise_multiplier and self.clip is None:
            raise WrongKey("clip", "noise_multiplier hides nothing without it: set a number")
        if 0 < self.noise_multiplier < 0.01:
            raise WrongKey("noise_multiplier", "0, or 0.01 and more")
        if "delta" in self.model_fields_set and not self.noise_multiplier:
            raise WrongKey("delta", "has no effect without noise_multiplier; leave it out")
        return self
