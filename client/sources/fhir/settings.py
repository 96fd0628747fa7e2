"""The keys of a FHIR source in ``site.toml``."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from wardround.client.sources.settings import ColumnName, LocalPath, RowsTable
from wardround.client.sources.units import check_units
from wardround.common.settings.cohort import PATIENT_ID
from wardround.common.settings.concepts import Concept
from wardround.common.settings.key_errors import WrongKey

Kind = Literal[
    "Patient",
    "Encounter",
    "Condition",
    "Observation",
    "MedicationRequest",
    "Procedure",
    "Medication",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Types of resources that are read."""


class FhirSource(RowsTable):
    """A bulk export: ``*.ndjson`` or ``*.ndjson.gz``, one type of resource a file."""

    source: Literal["fhir"] = Field("fhir", description="the kind of source")
    path: LocalPath = Field(description="the folder of the export, from this file's folder")
    patient_id: ColumnName | None = Field(
        PATIENT_ID,
        description="the column that says whose a row is: `patient_id`, the Patient's `id`",
    )
    time_zone: str = Field(
        "",
        max_length=80,
        description=(
            "the clock by which a moment has a day, such as `Europe/Berlin`, where the export has "
            "UTC; left out: the day that is written"
        ),
    )
    codes: dict[Annotated[str, Field(max_length=500, pattern=r"^[^|]+\|[^|]+$")], str] = Field(
        {},
        max_length=10_000,
        description=(
            "this hospital's own codes, as `URL|CODE`, and the concept that each is: "
            '`{ "urn:lab|KREA" = "LOINC:2160-0" }`'
        ),
    )
    units: dict[Annotated[str, Field(min_length=1, max_length=100)], str] = Field(
        {},
        max_length=1000,
        description='how its records write units, in UCUM: `{ "mg/100 ml" = "mg/dL" }`',
    )
    absent: list[Kind] = Field(
        [],
        description=(
            "types of which the export has none because there are none; else one that a study "
            "asks about, and that has no file, is a mistake"
        ),
    )

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        return known_zone(name)

    @model_validator(mode="after")
    def _can_be_used(self) -> FhirSource:
        check_codes(self.codes)
        check_units(self.units)
        return self


def known_zone(name: str) -> str:
    """The name, of a time zone that this machine knows, or ''. Raises ValueError."""
    try:
        if name:
            zoneinfo.ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError("no time zone of this machine, such as Europe/Berlin") from None
    return name


def check_codes(codes: Mapping[str, str]) -> None:
    """Raise WrongKey unless each own code means one concept."""
    for own, text in codes.items():
        try:
            if Concept.read(text).prefix:
                raise ValueError("one code is one concept, without *")
        except ValueError as error:
            raise WrongKey(f"codes.{own}", str(error)) from None
