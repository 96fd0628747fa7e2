"""The files of a bulk export, by type of resource, and their lines."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from wardround.client.sources.fhir.settings import KINDS, Kind
from wardround.common.errors import DataError

MOST_LINE_BYTES = 64 << 20
_ENDINGS = (".ndjson", ".ndjson.gz")
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_NAMED = {kind: re.compile(rf"(?<![A-Za-z]){kind}(?![A-Za-z])") for kind in KINDS}


class Line(NamedTuple):
    """``number`` counts from 1; ``bytes`` is without white space around it."""

    path: Path
    number: int
    bytes: bytes


class Export:
    """A folder of ``*.ndjson`` and ``*.ndjson.gz``, also in folders below it.

    Raises DataError where there is none.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "there is no such folder"
            raise DataError(f"{folder}: {what}; name the folder with the export's .ndjson files")
        found = [one for one in sorted(folder.rglob("*")) if one.name.endswith(_ENDINGS)]
        self.files: dict[str, list[Path]] = {}
        for path in found:
            if path.is_file():
                self.files.setdefault(_kind_of(path), []).append(path)
        if not self.files:
            raise DataError(
                f"{folder}: no .ndjson or .ndjson.gz file in it; export the resources in bulk as "
                "NDJSON, such as Patient.ndjson (bundles aren't read)"
            )

    def lines(
        self, kind: Kind, may_concern: Callable[[bytes], bool] | None = None
    ) -> Iterator[Line]:
        """Lines of all files of a type, in the order of their names.

        may_concern : asked of a line: False passes it over, unless it can't be a whole resource of
            this type
        """
        own = f'"{kind}"'.encode()
        for path in self.files.get(kind, ()):
            for number, line in _numbered(path):
                if may_concern is not None and not may_concern(line):
                    whole = line[:1] == b"{" and line[-1:] == b"}" and b"\0" not in line
                    if whole and own in line:
                        continue
                yield Line(path, number, line)


def _kind_of(path: Path) -> str:
    """By the file's name, else by its first line."""
    named = [kind for kind, form in _NAMED.items() if form.search(path.name)]
    if len(named) == 1:
        return named[0]
    for _, line in _numbered(path):
        try:
            return str(json.loads(line)["resourceType"])[:64]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise DataError(
                f"{path}:1: no FHIR resource; name the file by the type of its resources, such as "
                "Patient.ndjson, or take it away"
            ) from None
    return ""  # it is empty


def _numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that aren't blank. Raises DataError for a file that is no text in lines."""
    number = 0
    try:
        with _opened(path) as file:
            while line := file.readline(MOST_LINE_BYTES + 1):
                number += 1
                if len(line) > MOST_LINE_BYTES:
                    raise DataError(
                        f"{path}:{number}: the line has over {MOST_LINE_BYTES >> 20} MiB; a bulk "
                        "export has one resource a line"
                    )
                if number == 1:
                    line = line.removeprefix(_BOM)
                if line := line.strip():
                    yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile):
        line_after = f"after line {number}" if number else "from its first byte"
        raise DataError(
            f"{path}: is damaged {line_after} (gzip); copy or export it again"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from None


def _opened(path: Path) -> io.BufferedReader:
    """Raises DataError, OSError."""
    with path.open("rb") as file:
        start = file.read(4)
    if start == _ZIP:
        raise DataError(f"{path}: is a zip; unpack it")
    if start[:2] in _UTF16:
        raise DataError(f"{path}: is UTF-16; NDJSON is UTF-8: export it again, or convert it")
    if start[:2] == _GZIP:
        return io.BufferedReader(gzip.GzipFile(path))
    return path.open("rb")
