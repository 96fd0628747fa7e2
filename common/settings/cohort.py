"""``[cohort]``: what a study asks of clinical records, whichever way a hospital keeps them.

One row for each index event (or for the first or last of each patient), one column for each
variable, ``patient_id`` and ``index_date`` beside them. OMOP and FHIR answer it alike, for:

- **Days, not moments.** A record's day is the calendar's, as the hospital's clock has it: what
  OMOP has as ``..._date``; of a FHIR date or time what is written before the ``T`` or, where the
  source names its ``time_zone``, the day of that moment there. Windows count whole days from the
  index day, both ends included: ``[0, 0]`` is that day, its hours before the event too. Of a
  visit, a condition, a drug the day is the one of its start. A date without day (2024-03) is in a
  window with all its days or not at all, and is no index day.
- **Index.** Events of one patient on one day are one. Age and dates are held against it first,
  then the first or last is taken. ``date = "end"`` is a visit's last day; one without is none.
- **A record matches** if one of its codes is one of the concepts: in OMOP its concept or its
  source concept, in FHIR any coding of its code, of class and type (visits), of a component
  (which then has the value). Codes are compared exactly; those of ``E11*`` begin with it. No
  vocabulary's descendants are added, but those of ``OMOP:ID*``. A visit without concepts is any.
- **Order** of records is that of their moments (FHIR: instants; a day without time is its
  midnight). Of several at one moment the larger value, or the category that is named first,
  counts for ``first`` and ``last`` alike.
- **Numbers** are float64, times the unit's factor in float64, one rounding each. ``mean`` is the
  exact sum (``math.fsum``) by their number. A value with ``<`` or ``>`` counts as its number. No
  unit is unit ``1``.
- **any** is 1 or 0, **count** a whole number: of measurements, of records with a number or a
  code; with ``categories``, of records in one of them; of all else, of records.
- **age** in whole years on the index day: missing where the birth date is, or is later. A birth
  date without day is the month's first, without month the 15th of June (OMOP's conventions).
- **sex** is ``female``, ``male`` or ``other``; unknown is missing.
- **death** is 1 where the day of death lies in the window, else 0; missing where the patient has
  died and nobody wrote when.
- **Missing** is a cell without value: never 0 but of ``any``, ``count`` and ``death``.
- **Rows** are ordered by patient's id (its bytes in UTF-8) and index day.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from wardround.common.settings.base import Table
from wardround.common.settings.concepts import Concept, Concepts
from wardround.common.settings.key_errors import WrongKey

PATIENT_ID, INDEX_DATE = "patient_id", "index_date"
"""Columns of every cohort: text, and date."""
SEXES = ("female", "male", "other")
MOST_DAYS = 40_000

Event = Literal["visit", "condition", "procedure", "measurement", "observation", "drug"]
Take = Literal["last", "first", "min", "max", "mean", "count", "any"]
Days = Annotated[
    list[Annotated[int, Field(ge=-MOST_DAYS, le=MOST_DAYS)]], Field(min_length=2, max_length=2)
]
Unit = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,40}$")]
Category = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,80}$")]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$")]
_WITH_VALUES = ("measurement", "observation")
_OF_PATIENT = ("age", "sex")
_NUMBERS = ("last", "first", "min", "max", "mean")


class CohortIndex(Table):
    """``[cohort.index]``: which event makes a row."""

    event: Event = Field(description="what happens to a patient on the index day")
    concepts: Concepts = Field(
        [],
        description=(
            "which of them, each `SYSTEM:CODE`: [cohorts](data.md#cohorts); must be given, but for "
            "visits: left out, any"
        ),
    )
    take: Literal["first", "last", "each"] = Field(
        "first", description="which of a patient's: `each` makes a row of every day with one"
    )
    date: Literal["start", "end"] = Field(
        "start", description="which day of a visit is the index day; of others the first"
    )
    age_years: list[Annotated[int, Field(ge=0, le=150)]] | None = Field(
        None,
        min_length=2,
        max_length=2,
        description="`[youngest, oldest]` on the index day, in whole years, both included",
    )
    earliest: str = Field("", description="first index day, such as 2020-01-01; left out: any")
    latest: str = Field("", description="last index day; left out: any")

    @field_validator("earliest", "latest", mode="before")
    @classmethod
    def _is_a_day(cls, value: object) -> object:
        """TOML has dates of its own."""
        if isinstance(value, date) and not isinstance(value, datetime):
            value = value.isoformat()
        if isinstance(value, str) and value:
            try:
                return date.fromisoformat(value).isoformat()
            except ValueError:
                raise ValueError(f"{value!r:.40} is no day, such as 2020-01-01") from None
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.concepts and self.event != "visit":
            raise WrongKey("concepts", f"say which {self.event}, such as SNOMED:22298006")
        if self.date == "end" and self.event != "visit":
            raise WrongKey("date", "only a visit has an end here; leave it out")
        if self.age_years is not None and self.age_years[0] > self.age_years[1]:
            raise WrongKey("age_years", "the youngest is older than the oldest")
        if self.earliest and self.latest and self.earliest > self.latest:
            raise WrongKey("latest", "lies before cohort.index.earliest")
        return self

    @property
    def wanted(self) -> tuple[Concept, ...]:
        """Its concepts."""
        return tuple(map(Concept.read, self.concepts))


class CohortVariable(Table):
    """``[cohort.variables.NAME]``: one column."""

    of: Literal[
        "measurement",
        "observation",
        "condition",
        "procedure",
        "drug",
        "visit",
        "age",
        "sex",
        "death",
    ] = Field(description="which records, or what of the patient")
    concepts: Concepts = Field(
        [], description="which of them, each `SYSTEM:CODE`; of visits left out: any"
    )
    window_days: Days | None = Field(
        None,
        description=(
            "`[from, to]`: days from the index day, both included, before it below 0; must be "
            "given, but for age and sex"
        ),
    )
    take: Take | None = Field(
        None,
        description=(
            "of several records; left out: `last` of measurements and observations, `any` of all "
            "else"
        ),
    )
    unit: Unit | None = Field(
        None, description="of the column's numbers, in UCUM (`umol/L`, `mm[Hg]`, `1` for none)"
    )
    units: dict[Unit, Annotated[float, Field(gt=0, le=1e15)]] = Field(
        {},
        max_length=100,
        description=(
            "further units that records may have, and the factor that makes `unit` of each: "
            '`{ "mg/dL" = 88.42 }`; those of the same kind (`mmol/L`) are known without'
        ),
    )
    categories: dict[Category, Concepts] = Field(
        {},
        max_length=1000,
        description=(
            "of records whose value is a code: the column's texts, each with its concepts: "
            '`{ positive = ["SNOMED:10828004"] }`; a record with another value is left out'
        ),
    )
    rows: Literal["all", "with", "without"] = Field(
        "all",
        description=(
            "which rows stay: all, those with a value here (of `any` and `count`: at least 1), or "
            "those without, of `any`: with 0"
        ),
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.of in _OF_PATIENT:
            self._has_none(("concepts", "window_days", "take", "unit", "units", "categories"))
            if self.rows == "without":
                raise WrongKey("rows", f"of {self.of}: 'all' or 'with'")
            return self
        if self.window_days is None:
            raise WrongKey("window_days", "say in which days from the index day, such as [-2, 0]")
        if self.window_days[0] > self.window_days[1]:
            raise WrongKey("window_days", "begins after it ends")
        if self.of == "death":
            self._has_none(("concepts", "unit", "units", "categories"))
        elif not self.concepts and self.of != "visit":
            raise WrongKey("concepts", f"say which {self.of}, such as LOINC:2160-0")
        self._has_a_take()
        if self.rows == "without" and self.takes != "any":
            raise WrongKey("rows", "'without' is for take = 'any'")
        return self

    def _has_none(self, keys: tuple[str, ...]) -> None:
        for key in keys:
            if getattr(self, key):
                raise WrongKey(key, f"has no effect with of = '{self.of}'; leave it out")

    def _has_a_take(self) -> None:
        if self.of not in _WITH_VALUES:
            self._has_none(("unit", "units", "categories"))
            allowed: tuple[str, ...] = ("any",) if self.of == "death" else ("any", "count")
        elif self.categories:
            for key in ("unit", "units"):
                if getattr(self, key):
                    raise WrongKey(key, "has no effect beside categories; leave one of them out")
            allowed = ("last", "first", "any", "count")
        else:
            allowed = (*_NUMBERS, "any", "count")
        if self.takes not in allowed:
            raise WrongKey("take", f"of {self.of}: {', '.join(allowed)} (found '{self.takes}')")
        if self.is_number and self.unit is None:
            raise WrongKey("unit", "say in which unit, in UCUM; '1' for numbers without one")
        if not self.is_number and (self.unit or self.units):
            raise WrongKey(
                "unit" if self.unit else "units", f"has no effect with take = '{self.takes}'"
            )
        if self.unit is not None and self.unit in self.units:
            raise WrongKey("units", f"'{self.unit}' is the column's own unit; leave it out")
        named = [one for concepts in self.categories.values() for one in concepts]
        if twice := sorted({one for one in named if named.count(one) > 1}):
            raise WrongKey("categories", f"'{twice[0]}' has two meanings; name it once")

    @property
    def takes(self) -> Take:
        """``take``, or what it is where it is left out."""
        return self.take or ("last" if self.of in _WITH_VALUES else "any")

    @property
    def is_number(self) -> bool:
        """Whether its cells are measured numbers, which have a unit (float64)."""
        return self.of in _WITH_VALUES and not self.categories and self.takes in _NUMBERS

    @property
    def form(self) -> Literal["number", "count", "text"]:
        """Of its column: float64, int64 or string."""
        if self.is_number:
            return "number"
        texts = self.of == "sex" or (self.categories and self.takes in ("first", "last"))
        return "text" if texts else "count"

    def keeps(self, cell: float | str | None) -> bool:
        """Whether a row with this cell stays. A missing one is neither with nor without."""
        if self.rows == "without":
            return cell == 0
        counted = self.form == "count" and self.of != "age"
        return self.rows == "all" or (cell is not None and not (counted and cell == 0))

    @property
    def wanted(self) -> tuple[Concept, ...]:
        """Its concepts."""
        return tuple(map(Concept.read, self.concepts))

    @property
    def window(self) -> tuple[int, int]:
        """``window_days``, of what has one."""
        assert self.window_days is not None  # checked above
        return self.window_days[0], self.window_days[1]


class CohortTable(Table):
    """``[cohort]``: an index event, and variables around it."""

    index: CohortIndex
    variables: dict[VariableName, CohortVariable] = Field(
        min_length=1, max_length=2000, description="columns by name"
    )

    @field_validator("variables")
    @classmethod
    def _has_distinct_names(cls, variables: dict[str, CohortVariable]) -> dict[str, CohortVariable]:
        taken = {PATIENT_ID, INDEX_DATE}
        for name in variables:
            if name.casefold() in taken:
                raise WrongKey(name, "a column of every cohort, or another's name in other case")
            taken.add(name.casefold())
        return variables

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the table that answers it, in order."""
        return (PATIENT_ID, INDEX_DATE, *self.variables)


def age_on(day: date, born: date) -> int | None:
    """Whole years; None before birth. Who was born on 29 February is a year older on 1 March.

    >>> age_on(date(2023, 2, 28), date(2004, 2, 29)), age_on(date(2023, 3, 1), date(2004, 2, 29))
    (18, 19)
    """
    years = day.year - born.year - ((day.month, day.day) < (born.month, born.day))
    return years if day >= born else None


def birth_date(year: int, month: int | None, day: int | None) -> date:
    """Of what is known of it. Raises ValueError for a day that no calendar has."""
    if month is None:
        return date(year, 6, 15)
    return date(year, month, day or 1)
