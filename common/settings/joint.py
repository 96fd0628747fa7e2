"""``[procedure]`` of joint procedures, whose parties hold different things of the same persons."""

from __future__ import annotations

from pydantic import Field

from wardround.common.settings.base import Table

LINKAGE, VERTICAL, SPLIT = "linkage", "vertical", "split"


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


class VerticalOptions(JointOptions):
    """``[procedure]`` with ``name = "vertical"``: a model of columns at several parties."""


class SplitOptions(JointOptions):
    """``[procedure]`` with ``name = "split"``: a network whose parts lie at several parties."""
