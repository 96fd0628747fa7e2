"""Any other database that SQLAlchemy reaches, with a driver of the hospital's own choice.

Nothing is ever committed, and where the database has read-only transactions one is asked for; that
its role can't write is for the hospital to see to. Types are found in a first pass over the answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from wardround.client.sources.sql.address import Address
from wardround.client.sources.sql.cells import Kinds, batch_of
from wardround.client.sources.sql.database import distinct, too_long
from wardround.client.sources.sql.query import Query
from wardround.common.errors import DataError

_ROWS = 20_000
_LEVELS = ("REPEATABLE READ", "SNAPSHOT", "SERIALIZABLE")
"""That see one moment, the lightest first."""
_READ_ONLY = {
    "mysql": "SET TRANSACTION READ ONLY",
    "mariadb": "SET TRANSACTION READ ONLY",
    "oracle": "SET TRANSACTION READ ONLY",
}


class Other:
    """See ``Database``."""

    def __init__(self, address: Address, connection: sa.Connection, timeout_s: float) -> None:
        self.address = address
        self._connection, self._timeout_s = connection, timeout_s

    def ask(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with _words(self.address):
            named = text
            for number in range(len(values)):
                named = named.replace("?", f":v{number}", 1)
            bound = {f"v{number}": value for number, value in enumerate(values)}
            return [tuple(row) for row in self._connection.execute(sa.text(named), bound)]

    def rows(self, query: Query) -> Iterator[pa.RecordBatch]:
        end = time.monotonic() + self._timeout_s
        with _words(self.address, query):
            names, kinds = self._first_pass(query, end)
            schema = kinds.schema(names, self.address)
            empty = True
            for rows in self._parts(query, end):
                yield batch_of(rows, schema, self.address)
                empty = False
            if empty:
                yield batch_of([], schema, self.address)

    def version(self) -> str:
        numbers = self._connection.dialect.server_version_info or ()
        return f"{self._connection.dialect.name} {'.'.join(map(str, numbers))}".strip()

    def estimate(self, query: Query) -> tuple[int, bool]:
        with _words(self.address, query):
            counted = f"SELECT count(*) FROM (\n{query.text}\n) asked"
            return int(self._connection.exec_driver_sql(counted).scalar_one()), True

    def may_write(self) -> tuple[str, str]:
        return "", ""

    def _first_pass(self, query: Query, end: float) -> tuple[list[str], Kinds]:
        with self._streamed(query) as result:
            names = distinct([str(key) for key in result.keys()], self.address)
        kinds = Kinds(len(names))
        for rows in self._parts(query, end):
            kinds.see(rows)
        return names, kinds

    def _parts(self, query: Query, end: float) -> Iterator[Sequence[Any]]:
        with self._streamed(query) as result:
            for rows in result.partitions(_ROWS):
                yield rows
                if time.monotonic() > end:
                    raise too_long(self.address, self._timeout_s)

    @contextmanager
    def _streamed(self, query: Query) -> Iterator[sa.CursorResult[Any]]:
        streamed = self._connection.execution_options(stream_results=True, max_row_buffer=_ROWS)
        result = streamed.exec_driver_sql(query.text)
        try:
            if not result.returns_rows:
                distinct([], self.address)
            yield result
        finally:
            result.close()


@contextmanager
def _words(address: Address, query: Query | None = None) -> Iterator[None]:
    """Raise DataError in our words for what a driver says."""
    try:
        yield
    except SQLAlchemyError as error:
        original = getattr(error, "orig", None) or error
        code = getattr(original, "sqlstate", None) or ""
        code = f"SQLSTATE {code} " if isinstance(code, str) and code.isalnum() else ""
        name = f"{code}({type(original).__name__})" if code else type(original).__name__
        place = f"{query.name}: " if query and query.name else ""
        lost = isinstance(error, DBAPIError) and error.connection_invalidated
        mend = (
            "the connection broke; try it again" if lost else "try it with the database's own tool"
        )
        raise DataError(f"{place}{name}", who=address.name, mend=mend) from None


@contextmanager
def open_other(address: Address, timeout_s: float) -> Iterator[Other]:
    """See ``opened``."""
    try:
        engine = sa.create_engine(address.url, hide_parameters=True, poolclass=sa.pool.NullPool)
    except (NoSuchModuleError, ModuleNotFoundError):
        raise DataError(
            "SQLAlchemy has no such database, or its driver isn't installed",
            who=address.name,
            mend="pip install it beside wardround",
        ) from None
    except (ArgumentError, ValueError, TypeError):  # its text may hold a password
        raise DataError("url isn't one of SQLAlchemy's", who=address.name) from None
    try:
        with _words(address):
            connection = engine.connect()
        try:
            yield _begun(Other(address, connection, timeout_s), connection)
        finally:
            connection.close()  # rolls back
    finally:
        engine.dispose()


def _begun(database: Other, connection: sa.Connection) -> Other:
    with _words(database.address):
        raw = connection.connection.dbapi_connection
        assert raw is not None  # it is connected
        levels = connection.dialect.get_isolation_level_values(raw)
        level = next((one for one in _LEVELS if one in levels), None)
        if level is not None:
            connection.execution_options(isolation_level=level)
        if text := _READ_ONLY.get(connection.dialect.name):
            connection.exec_driver_sql(text)
    return database
