"""``[judgement]``: figures of the chosen model by groups of patients."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from wardround.common.settings.base import Table
from wardround.common.settings.declared import BY_NAME, Name, Value
from wardround.common.settings.key_errors import WrongKey

MOST_GROUPS, MOST_COLUMNS = 50, 20
_Column = Annotated[Name, Field(min_length=1, max_length=200)]
_Text = Annotated[Value, Field(min_length=1, max_length=200)]


class JudgementTable(Table):
    """``[judgement]``: by which columns, in which groups, and how few are shown."""

    groups: list[_Column] = Field(
        min_length=1,
        max_length=MOST_COLUMNS,
        description=(
            "columns of the rows by whose values figures are given, inputs or not: "
            '`["sex", "age"]`; each hospital must allow them (`groups` of site.toml)'
        ),
    )
    bands: Annotated[dict[_Column, list[float]], BY_NAME] = Field(
        {},
        max_length=MOST_COLUMNS,
        description=(
            "where a column of numbers is cut, `{ age = [40, 65, 80] }`: below the first, from "
            "each to the next, from the last on"
        ),
    )
    categories: Annotated[dict[_Column, list[_Text]], BY_NAME] = Field(
        {},
        max_length=MOST_COLUMNS,
        description=(
            "the groups of a column whose categories neither [task] declares nor the preparation "
            "agrees on, such as one that is no input"
        ),
    )
    smallest_cell: int = Field(
        5,
        ge=3,
        le=1000,
        description=(
            "groups are put together until what is shown tells of no fewer persons (rows, where no "
            "patients are named)"
        ),
    )
    threshold: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="of two classes, the probability from which on a row counts as predicted",
    )

    @field_validator("bands", mode="before")
    @classmethod
    def _are_numbers(cls, value: object) -> object:
        """Whole numbers are numbers too."""
        if not isinstance(value, dict):
            return value
        return {
            name: [float(x) if isinstance(x, int) and not isinstance(x, bool) else x for x in one]
            if isinstance(one, list)
            else one
            for name, one in value.items()
        }

    @model_validator(mode="after")
    def _fits_together(self) -> JudgementTable:
        if len(set(self.groups)) < len(self.groups):
            raise WrongKey("groups", "a column stands there twice")
        for key, named in (("bands", self.bands), ("categories", self.categories)):
            if more := sorted(set(named) - set(self.groups)):
                raise WrongKey(key, f"'{more[0]}' is none of judgement.groups")
        if both := sorted(set(self.bands) & set(self.categories)):
            raise WrongKey("bands", f"'{both[0]}' has categories, too; leave one of them out")
        for name, cuts in self.bands.items():
            rising = all(a < b for a, b in zip(cuts, cuts[1:], strict=False))
            if not (0 < len(cuts) < MOST_GROUPS and rising and all(map(math.isfinite, cuts))):
                raise WrongKey("bands", f"'{name}': 1 to {MOST_GROUPS - 1} numbers that rise")
        for name, texts in self.categories.items():
            if not 0 < len(texts) <= MOST_GROUPS or len(set(texts)) < len(texts):
                raise WrongKey("categories", f"'{name}': 1 to {MOST_GROUPS} different texts")
        return self
