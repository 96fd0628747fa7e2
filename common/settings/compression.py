"""``[compression]``: how small an update travels, masked or not."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wardround.common.settings.base import Table

_FURTHER = ("scaffold",)
"""Strategies whose hospitals send more than their update."""


class CompressionTable(Table):
    """``[compression]``: all of it is in the plan, and every party works by it alike."""

    bits: Literal[8, 16] | None = Field(
        None,
        description=(
            "of a number of an update, as it is added up over all hospitals, masked or not; left "
            "out: `secure_aggregation.bits`, and a float without masks"
        ),
    )
    first_scale: float = Field(
        0.25,
        ge=1e-9,
        le=1e3,
        description=(
            "a layer's change in round 1 is taken for so much of what such a layer is begun with "
            "(1 / sqrt(3 fan-in)); from then on its scale follows it, by a factor of 2 a round at "
            "most. Too large costs a few coarse rounds, too small a few that clip"
        ),
    )
    rotation: Literal["none", "hadamard"] = Field(
        "hadamard",
        description=(
            "`hadamard`: each layer's change is turned by signs of the seed and a Hadamard matrix, "
            "so that no number of it stands out, and turned back at the server"
        ),
    )

    def why_not(
        self, private: bool, strategy: str, trains: bool, buffered: bool
    ) -> tuple[str, str] | None:
        """What of these settings can't be compressed, and what to do; None where all can."""
        if not self.enabled:
            return None
        if not trains:
            return "a procedure that trains nothing", "it is of updates alone; leave it out"
        if private:
            return "[privacy]", (
                "whose noise is made for a grid of its own, and which scales of the rows' updates "
                "would tell of; leave one of them out"
            )
        if buffered:
            return "federation.pace = 'buffered'", (
                "whose kept updates are of rounds with other scales; leave one of them out"
            )
        if strategy in _FURTHER:
            return f"strategy.name = '{strategy}'", (
                "whose further arrays have no scale; use another strategy, or leave it out"
            )
        return None

    @property
    def enabled(self) -> bool:
        """Whether anything is compressed."""
        return self.bits is not None
