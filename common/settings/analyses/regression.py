"""Options of regressions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from wardround.common.settings.analyses.base import AnalysisOptions, ColumnName
from wardround.common.settings.key_errors import WrongKey

LEVEL = Field(0.95, gt=0.5, lt=1, description="of intervals")


class RegressionOptions(AnalysisOptions):
    """``kind = "regression"``: a generalised linear model by a formula."""

    kind: Literal["regression"] = Field(description="a generalised linear model")
    formula: str = Field(
        min_length=3,
        max_length=1000,
        description="'died ~ age + C(sex)': [formulas](statistics.md#formulas)",
    )
    family: Literal["linear", "logistic", "poisson", "gamma", "negative_binomial"] = Field(
        "linear", description="of the outcome's distribution; gamma has a logarithmic link"
    )
    weights: ColumnName | None = Field(
        None, description="a column that multiplies each row's likelihood; 0 leaves the row out"
    )
    errors: Literal["model", "robust", "persons", "hospitals"] = Field(
        "model", description="standard errors: the family's, or sandwiches, by row or by cluster"
    )
    alpha: float | None = Field(
        None, gt=0, le=1e4, description="of negative_binomial; estimated where it isn't given"
    )
    level: float = LEVEL

    @model_validator(mode="after")
    def _fit_each_other(self) -> RegressionOptions:
        if self.alpha is not None and self.family != "negative_binomial":
            raise WrongKey("alpha", "has an effect with family = 'negative_binomial' only")
        estimated = self.family == "negative_binomial" and self.alpha is None
        if estimated and self.errors != "model":
            raise WrongKey("errors", "only 'model' where alpha is estimated; give alpha")
        return self

    def reads(self) -> str:
        weights = f", with weights '{self.weights}'" if self.weights else ""
        return f"sums that give the coefficients of {self.formula} ({self.family}){weights}"
