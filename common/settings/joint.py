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
