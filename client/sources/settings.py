"""``[data.NAME]`` of ``site.toml``: a place where the hospital keeps data, by ``source``.

Each kind of source is a model here or in its own sub-room, entered in ``kinds.py``; what reads it
is found in ``readers.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from wardround.common.settings import Table
from wardround.common.settings.declared import Name
from wardround.common.tasks.data.mapping.settings import Mapping
from wardround.common.tasks.data.reading.dialect import Dialect

LocalPath = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]
ColumnName = Annotated[Name, Field(min_length=1, max_length=1000)]
FILE = "file"


class SourceTable(Table):
    """What all kinds of sources have."""

    source: str = Field(FILE, description="the kind of source")
    left_out_share: float | None = Field(
        None,
        ge=0,
        le=0.5,
        description=(
            "share of the rows or image files that may be left out because they can't be read or "
            "mapped; each is listed in the client's log, and the count may be told. Left out: 0 of "
            "rows, 0.01 of image files"
        ),
    )

    def files(self, base: Path) -> list[Path]:
        """Further files of the hospital's own that shape what is read, such as a query: an edited
        one makes other terms. ``base``: the folder of ``site.toml``."""
        return []

    def in_place(self, base: Path) -> Path | None:
        """The file or folder, where the task loads it as it lies; None where it is taken first."""
        return None


class RowsTable(SourceTable):
    """What all sources of rows have."""

    patient_id: ColumnName | None = Field(
        None,
        description=(
            "the column (by its name after the mapping) that says whose a row is: never an input; "
            "held-out rows and withdrawn patients are told by it, whatever the study names"
        ),
    )

    map: Mapping = Field(
        Mapping(),
        description=(
            "the study's names, units and categories for this hospital's own, and derived columns: "
            "[mapping](data.md#mapping)"
        ),
    )


class FilesTable(SourceTable):
    """What all sources of images have."""


class FileSource(RowsTable):
    """A file, or the files of a folder: CSV, Parquet or Excel for tables, else as the task
    has it."""

    source: Literal["file"] = Field("file", description="the kind of source")
    path: LocalPath = Field(description="a file or folder, from this file's folder")
    snapshot: bool = Field(
        False,
        description=(
            "take a snapshot of rows even if nothing else here asks for one: a study then has the "
            "columns alone that `columns` allows"
        ),
    )
    dialect: Dialect = Field(
        Dialect(),
        description="how its files are written, as [`task.dialect`](configuration.md#taskdialect)",
    )

    def in_place(self, base: Path) -> Path | None:
        changed = self.model_fields_set - {"source", "path", "left_out_share"}
        return None if changed else (base / self.path).resolve()
