"""What reads each kind of source; a package that only one kind needs is imported by its reader."""

from __future__ import annotations

from collections.abc import Iterator

from wardround.client.sources.fhir.settings import FhirSource
from wardround.client.sources.fhir.source import FhirRows
from wardround.client.sources.fhir.source import look as look_at_export
from wardround.client.sources.files import FileRows
from wardround.client.sources.omop.settings import OmopSource
from wardround.client.sources.omop.shown import shown_sql
from wardround.client.sources.omop.source import OmopRows
from wardround.client.sources.pacs.fetch import ArchiveImages
from wardround.client.sources.pacs.reach import greeted
from wardround.client.sources.pacs.settings import ArchiveTable
from wardround.client.sources.settings import FileSource, FilesTable, RowsTable, SourceTable
from wardround.client.sources.source import Asked, FolderSource, TableSource
from wardround.client.sources.sql.look import look_at
from wardround.client.sources.sql.settings import DatabaseTable, SqlSource
from wardround.client.sources.sql.source import SqlRows
from wardround.common.errors import DataError


def rows_of(source: RowsTable) -> TableSource:
    """What reads a source of rows. Raises DataError where a package for it isn't installed."""
    match source:
        case FileSource():
            return FileRows(source)
        case SqlSource():
            return SqlRows(source)
        case FhirSource():
            return FhirRows(source)
        case OmopSource():
            return OmopRows(source)
    raise AssertionError(f"no reader for {type(source).__name__}")


def files_of(source: FilesTable) -> FolderSource:
    """What reads a source of files. Raises DataError where a package for it isn't installed."""
    match source:
        case ArchiveTable():
            return ArchiveImages(source)
    raise AssertionError(f"no reader for {type(source).__name__}")


def look(source: SourceTable, asked: Asked) -> str:
    """What ``wardround doctor`` says of a source, without reading its rows. Raises DataError."""
    match source:
        case FileSource():
            path = (asked.base / source.path).resolve()
            if not path.exists():
                raise DataError(f"{path}: there is no such file or folder")
            return f"{path}: is there"
        case OmopSource():
            return look_at(source, asked, source.needed)
        case DatabaseTable():
            return look_at(source, asked)
        case FhirSource():
            return look_at_export(source, asked.base)
        case ArchiveTable():
            return greeted(source, asked.base, asked.called)
    raise AssertionError(f"nothing looks at {type(source).__name__}")


def shown(source: SourceTable, asked: Asked) -> Iterator[str]:
    """What a person is shown of a source beside a plan: what the study's question becomes here."""
    if isinstance(source, OmopSource):
        yield from shown_sql(source, asked)
