"""``[data.NAME]`` of ``site.toml``: a place where the hospital keeps data, by ``source``.

Each kind of source is a model here or in its own sub-room, entered in ``KINDS``; what reads it is
found in ``readers.py``. A table is made by the model of its ``source``, so that whatever is wrong
with a key is said by that key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, WrapValidator

from wardround.common.settings import Table
from wardround.common.settings.key_errors import WrongKey

LocalPath = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]
ColumnName = Annotated[str, Field(min_length=1, max_length=1000)]
FILE = "file"


class SourceTable(Table):
    """What all kinds of sources have."""

    source: str = Field(FILE, description="the kind of source")

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


class FilesTable(SourceTable):
    """What all sources of images have."""


class FileSource(RowsTable):
    """A file, or the files of a folder: CSV, Parquet or Excel for tables, else as the task
    has it."""

    source: Literal["file"] = "file"
    path: LocalPath = Field(description="a file or folder, from this file's folder")

    def in_place(self, base: Path) -> Path | None:
        changed = self.model_fields_set - {"source", "path"}
        return None if changed else (base / self.path).resolve()


KINDS: Mapping[str, type[SourceTable]] = {FILE: FileSource}
"""By ``source``."""


def _of_kind(value: Any, handler: Callable[[Any], SourceTable]) -> SourceTable:
    """A table as the model of its kind. Raises ValidationError by the keys of that model."""
    if not isinstance(value, dict):
        return value if isinstance(value, SourceTable) else handler(value)
    kind = value.get("source", FILE)
    if not isinstance(kind, str) or kind not in KINDS:
        raise WrongKey("source", f"there is no such kind of source; there are: {', '.join(KINDS)}")
    return KINDS[kind].model_validate(value)


DataSource = Annotated[SerializeAsAny[SourceTable], WrapValidator(_of_kind)]
