"""An archive by its settings, and whether it answers."""

from __future__ import annotations

from pathlib import Path

from wardround.client.sources.pacs.archive import Archive, NotGiven
from wardround.client.sources.pacs.settings import ArchiveTable, DicomWebSource, DimseSource
from wardround.common.errors import DataError


def opened(settings: ArchiveTable, base: Path, called: str) -> Archive:
    """The archive of a table of ``site.toml``.

    base : the folder of that file; called : how messages name the source

    Raises DataError for a secret, certificate or package that isn't there.
    """
    if isinstance(settings, DicomWebSource):
        from wardround.client.sources.pacs.web import WebArchive

        return WebArchive(settings, base, called)
    if isinstance(settings, DimseSource):
        from wardround.client.sources.pacs.dimse import DimseArchive

        return DimseArchive(settings, base, called)
    raise TypeError(type(settings).__name__)


def greeted(settings: ArchiveTable, base: Path, called: str) -> str:
    """A line for ``wardround doctor``: the archive answers, and what is to be fetched is there.

    Raises DataError with the mend.
    """
    for path in settings.files(base):
        if not path.is_file():
            raise DataError(f"{called} wanted: {path}: there is no such file")
    archive = opened(settings, base, called)
    try:
        return archive.greet()
    except NotGiven as error:
        raise DataError(f"{called}: {error}; ask whoever runs the archive") from None
    finally:
        archive.close()
