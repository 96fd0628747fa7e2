"""DuckDB, opened read-only; its answers come as Arrow, typed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from wardround.client.sources.sql.address import Address
from wardround.client.sources.sql.database import Deadline, too_long
from wardround.client.sources.sql.query import Query
from wardround.client.sources.sql.sqlite import SQLite
from wardround.client.sources.sql.usual import usual_batch, usual_schema
from wardround.common.errors import DataError

_ROWS = 50_000
_MENDS: dict[str, str] = {
    "CatalogException": "a table or function that it doesn't have",
    "BinderException": "a column or type that doesn't fit the query",
    "ParserException": "it is no SQL of DuckDB; try it with duckdb",
    "ConversionException": "a value doesn't fit a cast of the query (TRY_CAST makes it missing)",
    "OutOfRangeException": "a number is too large for its type",
    "PermissionException": "only reading is done here",
    "IOException": "the file can't be read, is no DuckDB database, or another program has it open",
    "OutOfMemoryException": "it needs more memory than there is",
}


class DuckDB:
    """See ``Database``."""

    def __init__(
        self, address: Address, connection: duckdb.DuckDBPyConnection, timeout_s: float
    ) -> None:
        self.address = address
        self._connection, self._timeout_s = connection, timeout_s

    def ask(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._words(Query(text)):
            return self._connection.execute(text, list(values)).fetchall()

    def rows(self, query: Query) -> Iterator[pa.RecordBatch]:
        with self._words(query):
            self._check(query)
            reader = self._connection.sql(query.text).to_arrow_reader(_ROWS)
            schema = usual_schema(reader.schema, self.address)
            empty = True
            for batch in reader:
                yield usual_batch(batch, schema, self.address)
                empty = False
            if empty:
                yield pa.RecordBatch.from_pylist([], schema=schema)

    def version(self) -> str:
        return f"DuckDB {duckdb.__version__}"

    def estimate(self, query: Query) -> tuple[int, bool]:
        with self._words(query):
            self._check(query)
            counted = self._connection.execute(f"SELECT count(*) FROM (\n{query.text}\n)")
            row = counted.fetchone()
        assert row is not None
        return int(row[0]), True

    may_write = SQLite.may_write

    def _check(self, query: Query) -> None:
        statements = self._connection.extract_statements(query.text)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise DataError("the query isn't one SELECT", who=self.address.name)

    @contextmanager
    def _words(self, query: Query) -> Iterator[None]:
        """Raise DataError in our words for what DuckDB says."""
        deadline = Deadline(self._timeout_s, self._connection.interrupt)
        try:
            with deadline.running():
                yield
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            if deadline.passed:
                raise too_long(self.address, self._timeout_s) from None
            raise _said(error, query, self.address) from None


def _said(error: Exception, query: Query, address: Address) -> DataError:
    name = type(error).__name__
    place = f"{query.name}: " if query.name else ""
    return DataError(
        f"{place}{name}", who=address.name, mend=_MENDS.get(name, "try it with duckdb")
    )


@contextmanager
def open_duckdb(address: Address, timeout_s: float) -> Iterator[DuckDB]:
    """See ``opened``."""
    settings = {
        "autoinstall_known_extensions": "false",  # nothing is fetched from anywhere
        "autoload_known_extensions": "false",
    }
    try:
        connection = duckdb.connect(str(address.file), read_only=True, config=dict(settings))
    except (duckdb.Error, OSError) as error:
        raise _said(error, Query(""), address) from None
    try:
        database = DuckDB(address, connection, timeout_s)
        for text in ("SET TimeZone = 'UTC'", "SET lock_configuration = true", "BEGIN TRANSACTION"):
            database.ask(text)
        yield database
    finally:
        connection.close()
