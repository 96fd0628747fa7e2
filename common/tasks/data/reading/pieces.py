"""A CSV of any size, or of a stream, as typed columns a part at a time.

What ``csv.py`` finds out of a whole file (marks, encoding, names) is found in the first part, and
holds for the others; what doesn't fit it later is an error by its line. A part ends where a record
does. A file that fits into one part is read as any other.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from wardround.common.errors import DataError
from wardround.common.tasks.data.reading.content import (
    MEND,
    Content,
    held,
    marked_encoding,
)
from wardround.common.tasks.data.reading.csv import CsvTable, read_content
from wardround.common.tasks.data.reading.detect import find_quote
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.data.reading.scan import LONGEST_LINE_BYTES, endless_line

PART_BYTES = 16 << 20
_NEWLINE = 10


@dataclass(frozen=True)
class Part:
    """Some records of a file. ``line`` : lines in front of its first one"""

    csv: CsvTable
    line: int


def csv_parts(
    file: IO[bytes],
    path: Path,
    dialect: Dialect,
    missing: Collection[str],
    texts: Collection[str] | None,
    hide_names: bool,
    most_bytes: int = PART_BYTES,
) -> Iterator[Part]:
    """The records of an open file, in order; see ``read.read_file``.

    path : names it in messages

    Raises DataError with what is wrong in a part, when it comes to it.
    """
    first = _read(file, most_bytes)
    if len(first) < most_bytes:
        content = held(path, first, dialect.encoding)
        yield Part(read_content(content, dialect, missing, texts, hide_names), 0)
        return
    known, lines = dialect, 0
    for data in _Cut(file, path, dialect, most_bytes).parts(first):
        count = data.count(b"\n")
        if data.strip():
            content = Content(path, "utf-8", False, data)
            read = read_content(content, known, missing, texts, hide_names)
            yield Part(read, lines)
            known = read.dialect
        lines += count


class _Cut:
    """Bytes of a file, in UTF-8, as parts that end with a record."""

    def __init__(self, file: IO[bytes], path: Path, dialect: Dialect, most_bytes: int) -> None:
        self._file, self._path, self._most = file, path, most_bytes
        self._given, self._quote = dialect.encoding, dialect.quote
        self._guess: str | None = None  # until a letter beyond ASCII says it
        self._decoder: codecs.IncrementalDecoder | None = None

    def parts(self, first: bytes) -> Iterator[bytes]:
        """All of them; ``first`` was read already."""
        held(self._path, first[:16], "utf-8")  # refuses what is no text
        mark, marked = marked_encoding(first)
        encoding = self._given or marked or "utf-8"
        if encoding not in ("utf-8", "utf-8-sig"):
            self._decoder = codecs.getincrementaldecoder(encoding)()
        elif self._given or marked:
            self._guess = "utf-8 alone"
        data = self._in_utf8(first[len(mark) if marked == "utf-8" else 0 :])
        data = data.removeprefix(codecs.BOM_UTF8)
        quote = (self._quote or find_quote(data[: 1 << 18].decode("utf-8", "replace"))).encode()
        while True:
            end = _last_end(data, quote)
            if end == 0 and len(data) > max(self._most, LONGEST_LINE_BYTES):
                raise endless_line(self._path, 1)
            if end:
                yield self._as_text(data[:end])
                data = data[end:]
            more = _read(self._file, self._most)
            if not more:
                break
            data += self._in_utf8(more)
        data += self._in_utf8(b"", final=True)
        if data:
            yield self._as_text(data)

    def _in_utf8(self, data: bytes, final: bool = False) -> bytes:
        """Bytes of a named encoding as UTF-8; others as they are."""
        if self._decoder is None:
            return data
        try:
            return self._decoder.decode(data, final).encode("utf-8", "replace")
        except UnicodeError:
            raise DataError(f"{self._path}: not {self._given or 'UTF-16'} text; {MEND}") from None

    def _as_text(self, data: bytes) -> bytes:
        """A part in UTF-8, by the encoding that its letters, or those before, are in."""
        if self._decoder is not None or data.isascii():
            return data
        utf8 = _is(data, "utf-8")
        if self._guess is None:
            self._guess = "utf-8" if utf8 else "cp1252"
        if self._guess == "cp1252" and _is(data, "cp1252"):
            return data.decode("cp1252").encode()
        if utf8 and self._guess != "cp1252":
            return data
        known = "UTF-8" if self._guess == "utf-8 alone" else "neither UTF-8 nor Windows-1252"
        raise DataError(f"{self._path}: not all of it is {known} text; {MEND}")


def _is(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _last_end(data: bytes, quote: bytes) -> int:
    """Where the last whole record ends; 0 where none does. An end of a line within quotes is a part
    of a cell."""
    if quote not in data:
        return data.rfind(b"\n") + 1
    values = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(values == _NEWLINE)
    before = np.searchsorted(np.flatnonzero(values == quote[0]), ends)
    outside = ends[before % 2 == 0]
    return int(outside[-1]) + 1 if len(outside) else 0


def _read(file: IO[bytes], size: int) -> bytes:
    """So many bytes, fewer only at the end: a pipe gives less at a time."""
    parts, left = [], size
    while left > 0 and (part := file.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
