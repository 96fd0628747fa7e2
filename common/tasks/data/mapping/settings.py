"""``[data.NAME.map]`` of ``site.toml``: a hospital's own columns, as the study has them.

The steps come in this order: names, missing texts, codes, units, derived columns. So every key but
``rename``'s values is a name after renaming, and what would have no effect is refused.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

from pydantic import Field, model_validator

from wardround.common.settings import Table
from wardround.common.settings.declared import BY_NAME, BY_VALUE, Formula, Name, Value
from wardround.common.settings.key_errors import WrongKey
from wardround.common.tasks.data.mapping.analytes import MOLAR_MASSES
from wardround.common.tasks.data.mapping.expression import (
    LONGEST,
    Expression,
    ExpressionError,
    read_expression,
)
from wardround.common.tasks.data.mapping.kinds import check
from wardround.common.tasks.data.mapping.units import (
    Conversion,
    UnitError,
    by_molar_mass,
    conversion,
    remarks,
    unit,
)
from wardround.common.text import code, near

Column = Annotated[Name, Field(min_length=1, max_length=200)]
Category = Annotated[Value, Field(min_length=1, max_length=200)]
Cell = Annotated[str, Field(max_length=200)]
_MANY = 2000
_Cells = Annotated[list[Cell], Field(min_length=1, max_length=_MANY)]


class UnitChange(Table):
    """``[data.NAME.map.units.COLUMN]``: the unit of the hospital's column, and the study's."""

    from_: Annotated[str, Field(min_length=1, max_length=100)] = Field(
        alias="from", description="the unit that the column is in: a UCUM code"
    )
    to: Annotated[str, Field(min_length=1, max_length=100)] = Field(description="the study's unit")
    factor: float | None = Field(
        None,
        gt=0,
        le=1e15,
        description=(
            "what one `from` is in `to`; needed where it doesn't follow from the units: between "
            "mass and amount of substance, or units by convention"
        ),
    )
    offset: float = Field(
        0.0, ge=-1e12, le=1e12, description="added after the factor: HbA1c in % from mmol/mol"
    )
    analyte: str | None = Field(
        None,
        max_length=50,
        description="instead of `factor` between mass and amount: `creatinine`, `glucose`, ...",
    )

    @cached_property
    def conversion(self) -> Conversion:
        """What a value is in the study's unit."""
        if self.factor is not None:
            return Conversion(self.factor, self.offset)
        if self.analyte is not None:
            weighed = by_molar_mass(self.from_, self.to, MOLAR_MASSES[self.analyte])
            if weighed is not None:
                return weighed
        found = conversion(self.from_, self.to)
        if found is None:
            raise AssertionError("checked when it was read")
        return found

    @model_validator(mode="after")
    def _follows(self) -> UnitChange:
        for key, text in (("from", self.from_), ("to", self.to)):
            try:
                unit(text)
            except UnitError as error:
                raise WrongKey(key, str(error)) from None
        known = conversion(self.from_, self.to)
        if self.analyte is not None:
            self._weighs()
        elif self.factor is not None:
            if remarks(self.from_) == remarks(self.to):  # else %{NGSP} is a % of its own
                _agrees(known, self.factor, self.offset)
        elif known is None:
            raise WrongKey(
                "from",
                "the units measure different things, so what one is in the other must be said: "
                "add factor, or analyte between a mass and an amount of substance",
            )
        if self.offset and self.factor is None:
            raise WrongKey("offset", "has no effect without factor")
        return self

    def _weighs(self) -> None:
        if self.factor is not None:
            raise WrongKey("analyte", "says the factor already; leave out one of them")
        if self.analyte not in MOLAR_MASSES:
            hint = near(str(self.analyte), MOLAR_MASSES)
            known = f"'{hint}' is" if hint else f"known are {', '.join(sorted(MOLAR_MASSES))}"
            raise WrongKey("analyte", f"isn't known; {known}; or give the factor")
        if by_molar_mass(self.from_, self.to, 1.0) is None:
            raise WrongKey(
                "analyte", "has no effect: the units aren't a mass and an amount of substance"
            )


def _agrees(known: Conversion | None, factor: float, offset: float) -> None:
    """Raise WrongKey for a stated factor that isn't what the units themselves say."""
    if known is None:
        return
    if abs(factor / known.factor - 1) > 0.005 or abs(offset - known.offset) > 0.05:
        extra = f", and the offset {known.offset:.6g}" if known.offset else ""
        raise WrongKey("factor", f"between these units it is {known.factor:.6g}{extra}")


class Mapping(Table):
    """See the module. ``Mapping()`` leaves a table as it is."""

    rename: Annotated[dict[Column, Column], BY_NAME] = Field(
        {}, max_length=_MANY, description="the study's name of a column = this hospital's"
    )
    missing: Annotated[
        dict[Column, Annotated[list[Cell], Field(min_length=1, max_length=100)]], BY_NAME
    ] = Field(
        {}, max_length=_MANY, description="texts and numbers of a column that stand for a gap"
    )
    codes: Annotated[dict[Column, Annotated[dict[Category, _Cells], BY_VALUE]], BY_NAME] = Field(
        {}, max_length=_MANY, description="a column's categories, and what the hospital writes"
    )
    units: Annotated[dict[Column, UnitChange], BY_NAME] = Field(
        {}, max_length=_MANY, description="a column's unit here and in the study"
    )
    derive: Annotated[
        dict[Column, Annotated[Formula, Field(min_length=1, max_length=LONGEST)]], BY_NAME
    ] = Field(
        {},
        max_length=200,
        description="a new column = an expression of others; later ones may use earlier ones",
    )

    def __bool__(self) -> bool:
        return bool(self.rename or self.missing or self.codes or self.units or self.derive)

    @cached_property
    def expressions(self) -> dict[str, Expression]:
        """The derived columns, read."""
        return {name: read_expression(text) for name, text in self.derive.items()}

    @cached_property
    def categories(self) -> dict[str, dict[str, str]]:
        """By column: the category of each text, as codes; a category's own name is one too."""
        return {
            column: {code(category): category for category in table}
            | {code(text): category for category, texts in table.items() for text in texts}
            for column, table in self.codes.items()
        }

    @model_validator(mode="after")
    def _names_are_clear(self) -> Mapping:
        own = list(self.rename.values())
        gone = set(own) - set(self.rename)
        for name, source in zip(self.rename, own, strict=True):
            if own.count(source) > 1:
                raise WrongKey(
                    f"rename.{name}", f"'{source}' has two names; copy it with derive instead"
                )
            if name in self.derive:
                raise WrongKey(f"derive.{name}", "is renamed too; give one of them another name")
        for table in ("missing", "codes", "units"):
            for name in getattr(self, table):
                if name in self.derive:
                    what = "a derived column is made after this; say it in the expression"
                    raise WrongKey(f"{table}.{name}", what)
                if name in gone:
                    raise WrongKey(f"{table}.{name}", _renamed(name, self.rename))
        for name in self.units:
            if name in self.codes:
                raise WrongKey(f"units.{name}", "has codes, so it is no number")
        return self

    @model_validator(mode="after")
    def _each_text_has_one_category(self) -> Mapping:
        for column, table in self.codes.items():
            seen = {code(category): category for category in table}
            for category, texts in table.items():
                for text in map(code, texts):
                    if seen.setdefault(text, category) != category:
                        raise WrongKey(
                            f"codes.{column}.{category}",
                            f"lists a text that means '{seen[text]}' too",
                        )
            absent = {code(text) for text in self.missing.get(column, ())}
            if absent & set(seen):
                raise WrongKey(f"missing.{column}", "lists a text that codes gives a category")
        return self

    @model_validator(mode="after")
    def _expressions_can_be_read(self) -> Mapping:
        gone = set(self.rename.values()) - set(self.rename)
        later = list(self.derive)
        for name, text in self.derive.items():
            try:
                found = read_expression(text)
                check(found, None)
            except ExpressionError as error:
                raise WrongKey(f"derive.{name}", str(error)) from None
            for column in found.columns:
                if column in gone:
                    raise WrongKey(f"derive.{name}", _renamed(column, self.rename))
                if column in later:
                    what = "itself" if column == name else f"'{column}', which comes after it"
                    raise WrongKey(f"derive.{name}", f"uses {what}")
            later.remove(name)
        return self


def _renamed(name: str, rename: dict[str, str]) -> str:
    new = next(key for key, own in rename.items() if own == name)
    return f"'{name}' is called '{new}' by then, as rename says; write that"
