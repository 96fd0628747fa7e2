"""Predictions into files, a part at a time; a file is whole or isn't there."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any, Protocol, Self

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from wardround.common.durable.files import sync
from wardround.common.errors import ConfigError
from wardround.common.tasks.data.reading.types import canonical_texts
from wardround.common.tasks.data.row_names import ROW
from wardround.common.text import to_json


class Writer(Protocol):
    """Takes tables of one schema, one after the other."""

    def write(self, table: pa.Table) -> None:
        """The next rows."""


class JsonLines:
    """A JSON object for each row."""

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        return None

    def write(self, table: pa.Table) -> None:
        """The next rows."""
        for record in table.to_pylist():
            values = {k: v.isoformat() if hasattr(v, "isoformat") else v for k, v in record.items()}
            self._file.write(to_json(values).encode() + b"\n")


FORMS: dict[str, Callable[[IO[bytes], pa.Schema], AbstractContextManager[Any]]] = {
    ".csv": arrow_csv.CSVWriter,
    ".jsonl": JsonLines,
    ".parquet": pq.ParquetWriter,
}
"""What makes a writer, by a file's ending."""
_OURS = (ROW, "line", "start", "end", "positive")
"""Numbers beside the outputs."""


def form_of(path: Path) -> str:
    """The ending that says how a file is written. Raises ConfigError."""
    ending = path.suffix.lower()
    if ending not in FORMS:
        raise ConfigError(f"{path}: predictions are written as {', '.join(FORMS)}; name it so")
    return ending


def written_stream(file: IO[bytes], tables: Iterator[pa.Table], outputs: Collection[str]) -> None:
    """Write all tables as CSV into an open file, each as it comes."""
    for number, table in enumerate(_as_written(tables, outputs)):
        options = arrow_csv.WriteOptions(include_header=number == 0)
        arrow_csv.write_csv(table, file, options)
        file.flush()


def written_whole(path: Path, tables: Iterator[pa.Table], outputs: Collection[str]) -> None:
    """Write all tables, for their owner only; where making one fails, no file is left and one that
    was there stays.

    outputs : names of the model's; columns that were kept are written as texts

    Raises ConfigError for a path that can't be written.
    """
    make = FORMS[form_of(path)]
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            temporary.unlink(missing_ok=True)
            with open(temporary, "xb", opener=_for_its_owner) as file:
                _write(file, make, _as_written(tables, outputs))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise ConfigError(f"{path}: can't be written ({error.strerror})") from None
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync(path.parent)


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write(file: IO[bytes], make: Callable[..., Any], tables: Iterator[pa.Table]) -> None:
    first = next(tables)
    with make(file, first.schema) as writer:
        for table in chain([first], tables):
            writer.write(table)


def _as_written(tables: Iterator[pa.Table], outputs: Collection[str]) -> Iterator[pa.Table]:
    """The tables with one schema: a column that was kept may be of numbers in one part of an input,
    and of texts in the next."""
    for table in tables:
        columns = {
            name: column if name in outputs or name in _OURS else _texts(column)
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
        yield pa.table(columns)


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    found = [canonical_texts(chunk) for chunk in column.chunks]
    return pa.chunked_array(found, pa.string())
