"""Options of tests whether groups differ."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wardround.common.settings.analyses.base import AnalysisOptions, ColumnName, quoted
from wardround.common.settings.analyses.counts import MOST_COLUMNS, by, different
from wardround.common.settings.declared import Value
from wardround.common.settings.key_errors import WrongKey

Level = Annotated[Value, Field(min_length=1, max_length=200)]


class OfGroupsOptions(AnalysisOptions):
    """What every test of groups has."""

    columns: list[ColumnName] = Field(
        min_length=1, max_length=MOST_COLUMNS, description="columns of numbers, each tested"
    )
    by: ColumnName = Field(description="the column of categories that groups are of")

    @model_validator(mode="after")
    def _are_different(self) -> OfGroupsOptions:
        different("columns", [*self.columns, self.by])
        return self

    def reads(self) -> str:
        return f"{self.kind} of {quoted(self.columns)}{by(self.by)}"


class OfTwoOptions(OfGroupsOptions):
    """What a test of two groups has."""

    groups: list[Level] = Field(
        [],
        max_length=2,
        description="the two levels that are compared; needed where there are more than two",
    )

    @model_validator(mode="after")
    def _are_two(self) -> OfTwoOptions:
        if len(self.groups) == 1 or len(set(self.groups)) < len(self.groups):
            raise WrongKey("groups", "two different levels, or none")
        return self


class TTestOptions(OfTwoOptions):
    """Welch's t-test, and Student's with one variance, between two groups."""

    kind: Literal["t_test"] = Field(description="t-tests of two groups")


class MannWhitneyOptions(OfTwoOptions):
    """The Mann-Whitney U test between two groups."""

    kind: Literal["mann_whitney"] = Field(description="a test of two groups by ranks")


class AnovaOptions(OfGroupsOptions):
    """One-way analysis of variance over all groups."""

    kind: Literal["anova"] = Field(description="one-way analysis of variance")


class KruskalOptions(OfGroupsOptions):
    """The Kruskal-Wallis test over all groups."""

    kind: Literal["kruskal"] = Field(description="a test of several groups by ranks")


class PairedTTestOptions(AnalysisOptions):
    """The t-test of the differences between two columns of one row."""

    kind: Literal["paired_t_test"] = Field(description="a t-test of differences in a row")
    before: ColumnName = Field(description="a column of numbers")
    after: ColumnName = Field(description="another one, of the same row; rows with both count")

    @model_validator(mode="after")
    def _are_two(self) -> PairedTTestOptions:
        different("after", [self.before, self.after])
        return self

    def reads(self) -> str:
        return f"differences between {quoted([self.before, self.after])}"
