"""Options of what counts and describes: summaries, tables, correlations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from wardround.common.settings.analyses.base import AnalysisOptions, ColumnName, quoted
from wardround.common.settings.base import floats_of
from wardround.common.settings.declared import BY_NAME
from wardround.common.settings.key_errors import WrongKey

MOST_COLUMNS = 200


class SummaryOptions(AnalysisOptions):
    """Counts, means, quantiles and histograms."""

    kind: Literal["summary"] = Field(description="counts, means, quantiles, histograms")
    columns: list[ColumnName] = Field([], max_length=MOST_COLUMNS, description="columns of numbers")
    categories: list[ColumnName] = Field(
        [], max_length=MOST_COLUMNS, description="columns of categories"
    )
    by: ColumnName | None = Field(None, description="a column of categories: for each level")
    histograms: bool = Field(True, description="whether histograms are shown, of 32 bins")
    ranges: Annotated[dict[ColumnName, list[float]], BY_NAME] = Field(
        {},
        description=(
            "with `[privacy]`, and only then: the range of each column of numbers, `{ age = [0, "
            "120] }`; what lies beyond counts as its end"
        ),
    )

    @field_validator("ranges", mode="before")
    @classmethod
    def _are_numbers(cls, value: object) -> object:
        return floats_of(value)

    @model_validator(mode="after")
    def _ask_for_something(self) -> SummaryOptions:
        if not (self.columns or self.categories):
            raise WrongKey("columns", "name columns of numbers here, or of categories below that")
        different("columns", [*self.columns, *self.categories, *filter(None, [self.by])])
        for name, one in self.ranges.items():
            if name not in self.columns:
                raise WrongKey("ranges", f"'{name}' is none of `columns`")
            if len(one) != 2 or not -1e15 <= one[0] < one[1] <= 1e15:
                raise WrongKey("ranges", f"'{name}': two numbers, the smaller one first")
        return self

    def reads(self) -> str:
        return f"counts, means and quantiles of {quoted([*self.columns, *self.categories])}" + by(
            self.by
        )


class TableOneOptions(AnalysisOptions):
    """Patients' characteristics by group: the first table of a paper."""

    kind: Literal["table_one"] = Field(description="characteristics by group")
    columns: list[ColumnName] = Field(
        [], max_length=MOST_COLUMNS, description="columns of numbers: mean (SD), median [quartiles]"
    )
    categories: list[ColumnName] = Field(
        [], max_length=MOST_COLUMNS, description="columns of categories: n (%)"
    )
    by: ColumnName = Field(description="the column of categories that groups are of")

    @model_validator(mode="after")
    def _ask_for_something(self) -> TableOneOptions:
        if not (self.columns or self.categories):
            raise WrongKey("columns", "name columns of numbers here, or of categories below that")
        different("columns", [*self.columns, *self.categories, self.by])
        return self

    def reads(self) -> str:
        return f"characteristics {quoted([*self.columns, *self.categories])}" + by(self.by)


class CrosstabOptions(AnalysisOptions):
    """Counts of two columns together, with tests whether these are independent."""

    kind: Literal["crosstab"] = Field(description="counts of two columns together, and tests")
    rows: ColumnName = Field(description="a column of categories")
    columns: ColumnName = Field(description="another one")

    @model_validator(mode="after")
    def _are_two(self) -> CrosstabOptions:
        different("columns", [self.rows, self.columns])
        return self

    def reads(self) -> str:
        return f"counts of {quoted([self.rows])} by {quoted([self.columns])}"


class CorrelationOptions(AnalysisOptions):
    """Pearson's correlations and covariances of columns of numbers."""

    kind: Literal["correlation"] = Field(description="correlations and covariances")
    columns: list[ColumnName] = Field(
        min_length=2, max_length=100, description="columns of numbers"
    )
    complete: bool = Field(
        False,
        description=(
            "of rows without a gap in any of the columns; else each pair's of all rows that have "
            "both, as pandas does"
        ),
    )

    @model_validator(mode="after")
    def _are_different(self) -> CorrelationOptions:
        different("columns", self.columns)
        return self

    def reads(self) -> str:
        return f"correlations of {quoted(self.columns)}"


def different(key: str, columns: Sequence[str]) -> None:
    """Raise WrongKey where a name stands twice."""
    if twice := sorted({name for name in columns if list(columns).count(name) > 1}):
        raise WrongKey(key, f"'{twice[0]}' stands there twice")


def by(column: str | None) -> str:
    """The end of what an analysis reads."""
    return "" if column is None else f" by {quoted([column])}"
