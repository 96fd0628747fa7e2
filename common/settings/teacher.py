"""``[teacher]``: a finished model that the one in training learns from, too."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from wardround.common.settings.finished import NamedModel


class TeacherTable(NamedModel):
    """``[teacher]``: which model, and how much its outputs count."""

    weight: float = Field(
        0.5,
        ge=0,
        le=1,
        description="how much the teacher's outputs count in the loss; the targets count the rest",
    )
    temperature: float = Field(
        2.0,
        ge=0.01,
        le=1e4,
        description="of classes: scores are divided by it before they are compared",
    )

    def shared(self) -> dict[str, Any]:
        """As all parties have it: the model's digest, and not where it lies."""
        return self.model_dump(mode="json", exclude={"model"})
