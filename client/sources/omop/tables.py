"""The clinical tables of the CDM, and how databases write dates."""

from __future__ import annotations

from typing import NamedTuple

from wardround.client.sources.sql.address import Kind


class Clinical(NamedTuple):
    """A table with its columns. ``end``: the day of a visit's end."""

    name: str
    id: str
    concept: str
    source: str
    day: str
    moment: str
    end: str = ""
    has_values: bool = False


TABLES: dict[str, Clinical] = {
    "visit": Clinical(
        "visit_occurrence",
        "visit_occurrence_id",
        "visit_concept_id",
        "visit_source_concept_id",
        "visit_start_date",
        "visit_start_datetime",
        "visit_end_date",
    ),
    "condition": Clinical(
        "condition_occurrence",
        "condition_occurrence_id",
        "condition_concept_id",
        "condition_source_concept_id",
        "condition_start_date",
        "condition_start_datetime",
    ),
    "procedure": Clinical(
        "procedure_occurrence",
        "procedure_occurrence_id",
        "procedure_concept_id",
        "procedure_source_concept_id",
        "procedure_date",
        "procedure_datetime",
    ),
    "measurement": Clinical(
        "measurement",
        "measurement_id",
        "measurement_concept_id",
        "measurement_source_concept_id",
        "measurement_date",
        "measurement_datetime",
        has_values=True,
    ),
    "observation": Clinical(
        "observation",
        "observation_id",
        "observation_concept_id",
        "observation_source_concept_id",
        "observation_date",
        "observation_datetime",
        has_values=True,
    ),
    "drug": Clinical(
        "drug_exposure",
        "drug_exposure_id",
        "drug_concept_id",
        "drug_source_concept_id",
        "drug_exposure_start_date",
        "drug_exposure_start_datetime",
    ),
}
"""By ``of`` of a variable, and ``event`` of an index."""


class Dialect(NamedTuple):
    """How a database writes what databases write differently. SQLite has texts for dates."""

    kind: Kind

    def day(self, column: str) -> str:
        """A date."""
        return f"date({column})" if self.kind == "sqlite" else f"CAST({column} AS date)"

    def told_day(self, column: str) -> str:
        """A date as an answer has it: where a database has texts for dates, one that is none is
        told as it stands, to be counted; a text nowhere becomes a missing date unseen."""
        return f"coalesce({self.day(column)}, {column})" if self.texts else self.day(column)

    def number(self, column: str) -> str:
        """A number as an answer has it. SQLite's own cast makes 0 of any text."""
        return column if self.texts else f"CAST({column} AS double precision)"

    @property
    def texts(self) -> bool:
        """Whether a column of any type may hold any text."""
        return self.kind == "sqlite"

    def moment(self, column: str) -> str:
        """A time without zone."""
        if self.kind == "sqlite":
            return f"strftime('%Y-%m-%d %H:%M:%f', {column})"
        return f"CAST({column} AS timestamp)"

    def later(self, day: str, days: str) -> str:
        """A date so many days later."""
        return f"date({day}, {days} || ' days')" if self.kind == "sqlite" else f"{day} + {days}"

    def date(self, text: str) -> str:
        """A date of the settings, which is YYYY-MM-DD."""
        return literal(text) if self.kind == "sqlite" else f"DATE {literal(text)}"


_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ._/+^-")


def literal(text: str) -> str:
    """A text in SQL. Only letters and signs that codes, vocabularies and dates have get there: no
    quotation mark, no backslash. Raises ValueError for others."""
    if not set(text) <= _PLAIN:
        raise ValueError(f"{text!r:.80} can't stand in SQL")
    return f"'{text}'"


def qualified(schema: str, table: str) -> str:
    """A table with its schema, whose form the settings hold."""
    return f"{schema}.{table}" if schema else table
