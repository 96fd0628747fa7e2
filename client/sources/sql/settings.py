"""``source = "sql"``: which database, and the hospital's own query of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from wardround.client.sources.settings import LocalPath, RowsTable
from wardround.client.sources.sql.address import wrong_form


def _has_a_form(url: str) -> str:
    if wrong := wrong_form(url):
        raise ValueError(wrong)
    return url


Url = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_has_a_form)]


class DatabaseTable(RowsTable):
    """What all sources in a database have."""

    url: Url = Field(
        description=(
            "the database: [a URL without password](data.md#sql), `env:NAME` for the environment "
            "variable that has one, or `file:PATH` for a file (0600) that has one"
        )
    )
    statement_timeout_s: float = Field(
        3600,
        gt=0,
        le=604_800,
        description="longest that one statement may take, with the reading of all its rows",
    )


class SqlSource(DatabaseTable):
    """Rows of a database, by a query."""

    source: Literal["sql"] = Field("sql", description="the kind of source")
    query: LocalPath = Field(
        description=(
            "a file with one SELECT, from this file's folder; a study's plan is asked for again "
            "when it is edited"
        )
    )

    def files(self, base: Path) -> list[Path]:
        return [(base / self.query).resolve()]
