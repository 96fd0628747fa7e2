"""``[procedure]`` of joint procedures, whose parties hold different things of the same persons."""

from __future__ import annotations

from typing import Annotated

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


class SplitOptions(JointOptions):
    """``[procedure]`` with ``name = "split"``: a network whose parts lie at several parties."""
