"""``[data.NAME]`` of an archive: ``source = "dicomweb"`` or ``source = "dicom"`` (DIMSE)."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from wardround.client.sources.settings import FilesTable, LocalPath
from wardround.common.address import split_address
from wardround.common.settings import Table
from wardround.common.settings.declared import Name
from wardround.common.settings.key_errors import WrongKey
from wardround.common.tasks.data.reading.dialect import Dialect

Pattern = Annotated[str, Field(min_length=1, max_length=200)]
Patterns = Annotated[list[Pattern], Field(max_length=100)]
Modality = Annotated[str, Field(pattern=r"^[A-Z0-9]{2,16}$")]
Column = Annotated[Name, Field(min_length=1, max_length=200)]
Secret = Annotated[str, Field(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]{0,199}|file:[^\x00]{1,4096})$")]
AeTitle = Annotated[str, Field(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$")]
"""1 to 16 letters of ASCII without a backslash, blanks at neither end (PS3.5, VR AE)."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class ListColumns(Table):
    """``[data.NAME.columns]``: what the columns of the table in ``wanted`` are called."""

    study: Column = Field("StudyInstanceUID", description="the study's UID")
    series: Column = Field("SeriesInstanceUID", description="the series' UID, beside the study's")
    accession: Column = Field("AccessionNumber", description="the accession number")
    patient_id: Column = Field("PatientID", description="the patient's identifier in the archive")
    label: Column = Field("label", description="the class")
    patient: Column = Field(
        "patient",
        description=(
            "whose images stay together, where that isn't to be the archive's PatientID; may be "
            "missing"
        ),
    )
    split: Column = Field(
        "split", description="`train`, `validation` or `test`; where `task.files.split` is set"
    )


class Query(Table):
    """``[[data.NAME.query]]``: studies that are searched for, instead of a table."""

    label: Column = Field(description="the class of all that is found")
    modality: Modality = Field(description="that the study has")
    description: Pattern = Field(
        "*", description="of the study; `*` and `?` as in a shell, whatever the case"
    )
    dates: tuple[date, date] | None = Field(
        None, description='first and last day of the study: `["2024-01-01", "2024-12-31"]`'
    )

    @field_validator("dates", mode="before")
    @classmethod
    def _days(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            return value
        if len(value) != 2:
            raise ValueError("two days: the first and the last")
        try:
            found = [day if isinstance(day, date) else date.fromisoformat(day) for day in value]
        except (ValueError, TypeError):
            raise ValueError('days are written as "2024-12-31"') from None
        if found[0] > found[1]:
            raise ValueError("the first day comes before the last")
        return tuple(found)


class SeriesChoice(Table):
    """``[data.NAME.series]``: which series of a study are meant."""

    modality: list[Modality] = Field([], max_length=100, description="left out: any")
    description: Patterns = Field(
        [], description="of the series, one of these; `*` and `?` as in a shell; left out: any"
    )
    without: Patterns = Field([], description="series of such a description aren't meant")


class Limits(Table):
    """``[data.NAME.limits]``: how much may come; more of a series leaves it out, of all ends it."""

    max_studies: int = Field(20_000, ge=1, le=10_000_000, description="rows or studies in all")
    max_series: int = Field(50, ge=1, le=10_000, description="looked at of one study")
    max_objects: int = Field(5_000, ge=1, le=1_000_000, description="of one series")
    max_series_mb: int = Field(4_096, ge=1, le=1_000_000, description="of one series")
    max_total_gb: int = Field(500, ge=1, le=1_000_000, description="of all series together")


class ArchiveTable(FilesTable):
    """What both ways to an archive have."""

    wanted: LocalPath | None = Field(
        None,
        description=(
            "a table of what is fetched, from this file's folder: a row for each image with its "
            "`label`, told by `StudyInstanceUID` (and `SeriesInstanceUID`), `AccessionNumber` or "
            "`PatientID`"
        ),
    )
    columns: ListColumns = ListColumns()
    dialect: Dialect = Field(
        Dialect(),
        description="how that table is written, as [`task.dialect`](configuration.md#taskdialect)",
    )
    query: list[Query] = Field([], max_length=1000, description="or what is searched for")
    series: SeriesChoice = SeriesChoice()
    limits: Limits = Limits()
    retries: int = Field(
        5, ge=0, le=100, description="of a study, where the archive is away; then go on later"
    )
    timeout_s: float = Field(60.0, gt=0, le=3600, description="without a sign of the archive")

    @model_validator(mode="after")
    def _says_what(self) -> ArchiveTable:
        if (self.wanted is None) == (not self.query):
            what = "name a table in wanted, or what to search for in query"
            raise WrongKey("wanted", what if self.wanted is None else f"{what}, not both")
        if self.wanted is None and self.columns != ListColumns():
            raise WrongKey("columns", "has no effect without a table in wanted")
        if self.wanted is None and self.dialect != Dialect():
            raise WrongKey("dialect", "has no effect without a table in wanted")
        return self

    def files(self, base: Path) -> list[Path]:
        return [(base / self.wanted).resolve()] if self.wanted is not None else []


class DicomWebSource(ArchiveTable):
    """A DICOMweb service: searched by QIDO-RS, fetched by WADO-RS."""

    source: Literal["dicomweb"] = Field("dicomweb", description="the kind of source")
    url: Annotated[str, Field(pattern=r"^https?://[^\s@?#]{1,2000}$")] = Field(
        description="of the service, without a user: `https://pacs.hospital.example/dicom-web`"
    )
    ca: LocalPath | None = Field(
        None, description="a PEM file of the authority that the service's certificate is from"
    )
    user: Annotated[str, Field(pattern=r"^[^:\x00-\x1f]{1,200}$")] | None = Field(
        None, description="with `password`: basic authentication"
    )
    password: Secret | None = Field(
        None, description="`env:NAME`, or `file:PATH` of a file that its owner only may read"
    )
    token: Secret | None = Field(None, description="a bearer token, in the same way")
    page: int = Field(200, ge=1, le=100_000, description="results asked for at once")

    @model_validator(mode="after")
    def _is_protected(self) -> DicomWebSource:
        if (self.user is None) != (self.password is None):
            raise WrongKey("password", "user and password go together")
        if self.token is not None and self.user is not None:
            raise WrongKey("token", "a token, or user and password; not both")
        address = urlsplit(self.url)
        plain = address.scheme == "http"
        if plain and self.ca is not None:
            raise WrongKey("ca", "has no effect on http; use https")
        if plain and (self.user or self.token) and address.hostname not in _LOOPBACK:
            raise WrongKey("url", "a password or token isn't sent over plain http; use https")
        return self


class DimseSource(ArchiveTable):
    """An archive's DICOM port: searched by C-FIND, fetched by C-GET or C-MOVE."""

    source: Literal["dicom"] = Field("dicom", description="the kind of source")
    host: Annotated[str, Field(pattern=r"^[^\s/]{1,253}$")] = Field(description="of the archive")
    port: int = Field(ge=1, le=65535, description="of the archive")
    archive_title: AeTitle = Field(description="the archive's AE title")
    title: AeTitle = Field("WARDROUND", description="this hospital's own, as the archive knows it")
    retrieve: Literal["get", "move"] = Field(
        "get", description="`move`: the archive connects to `listen` and sends there"
    )
    listen: str | None = Field(
        None,
        description=(
            'own address and port for `move`: `"10.0.3.7:11112"`; open while it fetches, to '
            "the archive's host and AE title, for what was asked of it only"
        ),
    )
    tls: bool = Field(False, description="TLS, in both directions")
    ca: LocalPath | None = Field(None, description="a PEM file of the authority; with `tls`")
    certificate: LocalPath | None = Field(None, description="own, as PEM; with `tls` and `key`")
    key: LocalPath | None = Field(None, description="its key, as PEM, which only its owner reads")

    @model_validator(mode="after")
    def _fits(self) -> DimseSource:
        if (self.retrieve == "move") != (self.listen is not None):
            raise WrongKey("listen", "goes with retrieve = 'move': address and port of your own")
        if self.listen is not None:
            try:
                split_address(self.listen)
            except ValueError as error:
                raise WrongKey("listen", str(error)) from None
        for name in ("ca", "certificate", "key"):
            if getattr(self, name) is not None and not self.tls:
                raise WrongKey(name, "has no effect without tls = true")
        if (self.certificate is None) != (self.key is None):
            raise WrongKey("key", "certificate and key go together")
        if self.tls and self.retrieve == "move" and self.key is None:
            raise WrongKey("certificate", "with tls and move, the archive needs one to trust")
        return self
