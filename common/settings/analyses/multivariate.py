"""Options of analyses of many columns at once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from wardround.common.settings.analyses.base import AnalysisOptions, ColumnName, quoted
from wardround.common.settings.key_errors import WrongKey


class ColumnsOptions(AnalysisOptions):
    """Of several columns of numbers."""

    columns: list[ColumnName] = Field(
        min_length=2, max_length=500, description="columns of numbers; rows with a gap don't count"
    )

    @model_validator(mode="after")
    def _are_different(self) -> ColumnsOptions:
        if len(set(self.columns)) < len(self.columns):
            raise WrongKey("columns", "a name stands there twice")
        return self

    def reads(self) -> str:
        return f"sums and products of {quoted(self.columns)}"


class PcaOptions(ColumnsOptions):
    """``kind = "pca"``: principal components of columns of numbers."""

    kind: Literal["pca"] = Field(description="principal components")
    scale: bool = Field(True, description="of standardised columns: of their correlations")
    components: int = Field(10, ge=1, le=500, description="how many are shown at most")


class KmeansOptions(ColumnsOptions):
    """``kind = "kmeans"``: clusters of rows around centres."""

    kind: Literal["kmeans"] = Field(description="clusters around centres")
    clusters: int = Field(3, ge=2, le=50, description="how many")
    starts: int = Field(10, ge=1, le=50, description="side by side; the best one counts")
    iterations: int = Field(100, ge=1, le=1000, description="steps of each at most")
    seed: int = Field(0, ge=0, lt=2**32, description="of the places where centres begin")

    def reads(self) -> str:
        return f"of {quoted(self.columns)}, how many rows are near each of moving centres, and sums"


class MixtureOptions(ColumnsOptions):
    """``kind = "mixture"``: a mixture of normal distributions."""

    kind: Literal["mixture"] = Field(description="a mixture of normal distributions")
    components: int = Field(2, ge=2, le=20, description="how many")
    covariance: Literal["full", "diagonal"] = Field("full", description="of each component")
    starts: int = Field(5, ge=1, le=50, description="of the k-means that it begins with")
    iterations: int = Field(200, ge=1, le=1000, description="steps at most, after those")
    seed: int = Field(0, ge=0, lt=2**32, description="of the places where centres begin")

    def reads(self) -> str:
        return f"weighted sums and products of {quoted(self.columns)}, step by step"
