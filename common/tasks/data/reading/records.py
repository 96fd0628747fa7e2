"""A CSV's records one by one, as a strict reader has them: for messages, and for files that the
fast parser would read otherwise."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from wardround.common.tasks.data.problems import Problems
from wardround.common.tasks.data.reading.content import Content
from wardround.common.tasks.data.reading.scan import LONGEST_LINE_BYTES


class Broken(Exception):
    """A record that a strict reader can't read. line : where it begins; reason : quotes no cell"""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line, self.reason = line, reason


@dataclass(frozen=True)
class Layout:
    """How a text file's records lie.

    skip : lines in front of the first record that is a row
    width : cells of each
    """

    content: Content
    delimiter: str
    quote: str
    quotes: bool
    skip: int
    width: int

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """(line where it begins, cells) of each row. Raises Broken."""
        with _wide_cells(), self.content.text() as text:
            for _ in range(self.skip):
                text.readline()
            reader = csv.reader(text, delimiter=self.delimiter, quotechar=self.quote, strict=True)
            line = self.skip + 1  # where a row begins; reader.line_num is where it ends
            try:
                for cells in reader:
                    if cells:
                        yield line, cells
                    line = self.skip + reader.line_num + 1
            except csv.Error as error:
                raise Broken(line, str(error)) from None

    def problems(self) -> Problems:
        """Every row of another width, and where reading ends early."""
        found, path = Problems(self.content.path), self.content.path
        try:
            for line, cells in self.rows():
                if len(cells) != self.width:
                    found.add(
                        f"{path}:{line}: {len(cells)} cells, but there are {self.width} columns; "
                        "quote cells that hold the delimiter"
                    )
        except Broken as error:
            found.add(
                f"{path}:{error.line}: not readable as CSV ({error.reason}); close the quote, or "
                "double it within a cell"
            )
        return found

    def column_texts(self) -> list[pa.ChunkedArray]:
        """All cells as texts, as a strict reader has them. Raises Broken."""
        columns: list[list[str]] = [[] for _ in range(self.width)]
        for _, cells in self.rows():
            for column, cell in zip(columns, cells, strict=True):
                column.append(cell)
        return [pa.chunked_array([pa.array(column, pa.string())]) for column in columns]


class Lines:
    """The line where each row begins; the file is read again when one is first asked for."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._found: np.typing.NDArray[np.int64] | None = None

    def __call__(self, row: int) -> int:
        if self._found is None:
            self._found = np.fromiter(self._starts(), dtype=np.int64)
        return int(self._found[row])

    def _starts(self) -> Iterator[int]:
        if self._layout.quotes:
            yield from (line for line, _ in self._layout.rows())
            return
        with self._layout.content.text() as text:
            for number, line in enumerate(text, start=1):
                if number > self._layout.skip and line.rstrip("\r\n"):
                    yield number


@contextmanager
def _wide_cells() -> Iterator[None]:
    """The csv module's limit of a cell, for the whole process, is what a line may have."""
    before = csv.field_size_limit(LONGEST_LINE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)
