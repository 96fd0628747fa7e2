"""``[compression]``: how small an update travels, masked or not."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from wardround.common.settings.base import Table
from wardround.common.settings.key_errors import WrongKey

_NOT_YET = ("bits", "error_feedback", "method", "down_bits")
"""Keys that nothing reads yet, each with what hangs on it; refused until something does."""


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
        0.01,
        ge=1e-9,
        le=1e3,
        description=(
            "root mean square of a layer's change that round 1 is written for; from then on it "
            "follows each layer, by a factor of 2 a round at most"
        ),
    )
    rotation: Literal["none", "hadamard"] = Field(
        "hadamard",
        description=(
            "`hadamard`: each layer's change is turned by signs of the seed and a Hadamard matrix, "
            "so that no number of it stands out, and turned back at the server"
        ),
    )
    error_feedback: bool = Field(
        False, description="what a hospital's rounding left out it adds to its next update"
    )
    method: Literal["none", "powersgd"] = Field(
        "none", description="`powersgd`: of matrices travel two thin factors"
    )
    rank: int = Field(2, ge=1, le=1024, description="of these factors")
    down_bits: Literal[8, 16, 32] = Field(
        32, description="of a number of the model, as the server sends it"
    )

    @model_validator(mode="after")
    def _works(self) -> CompressionTable:
        for key in _NOT_YET:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise WrongKey(key, "isn't built yet; leave it out")
        return self

    @property
    def enabled(self) -> bool:
        """Whether anything is compressed."""
        return self != type(self)()
