"""``[procedure]`` of joint procedures, whose parties hold different things of the same persons."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wardround.common.settings.base import Table

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
            "changed by more"
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
