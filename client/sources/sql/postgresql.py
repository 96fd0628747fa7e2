"""PostgreSQL: one REPEATABLE READ, READ ONLY transaction, rows by COPY.

COPY in its CSV form through Arrow's parser is five times as fast as a cursor of rows, and takes
the memory of a block, however many rows there are; numbers are written in the shortest text that
gives the same float64. A statement is prepared first: PostgreSQL itself says which columns it has,
where it is wrong, and that it is one statement.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.csv as pc
from psycopg import errors, pq

from wardround.client.sources.sql.address import Address
from wardround.client.sources.sql.database import distinct, too_long, unfit
from wardround.client.sources.sql.postgresql_rights import what_it_may_write
from wardround.client.sources.sql.postgresql_words import not_reached, said
from wardround.client.sources.sql.query import Query
from wardround.common.errors import DataError

_CONNECT_S = 10
_BLOCK_BYTES = 16 << 20
_STAMP, _STAMP_Z = pa.timestamp("us"), pa.timestamp("us", "UTC")
_TYPES = {
    16: pa.bool_(),
    **dict.fromkeys((20, 21, 23, 26), pa.int64()),
    **dict.fromkeys((700, 701, 1700), pa.float64()),
    **dict.fromkeys((18, 19, 25, 705, 1042, 1043, 2950), pa.string()),
    1082: pa.date32(),
    1114: _STAMP,
    1184: _STAMP_Z,
}
"""By the number of PostgreSQL's own type."""
_PADDED = 1042
_TYPE_NAMES = (
    "SELECT oid, typname, typtype = 'e' OR typcategory = 'S' FROM pg_type WHERE oid = ANY(?)"
)
_SESSION = (
    "SELECT set_config('datestyle', 'ISO, YMD', true), set_config('timezone', 'UTC', true), "
    "set_config('extra_float_digits', '1', true), set_config('bytea_output', 'hex', true), "
    "set_config('standard_conforming_strings', 'on', true), "
    "set_config('statement_timeout', ?, true), set_config('lock_timeout', ?, true)"
)


class PostgreSQL:
    """See ``Database``."""

    def __init__(
        self, address: Address, connection: psycopg.Connection[Any], timeout_s: float
    ) -> None:
        self.address = address
        self._connection, self._timeout_s = connection, timeout_s

    def begin(self) -> None:
        """The transaction."""
        self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        self._connection.read_only = True
        milliseconds = str(int(self._timeout_s * 1000))
        self.ask(_SESSION, (milliseconds, milliseconds))

    def ask(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._words(Query(text)):
            marks = text.replace("%", "%%").replace("?", "%s")
            return self._connection.execute(marks.encode(), values).fetchall()

    def rows(self, query: Query) -> Iterator[pa.RecordBatch]:
        names, types, padded = self._described(query)
        schema = pa.schema(list(zip(names, types, strict=True)))
        before = "COPY (\n"
        copied = f"{before}{query.text}\n) TO STDOUT (FORMAT csv)".encode()
        shown, empty = self._shown(schema, padded), True
        with self._words(query, len(before)), self._connection.cursor() as cursor:
            with cursor.copy(copied) as copy:
                for block in _blocks(copy):
                    yield shown(self._parsed(block, schema))
                    empty = False
        if empty:
            yield shown(schema.empty_table())

    def version(self) -> str:
        number = self._connection.info.server_version
        return f"PostgreSQL {number // 10_000}.{number % 10_000}"

    def estimate(self, query: Query) -> tuple[int, bool]:
        self._described(query)
        before = "EXPLAIN (FORMAT JSON)\n"
        with self._words(query, len(before)):
            asked = f"{before}{query.text}".encode()
            plan = self._connection.execute(asked).fetchall()[0][0]
        return int(plan[0]["Plan"]["Plan Rows"]), False

    def may_write(self) -> tuple[str, str]:
        return what_it_may_write(self)

    @contextmanager
    def _words(self, query: Query, before: int = 0) -> Iterator[None]:
        """Raise DataError in our words for what the server says."""
        try:
            yield
        except psycopg.Error as error:
            if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
                raise too_long(self.address, self._timeout_s) from None
            raise said(error, query, before, self.address) from None

    def _described(self, query: Query) -> tuple[list[str], list[pa.DataType], set[str]]:
        """Columns, types, and which are padded with blanks (char(n))."""
        with self._words(query):
            prepared = self._connection.pgconn
            for result in (
                prepared.prepare(b"", query.text.encode()),
                prepared.describe_prepared(b""),
            ):
                if result.status != pq.ExecStatus.COMMAND_OK:
                    raise errors.error_from_result(result, "utf-8")
        names = [(result.fname(n) or b"").decode() for n in range(result.nfields)]
        numbers = [result.ftype(n) for n in range(result.nfields)]
        distinct(names, self.address)
        others = {number for number in numbers if number not in _TYPES}
        found = self.ask(_TYPE_NAMES, (sorted(others),)) if others else []
        texts = {number: (name, is_text) for number, name, is_text in found}
        types = []
        for name, number in zip(names, numbers, strict=True):
            kind, is_text = texts.get(number, ("", False))
            if number not in _TYPES and not is_text:
                raise unfit(self.address, name, kind or "its own")
            types.append(_TYPES.get(number, pa.string()))
        return names, types, {n for n, t in zip(names, numbers, strict=True) if t == _PADDED}

    def _parsed(self, block: bytes, schema: pa.Schema) -> pa.Table:
        texts = any(pa.types.is_string(field.type) for field in schema)
        try:
            return pc.read_csv(
                io.BytesIO(block),
                read_options=pc.ReadOptions(
                    column_names=schema.names, block_size=_BLOCK_BYTES // 4
                ),
                parse_options=pc.ParseOptions(newlines_in_values=texts, ignore_empty_lines=False),
                convert_options=pc.ConvertOptions(
                    column_types=schema,
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                    true_values=["t"],
                    false_values=["f"],
                ),
            )
        except pa.ArrowInvalid as error:  # its text quotes the cell
            raise self._unreadable(block, schema, str(error)) from None

    def _unreadable(self, block: bytes, schema: pa.Schema, text: str) -> DataError:
        place = "a column"
        for number, field in enumerate(schema):
            if f"In CSV column #{number}:" in text:
                place = f"column '{field.name:.100}' ({field.type})"
        return DataError(
            f"{place} has a value that can't be held: an infinite date, one before the year 1 or "
            "after 9999, or a text that isn't UTF-8",
            who=self.address.name,
            mend="leave such rows out of the query, or cast the column to text",
        )

    @staticmethod
    def _shown(schema: pa.Schema, padded: set[str]) -> Any:
        """Makes a batch of a parsed block: times without their zone, char(n) without its blanks."""

        def shown(table: pa.Table) -> pa.RecordBatch:
            for number, field in enumerate(schema):
                column = table.column(number)
                if field.type == _STAMP_Z:
                    table = table.set_column(number, field.name, column.cast(_STAMP))
                elif field.name in padded:
                    trimmed = pa.compute.utf8_rtrim(column, " ")
                    table = table.set_column(number, field.name, trimmed)
            table = table.combine_chunks()
            if len(table):
                return table.to_batches()[0]
            empty = [pa.array([], field.type) for field in table.schema]
            return pa.RecordBatch.from_arrays(empty, schema=table.schema)

        return shown


def _blocks(copy: psycopg.Copy) -> Iterator[bytes]:
    """Whole rows of a COPY, joined to blocks."""
    rows, size = [], 0
    for row in copy:
        rows.append(row)
        size += len(row)
        if size > _BLOCK_BYTES:
            yield b"".join(rows)
            rows, size = [], 0
    if rows:
        yield b"".join(rows)


@contextmanager
def open_postgresql(address: Address, timeout_s: float) -> Iterator[PostgreSQL]:
    """See ``opened``."""
    try:
        connection = psycopg.connect(
            address.url,
            connect_timeout=_CONNECT_S,
            client_encoding="UTF8",
            application_name="wardround",
            keepalives_idle=30,
            prepare_threshold=None,
        )
    except (psycopg.Error, UnicodeError) as error:
        raise not_reached(error, address) from None
    try:
        database = PostgreSQL(address, connection, timeout_s)
        database.begin()
        yield database
    finally:
        connection.close()
