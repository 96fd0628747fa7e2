"""The bytes of a text file, as UTF-8, without a byte-order mark.

A file in UTF-8 is read from the disk piece by piece, each time it is needed; one in another
encoding is held in memory as UTF-8.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from wardround.common.errors import DataError

PIECE_BYTES = 1 << 20
MEND = "save the file as UTF-8, or name its encoding in task.dialect.encoding"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MAGIC = (
    (b"PK\x03\x04", "a zip archive: unpack it, or give an Excel file its ending .xlsx"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Office file: save it as .xlsx or CSV"),
    (b"PAR1", "a Parquet file: give it the ending .parquet"),
    (b"\x1f\x8b", "packed by gzip: unpack it"),
    (b"%PDF", "a PDF: export the table as CSV"),
    (b"{\\rtf", "a formatted text: export the table as CSV"),
    (b"SQLite format 3\0", "a SQLite database: export the table as CSV"),
    (b"\x89PNG", "a picture: export the table as CSV"),
    (b"\xff\xd8\xff", "a picture: export the table as CSV"),
    (b"\x7fELF", "a program: export the table as CSV"),
    (b"BZh", "packed by bzip2: unpack it"),
    (b"\xfd7zXZ\0", "packed by xz: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "packed by 7-Zip: unpack it"),
    (b"Rar!", "packed by RAR: unpack it"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd: unpack it"),
)


_MARKED_UP = (
    *((begin, "a web page or XML") for begin in (b"<?xml", b"<html", b"<!doctype", b"<table")),
    (b"[{", "JSON"),
    (b'{"', "JSON"),
)
"""Read as CSV, records in braces would be names of columns, and so be shown."""


def other_kind(head: bytes) -> str | None:
    """What a file's first bytes say that it is, if it is no table in text; with the mend."""
    found = next((what for magic, what in _MAGIC if head.startswith(magic)), None)
    if found is not None:
        return found
    text = b"".join(head.removeprefix(codecs.BOM_UTF8).split()).lower()
    what = next((what for begin, what in _MARKED_UP if text.startswith(begin)), None)
    return None if what is None else f"{what}: export the table as CSV"


@dataclass(frozen=True)
class Content:
    """A file's text.

    encoding : as it lies on disk
    guessed : whether neither the settings nor a mark say so
    memory : its bytes in UTF-8 where that is another; None where they are read from the file
    skip : bytes of a byte-order mark in front
    """

    path: Path
    encoding: str
    guessed: bool
    memory: bytes | None = None
    skip: int = 0

    def open(self) -> IO[bytes]:
        """The bytes from the beginning, behind a mark."""
        if self.memory is not None:
            return io.BytesIO(self.memory)
        file = open(self.path, "rb")
        file.seek(self.skip)
        return file

    def text(self) -> IO[str]:
        """The text, with its ends of lines as they are."""
        return io.TextIOWrapper(self.open(), "utf-8", newline="")

    def pieces(self) -> Iterator[bytes]:
        """The bytes, ``PIECE_BYTES`` at a time."""
        with self.open() as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def line_at(self, position: int) -> int:
        """The line (from 1) of a byte."""
        line, before = 1, 0
        for piece in self.pieces():
            line += piece.count(b"\n", 0, max(0, position - before))
            before += len(piece)
            if before > position:
                break
        return line

    def sample(self, size: int) -> str:
        """About the first ``size`` bytes as text, up to the end of a line if there is one."""
        with self.open() as file:
            found = file.read(size)
        if len(found) == size:
            end = max(found.rfind(b"\n"), found.rfind(b"\r"))
            found = found[: end + 1] if end >= 0 else found
        return found.decode("utf-8", "replace")

    def recoded(self, encoding: str) -> Content:
        """The same in another encoding. Raises DataError by the line that isn't in it."""
        data = self.path.read_bytes() if self.memory is None else self.memory
        try:
            text = data.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            known = "neither UTF-8 nor Windows-1252" if self.guessed else f"not {encoding}"
            raise DataError(f"{self.path}:{line}: {known} text; {MEND}") from None
        except UnicodeError:
            raise DataError(f"{self.path}: not {encoding} text; {MEND}") from None
        return Content(self.path, encoding, self.guessed, text.encode("utf-8", "replace"))


def read_text(path: Path) -> str:
    """A whole file in UTF-8. Raises DataError by the line that isn't."""
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None


def opened(path: Path, encoding: str | None) -> Content:
    """The file's content: in ``encoding``, that of its mark, or UTF-8 as a guess. Raises DataError
    for what begins as another kind of file does."""
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from None
    return _in_encoding(path, head, encoding, None)


def held(path: Path, data: bytes, encoding: str | None) -> Content:
    """The same of bytes in memory; ``path`` names them in messages."""
    return _in_encoding(path, data[:16], encoding, data)


def marked_encoding(head: bytes) -> tuple[bytes, str | None]:
    """(mark, encoding) that the first bytes of a text say; (b"", None) where they say nothing."""
    return next(((m, e) for m, e in _MARKS if head.startswith(m)), (b"", None))


def _in_encoding(path: Path, head: bytes, encoding: str | None, data: bytes | None) -> Content:
    if (what := other_kind(head)) is not None:
        raise DataError(f"{path}: no CSV, but {what}")
    mark, marked = marked_encoding(head)
    asked = encoding or marked or "utf-8"
    guessed = encoding is None and marked is None
    skip = len(mark) if marked == "utf-8" else 0
    if data is None:
        content = Content(path, "utf-8", guessed, skip=skip)
    else:
        content = Content(path, "utf-8", guessed, data[skip:])
    return content if asked in ("utf-8", "utf-8-sig") else content.recoded(asked)
