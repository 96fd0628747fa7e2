"""Options of regressions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from wardround.common.settings.analyses.base import AnalysisOptions, ColumnName
from wardround.common.settings.declared import Formula
from wardround.common.settings.key_errors import WrongKey

_LEVEL = Field(0.95, gt=0.5, lt=1, description="of intervals")
_WEIGHTS = Field(
    None, description="a column that multiplies each row's likelihood; 0 leaves the row out"
)


class FormulaOptions(AnalysisOptions):
    """What analyses by a formula have."""

    formula: Formula = Field(
        min_length=3,
        max_length=1000,
        description="'died ~ age + C(sex)': [formulas](statistics.md#formulas)",
    )

    def reads(self) -> str:
        return f"sums that give the coefficients of {self.formula}"


class RegressionOptions(FormulaOptions):
    """``kind = "regression"``: a generalised linear model by a formula."""

    kind: Literal["regression"] = Field(description="a generalised linear model")
    family: Literal["linear", "logistic", "poisson", "gamma", "negative_binomial"] = Field(
        "linear", description="of the outcome's distribution; gamma has a logarithmic link"
    )
    weights: ColumnName | None = _WEIGHTS
    errors: Literal["model", "robust", "persons", "hospitals"] = Field(
        "model", description="standard errors: the family's, or sandwiches, by row or by cluster"
    )
    alpha: float | None = Field(
        None, gt=0, le=1e4, description="of negative_binomial; estimated where it isn't given"
    )
    level: float = _LEVEL

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
        return f"{super().reads()} ({self.family}){weights}"


class PenalisedOptions(FormulaOptions):
    """``kind = "penalised_regression"``: ridge, lasso and elastic net."""

    kind: Literal["penalised_regression"] = Field(description="ridge, lasso or elastic net")
    family: Literal["linear", "logistic"] = Field("linear", description="of the outcome")
    strength: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="of the penalty; linear ones choose it by cross-validation where it isn't "
        "given, in the same step",
    )
    mix: float = Field(
        1.0, ge=0, le=1, description="share of the absolute penalty: 1 is the lasso, 0 ridge"
    )
    scale: bool = Field(True, description="penalise coefficients of standardised columns")
    folds: int = Field(5, ge=2, le=10, description="of the cross-validation")

    @model_validator(mode="after")
    def _has_a_strength(self) -> PenalisedOptions:
        if self.family == "logistic" and self.strength is None:
            raise WrongKey("strength", "must be given with family = 'logistic'")
        return self

    def reads(self) -> str:
        return f"{super().reads()} ({self.family}, penalised)"


class MetaOptions(FormulaOptions):
    """``kind = "meta_analysis"``: each hospital's own regression, pooled."""

    kind: Literal["meta_analysis"] = Field(description="each hospital's own regression, pooled")
    family: Literal["linear", "logistic", "poisson", "gamma"] = Field(
        "linear", description="of the outcome's distribution"
    )
    weights: ColumnName | None = _WEIGHTS
    level: float = _LEVEL

    def reads(self) -> str:
        return f"sums over hospitals of their own coefficients of {self.formula} ({self.family})"


class MixedOptions(FormulaOptions):
    """``kind = "mixed_model"``: a linear one with an intercept of each hospital's."""

    kind: Literal["mixed_model"] = Field(description="a linear model, an intercept by hospital")
    tells_hospitals: Literal[True] = Field(
        description="must be true: the server can work out each hospital's means of the columns "
        "and of the outcome from these sums, though no row's values"
    )
    method: Literal["reml", "ml"] = Field(
        "reml", description="of the likelihood: restricted, or full"
    )
    level: float = _LEVEL

    def reads(self) -> str:
        return (
            f"sums that give a mixed model of {self.formula}, and from which the server can work "
            "out each hospital's means"
        )


class PropensityOptions(FormulaOptions):
    """``kind = "propensity"``: groups that weights make alike."""

    kind: Literal["propensity"] = Field(description="groups that weights make alike")
    outcome: ColumnName | None = Field(
        None, description="a column whose weighted means are compared; without it balance alone"
    )
    binary: bool = Field(False, description="whether the outcome is a yes or no, and not a number")
    estimand: Literal["ate", "att", "overlap"] = Field(
        "ate",
        description="whose mean effect: everybody's, the treated's, or theirs who could be either",
    )
    trim: float = Field(0.01, ge=0, lt=0.5, description="scores nearer to 0 or 1 count as this")
    level: float = _LEVEL

    @model_validator(mode="after")
    def _has_an_outcome(self) -> PropensityOptions:
        if self.binary and self.outcome is None:
            raise WrongKey("binary", "has an effect with an outcome only")
        return self

    def reads(self) -> str:
        what = f", and of '{self.outcome}' by group" if self.outcome else ""
        return f"{super().reads()} (logistic), sums of its columns by group with weights{what}"
