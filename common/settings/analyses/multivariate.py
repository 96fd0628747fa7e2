"""Options of analyses of many columns at once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from wardround.common.settings.analyses.base import AnalysisOptions, ColumnName, quoted
from wardround.common.settings.key_errors import WrongKey


class PcaOptions(AnalysisOptions):
    """``kind = "pca"``: principal components of columns of numbers."""

    kind: Literal["pca"] = Field(description="principal components")
    columns: list[ColumnName] = Field(
        min_length=2, max_length=500, description="columns of numbers; rows with a gap don't count"
    )
    scale: bool = Field(True, description="of standardised columns: of their correlations")
    components: int = Field(10, ge=1, le=500, description="how many are shown at most")

    @model_validator(mode="after")
    def _are_different(self) -> PcaOptions:
        if len(set(self.columns)) < len(self.columns):
            raise WrongKey("columns", "a name stands there twice")
        return self

    def reads(self) -> str:
        return f"sums and products of {quoted(self.columns)}"
