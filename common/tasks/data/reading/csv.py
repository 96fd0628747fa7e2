"""CSV files as typed columns, read by pyarrow; what it would read in silence is looked at again.

A column is what all its cells are: whole numbers, numbers, ISO dates, else texts. What pyarrow
takes for a number or a time and a hospital wouldn't (0x10, 1e400, 12:30) is read again, as text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow

from wardround.common.errors import DataError
from wardround.common.tasks.data.reading.content import Content, opened
from wardround.common.tasks.data.reading.detect import (
    NAMED,
    find_delimiter,
    find_quote,
    records,
)
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.data.reading.marks import Marks, evidence
from wardround.common.tasks.data.reading.names import A_LOOK, check_title, checked_names
from wardround.common.tasks.data.reading.records import Layout, Lines
from wardround.common.tasks.data.reading.scan import LONGEST_LINE_BYTES, Seen, endless_line, scan
from wardround.common.tasks.data.reading.settle import Settled, settle
from wardround.common.tasks.data.reading.texts import (
    WHOLE,
    is_number,
    missing_codes,
    uniques,
)
from wardround.common.tasks.data.reading.types import TYPES

_SAMPLE_BYTES = 1 << 18
_BLOCK_BYTES, _LARGE_BLOCK_BYTES = 1 << 20, 2 * LONGEST_LINE_BYTES
"""pyarrow's own, and one for files with rows that are longer."""
_SAID = re.compile(r"sep=(.)\r?\n")
"""The line that Excel takes a delimiter from."""


@dataclass(frozen=True)
class CsvTable:
    """What was read.

    told : what was found beside the usual, '' if nothing
    dialect : all that it was read by, as far as the file says it: what follows it has the same
    """

    table: pa.Table
    lines: Lines
    told: str
    dialect: Dialect


@dataclass(frozen=True)
class Parser:
    """One file's parser.

    as_text : positions of the columns that stay texts
    exact : whether a number may be none whose text would change: 007
    missing : codes that mean missing
    nulls : texts that are null in any column
    """

    layout: Layout
    seen: Seen
    as_text: frozenset[int]
    exact: bool
    missing: frozenset[str]
    nulls: tuple[str, ...]

    @cached_property
    def problem(self) -> DataError:
        """What is wrong with a file that pyarrow refuses, in our own words."""
        try:
            self.layout.problems().check()
        except DataError as error:
            return error
        path = self.layout.content.path
        return DataError(f"{path}: not readable as CSV; name its marks in task.dialect")

    def columns(self, decimal: str) -> list[pa.ChunkedArray]:
        """All columns, each of one of ``TYPES``. Raises DataError."""
        if not self.seen.tidy:
            return self._strictly()
        found = self._parse(range(self.layout.width), decimal, ())
        again = [n for n, column in enumerate(found) if self._is_odd(column)]
        if again:
            for number, texts in zip(again, self.texts(again), strict=True):
                keeps = found[number].type == pa.int64() and self._are_whole(texts)
                found[number] = found[number] if keeps else texts
        return [_in_our_types(column) for column in found]

    def texts(self, numbers: Sequence[int]) -> list[pa.ChunkedArray]:
        """These columns as texts."""
        if not self.seen.tidy:
            every = self._strictly()
            return [every[number] for number in numbers]
        return self._parse(numbers, ".", numbers)

    def _is_odd(self, column: pa.ChunkedArray) -> bool:
        """Whether pyarrow may have read more into it than there is."""
        kind = column.type
        if kind == pa.int64():
            return self.seen.hexadecimal or (self.exact and self.seen.zeros)
        if kind == pa.float64():
            return not pc.all(pc.is_finite(column), min_count=0).as_py()
        if kind in (pa.string(), pa.null(), pa.date32()):
            return False
        return not (pa.types.is_timestamp(kind) and kind.tz is None and _fits_microseconds(column))

    def _are_whole(self, column: pa.ChunkedArray) -> bool:
        _, values = uniques(column)
        if not self.exact:
            return bool(is_number(values).all())
        return bool(pc.all(pc.match_substring_regex(values, WHOLE), min_count=0).as_py())

    def _parse(
        self, numbers: Sequence[int], decimal: str, as_text: Collection[int]
    ) -> list[pa.ChunkedArray]:
        names = [f"f{number}" for number in range(self.layout.width)]
        strings = {names[n]: pa.string() for n in {*as_text, *self.as_text}}
        ragged: list[int] = []

        def skipped(row: arrow.InvalidRow) -> str:
            ragged.append(row.actual_columns)
            return "skip"

        parse = arrow.ParseOptions(
            delimiter=self.layout.delimiter,
            quote_char=self.layout.quote if self.layout.quotes else False,
            newlines_in_values=self.layout.quotes,
            invalid_row_handler=skipped,
        )
        convert = arrow.ConvertOptions(
            check_utf8=False,  # the scan has looked
            column_types=strings,
            null_values=list(self.nulls),
            true_values=[],
            false_values=[],
            strings_can_be_null=False,
            decimal_point=decimal,
            include_columns=[names[n] for n in numbers],
        )
        table = self._read(names, parse, convert, _BLOCK_BYTES)
        if table is None and not ragged:  # a row may be longer than a block
            table = self._read(names, parse, convert, _LARGE_BLOCK_BYTES)
        if table is None or ragged:
            raise self.problem
        return [table.column(position) for position in range(table.num_columns)]

    def _read(
        self,
        names: list[str],
        parse: arrow.ParseOptions,
        convert: arrow.ConvertOptions,
        block_bytes: int,
    ) -> pa.Table | None:
        """None where pyarrow refuses: its words quote cells."""
        source = self.layout.content
        memory = None if source.memory is None else pa.py_buffer(source.memory)
        options = arrow.ReadOptions(
            column_names=names, skip_rows=self.layout.skip, block_size=block_bytes
        )
        try:
            return arrow.read_csv(memory or str(source.path), options, parse, convert)
        except (pa.ArrowException, OSError):
            return None

    def _strictly(self) -> list[pa.ChunkedArray]:
        problems = self.layout.problems()
        problems.check()
        return self.layout.column_texts()


def read_csv(
    path: Path,
    dialect: Dialect,
    missing: Collection[str],
    texts: Collection[str] | None,
    hide_names: bool,
) -> CsvTable:
    """See ``read.read_file``."""
    return read_content(opened(path, dialect.encoding), dialect, missing, texts, hide_names)


def read_content(
    content: Content,
    dialect: Dialect,
    missing: Collection[str],
    texts: Collection[str] | None,
    hide_names: bool,
) -> CsvTable:
    """The same of a file's text, or of one in memory."""
    path = content.path
    looked = _looked_at(content, dialect, texts is None)
    content, seen, delimiter, quote = looked.content, looked.seen, looked.delimiter, looked.quote
    names, skip = _header(path, looked, dialect, hide_names)
    layout = Layout(content, delimiter, quote, seen.quotes, skip, len(names))
    as_text = frozenset(n for n, name in enumerate(names) if texts is not None and name in texts)
    nulls = tuple(sorted({"", *(text for text in missing if not _is_plain_number(text))}))
    parser = Parser(layout, seen, as_text, texts is None, missing_codes(nulls), nulls)
    asked, by_comma = asked_marks(dialect) is not None, delimiter == ","
    pointed = by_comma and not seen.quotes  # no cell can hold a comma
    marks = asked_marks(dialect) or (Marks(".") if pointed else _of_sample(looked.sample, layout))
    settled = settle(parser, marks, asked, by_comma, dialect.dates)
    _ask(path, [f"{n + 1}" if hide_names else f"'{names[n]}'" for n in settled.unsaid])
    table = pa.table(settled.columns, names=names)
    if table.num_rows == 0:
        raise DataError(f"{path}: there are no rows; check that this is the right file")
    told = _told(content, delimiter, quote, settled, dialect)
    decimal = settled.marks.decimal if settled.marks is not None else None
    found = {"header": names, "delimiter": delimiter, "quote": quote, "decimal": decimal}
    return CsvTable(table, Lines(layout), told, dialect.model_copy(update=found))


@dataclass(frozen=True)
class Looked:
    """What a look at a file shows. sample : its beginning; front : lines before the header"""

    content: Content
    seen: Seen
    sample: str
    delimiter: str
    quote: str
    front: int


def _looked_at(content: Content, dialect: Dialect, exact: bool) -> Looked:
    """Raises DataError for what is no text file."""
    sample = content.sample(_SAMPLE_BYTES)
    if "\n" not in sample and "\r" not in sample:
        sample = content.sample(LONGEST_LINE_BYTES)
        if len(sample.encode("utf-8", "replace")) >= LONGEST_LINE_BYTES:
            raise endless_line(content.path, 1)
    said = _SAID.match(sample)
    sample = sample[said.end() :] if said else sample
    quote = dialect.quote or find_quote(sample)
    columns = len(dialect.header) if dialect.header is not None else None
    delimiter = dialect.delimiter or (said[1] if said else None)
    delimiter = delimiter or find_delimiter(content.path, sample, quote, columns)
    seen = scan(content, delimiter, quote, exact)
    if not seen.utf8:
        return _looked_at(content.recoded("cp1252"), dialect, exact)
    return Looked(content, seen, sample, delimiter, quote, int(said is not None))


def _header(path: Path, looked: Looked, dialect: Dialect, hide: bool) -> tuple[list[str], int]:
    """(names, lines in front of the first row)"""
    if dialect.header is not None:
        return list(dialect.header), looked.front
    rows = records(looked.sample, looked.delimiter, looked.quote)
    lines, first = next(rows, (0, None))
    if first is None:
        raise DataError(f"{path}: there are no rows; check that this is the right file")
    begun = records(looked.sample, looked.delimiter, looked.quote)
    filled = [(looked.front + end, sum(map(bool, row))) for end, row in islice(begun, A_LOOK)]
    check_title(path, filled, "line")
    return checked_names(path, first, hide), looked.front + lines


def asked_marks(dialect: Dialect) -> Marks | None:
    """The marks that the settings name; of two the other follows, as a number has both."""
    decimal = dialect.decimal or {",": ".", ".": ","}.get(dialect.thousands or "")
    return None if decimal is None else Marks(decimal)


def _of_sample(sample: str, layout: Layout) -> Marks | None:
    rows = [row for _, row in records(sample, layout.delimiter, layout.quote)]
    rows = [row for row in rows if len(row) == layout.width][1:]
    cells = np.array(rows, dtype=object).reshape(len(rows), layout.width)
    columns = (pa.array(column.tolist(), pa.string()).unique() for column in cells.T)
    return evidence(columns).marks()


def _ask(path: Path, columns: Sequence[str]) -> None:
    if columns:
        which = f"column{'s' if len(columns) > 1 else ''} {', '.join(columns[:20])}"
        raise DataError(
            f"{path}: {which}: each number with a point has three digits behind it, so that it may "
            'be a mark of thousands; say which: task.dialect.decimal = "." or ","'
        )


def _is_plain_number(text: str) -> bool:
    return bool(is_number(pa.array([text], pa.string()))[0])


def _fits_microseconds(column: pa.ChunkedArray) -> bool:
    try:
        column.cast(pa.timestamp("us"))
    except pa.ArrowException:
        return False
    return True


def _in_our_types(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if column.type in TYPES:
        return column
    return column.cast(pa.string() if column.type == pa.null() else pa.timestamp("us"))


def _told(content: Content, delimiter: str, quote: str, settled: Settled, given: Dialect) -> str:
    """What was found beside the usual, for one line."""
    usual = "\t" if content.path.suffix.lower() == ".tsv" else ","
    parts = []
    if given.delimiter is None and delimiter != usual:
        parts.append(f"{NAMED.get(delimiter, 'other marks')} between columns")
    if given.quote is None and quote != '"':
        parts.append("single quotes around cells")
    if given.decimal is None and settled.marks == Marks(","):
        parts.append("decimal commas")
    if given.thousands is None and settled.grouped:
        parts.append("marks between thousands")
    if given.encoding is None and content.encoding != "utf-8":
        parts.append({"cp1252": "Windows-1252"}.get(content.encoding, content.encoding.upper()))
    return ", ".join(parts)
