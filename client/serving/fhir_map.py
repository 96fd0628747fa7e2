"""Which of a patient's records are a model's inputs: the study's ``[cohort]``, or a file's.

    time_zone = "Europe/Berlin"            # by which a moment has a day
    codes = { "urn:lab|KREA" = "LOINC:2160-0" }
    units = { "mg/100 ml" = "mg/dL" }

    [variables.creatinine]                 # as [cohort.variables.NAME] of a study
    of = "measurement"
    concepts = ["LOINC:2160-0"]
    unit = "umol/L"
    window_days = [-30, 0]

The first three are this hospital's, and good for any model. ``[variables]`` is for a model whose
study had no cohort; one that had is asked as it was trained.
"""

from __future__ import annotations

import tomllib
import zoneinfo
from datetime import tzinfo
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator, model_validator

from wardround.client.sources.fhir.settings import check_codes, known_zone
from wardround.client.sources.units import check_units
from wardround.common.config.source import Source, validation_error
from wardround.common.errors import ConfigError
from wardround.common.settings.base import Table
from wardround.common.settings.cohort import (
    CohortIndex,
    CohortTable,
    CohortVariable,
    VariableName,
)
from wardround.common.tasks.schema import Schema

_MOST_BYTES = 1 << 20
_Own = Annotated[str, Field(max_length=500, pattern=r"^[^|]+\|[^|]+$")]


class FhirMap(Table):
    """A file of ``--fhir-map``."""

    time_zone: str = Field("", max_length=80)
    codes: dict[_Own, str] = Field({}, max_length=10_000)
    units: dict[Annotated[str, Field(min_length=1, max_length=100)], str] = Field(
        {}, max_length=1000
    )
    variables: dict[VariableName, CohortVariable] = Field({}, max_length=2000)

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        return known_zone(name)

    @model_validator(mode="after")
    def _can_be_used(self) -> FhirMap:
        check_codes(self.codes)
        check_units(self.units)
        return self

    @property
    def zone(self) -> tzinfo | None:
        """The hospital's clock; None: days are as they are written."""
        return zoneinfo.ZoneInfo(self.time_zone) if self.time_zone else None

    @classmethod
    def read(cls, path: Path) -> FhirMap:
        """The map of a file. Raises ConfigError with file, line, key."""
        try:
            with open(path, "rb") as file:
                text = file.read(_MOST_BYTES + 1).decode("utf-8")
            tables = tomllib.loads(text)
        except OSError as error:
            raise ConfigError(f"--fhir-map {path}: can't be read ({error.strerror})") from None
        except ValueError as error:  # a TOMLDecodeError and a UnicodeDecodeError are such
            raise ConfigError(f"--fhir-map {path}: no TOML ({error})") from None
        if len(text) > _MOST_BYTES:
            raise ConfigError(f"--fhir-map {path}: has over {_MOST_BYTES >> 20} MiB")
        try:
            return cls.model_validate(tables)
        except ValidationError as error:
            raise validation_error(error, Source(text, path).place, cls) from None


def cohort_for(schema: Schema, study: CohortTable | None, own: FhirMap) -> CohortTable | None:
    """What a patient's records are asked: the model's inputs, and what keeps a patient out of what
    the model is for, as far as it lies in the past. None where nothing says it.

    Raises ConfigError for a map that says it in part, and for one beside a cohort.
    """
    if study is not None and own.variables:
        raise ConfigError(
            "--fhir-map: the model's study has a [cohort], and it is asked as it was trained",
            mend="leave [variables] out",
        )
    if study is None and not own.variables:
        return None
    found = study.variables if study is not None else own.variables
    inputs = {one.name for one in schema.inputs}
    if lacking := sorted(inputs - found.keys()):
        if study is not None:  # the study's rows were made of more than its cohort
            return None
        raise ConfigError(
            f"--fhir-map: it has no [variables.{lacking[0]}], which is an input of the model",
            mend="say what it is of, or leave [variables] out",
        )
    kept = {
        name: one
        for name, one in found.items()
        if name in inputs or (one.rows != "all" and _is_past(one))
    }
    index = study.index if study is not None else CohortIndex(event="visit")
    return CohortTable(index=index, variables=kept)


def _is_past(one: CohortVariable) -> bool:
    """Whether it is known on the day on which the model is asked."""
    return one.of in ("age", "sex") or one.window[1] <= 0
