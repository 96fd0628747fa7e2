"""The keys of an OMOP source in ``site.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from wardround.client.sources.omop.tables import qualified
from wardround.client.sources.settings import ColumnName, LocalPath
from wardround.client.sources.sql.settings import DatabaseTable
from wardround.client.sources.units import check_units
from wardround.common.settings.cohort import PATIENT_ID

Schema = Annotated[
    str, Field(max_length=200, pattern=r"^([A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?)?$")
]


class OmopSource(DatabaseTable):
    """Tables of the OMOP Common Data Model in a database."""

    source: Literal["omop"] = Field("omop", description="the kind of source")
    patient_id: ColumnName | None = Field(
        PATIENT_ID, description="the column that says whose a row is"
    )
    cdm_schema: Schema = Field(
        "", description="where `person` and the others are; left out: as the database finds them"
    )
    vocabulary_schema: Schema | None = Field(
        None, description="where `concept` is; left out: `cdm_schema`"
    )
    patients_by: Literal["person_id", "person_source_value"] = Field(
        "person_id", description="which column of `person` is `patient_id`"
    )
    maps_to: bool = Field(
        False,
        description=(
            "whether a code that is no standard concept also means those that it maps to: for "
            "tables whose source concepts are 0"
        ),
    )
    units: dict[Annotated[str, Field(min_length=1, max_length=100)], str] = Field(
        {},
        max_length=1000,
        description=(
            "how its records write units (`unit_source_value`, or `OMOP:` and `unit_concept_id`), "
            'in UCUM: `{ "OMOP:44777556" = "10*9/L", "mg/100 ml" = "mg/dL" }`'
        ),
    )
    query: LocalPath | None = Field(
        None,
        description=(
            "a file with one SELECT of this hospital's own that answers the cohort, in place of "
            "the SQL that is made of it"
        ),
    )

    def files(self, base: Path) -> list[Path]:
        return [(base / self.query).resolve()] if self.query is not None else []

    @property
    def vocabulary(self) -> str:
        """The schema of ``concept``."""
        return self.cdm_schema if self.vocabulary_schema is None else self.vocabulary_schema

    @property
    def needed(self) -> list[str]:
        """Tables that whatever cohort needs."""
        own = [qualified(self.cdm_schema, "person"), qualified(self.vocabulary, "concept")]
        return [] if self.query is not None else own

    @model_validator(mode="after")
    def _has_units(self) -> OmopSource:
        check_units(self.units)
        return self
