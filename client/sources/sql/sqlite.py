"""SQLite, opened ``mode=ro``: this process couldn't write it if it wanted to."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from wardround.client.sources.sql.address import Address
from wardround.client.sources.sql.cells import batch_of
from wardround.client.sources.sql.database import Deadline, distinct, too_long, unfit
from wardround.client.sources.sql.query import Query
from wardround.common.errors import DataError

_ROWS = 20_000
_AT_ONCE = 50
_TYPES = {0: pa.string(), 1: pa.int64(), 2: pa.float64(), 3: pa.string()}
"""Of a column, by the largest number that ``_KIND`` gives one of its values."""
_KIND = (
    "max(CASE typeof({0}) WHEN 'null' THEN 0 WHEN 'integer' THEN 1 WHEN 'real' THEN 2 "
    "WHEN 'text' THEN 3 ELSE 4 END)"
)
_MENDS = {
    sqlite3.SQLITE_BUSY: "another program writes to it; try it again",
    sqlite3.SQLITE_LOCKED: "another program writes to it; try it again",
    sqlite3.SQLITE_READONLY: "the query would change something; write a SELECT",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened: rights of the file, or of its -wal beside it",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database",
    sqlite3.SQLITE_TOOBIG: "a text is too long",
    sqlite3.SQLITE_ERROR: "a name that it doesn't have, or no SQL of SQLite; try it with sqlite3",
}


class SQLite:
    """See ``Database``."""

    def __init__(self, address: Address, connection: sqlite3.Connection, timeout_s: float) -> None:
        self.address = address
        self._connection, self._timeout_s = connection, timeout_s

    def ask(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._words(Query(text)):
            return self._connection.execute(text, values).fetchall()

    def rows(self, query: Query) -> Iterator[pa.RecordBatch]:
        with self._words(query):
            names = self._columns(query)
            schema = self._schema(query, names)
            cursor = self._connection.execute(query.text)
            rows = cursor.fetchmany(_ROWS)
            while True:
                yield batch_of(rows, schema, self.address)
                if not (rows := cursor.fetchmany(_ROWS)):
                    return

    def version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def estimate(self, query: Query) -> tuple[int, bool]:
        with self._words(query):
            self._columns(query)
            counted = f"SELECT count(*) FROM (\n{query.text}\n)"
            return int(self._connection.execute(counted).fetchone()[0]), True

    def may_write(self) -> tuple[str, str]:
        assert self.address.file is not None
        if not _writable(self.address.file):
            return "", ""
        mend = f"chmod a-w {self.address.file}, or read a copy that another user owns"
        return f"{self.address.file}: this user may write the file", mend

    def _columns(self, query: Query) -> list[str]:
        cursor = self._connection.execute(query.text)  # its first row at most
        names = [str(one[0]) for one in cursor.description or ()]
        cursor.close()
        return distinct(names, self.address)

    def _schema(self, query: Query, names: list[str]) -> pa.Schema:
        """What each column is, by all its values: a file has any value in any column."""
        found: list[int] = []
        quoted = ['"' + name.replace('"', '""') + '"' for name in names]
        for start in range(0, len(names), _AT_ONCE):
            kinds = ", ".join(_KIND.format(name) for name in quoted[start : start + _AT_ONCE])
            asked = f"SELECT {kinds} FROM (\n{query.text}\n)"
            found += [int(one or 0) for one in self._connection.execute(asked).fetchone()]
        for name, kind in zip(names, found, strict=True):
            if kind not in _TYPES:
                raise unfit(self.address, name, "BLOB")
        return pa.schema([(n, _TYPES[k]) for n, k in zip(names, found, strict=True)])

    @contextmanager
    def _words(self, query: Query) -> Iterator[None]:
        """Raise DataError in our words for what SQLite says."""
        deadline = Deadline(self._timeout_s, self._connection.interrupt)
        try:
            with deadline.running():
                yield
        except sqlite3.Error as error:
            if deadline.passed:
                raise too_long(self.address, self._timeout_s) from None
            raise _said(error, query, self.address) from None


def _said(error: Exception, query: Query, address: Address) -> DataError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    name = getattr(error, "sqlite_errorname", "") or type(error).__name__
    place = f"{query.name}: " if query.name else ""
    mend = _MENDS.get(code, "try it with sqlite3")
    return DataError(f"{place}{name}", who=address.name, mend=mend)


def _writable(file: Path) -> bool:
    """By the file's own bits: to root, who may write anything, they say who else could."""
    found = file.stat()
    bits = stat.S_IWOTH
    bits |= stat.S_IWUSR if found.st_uid == os.geteuid() else 0
    bits |= stat.S_IWGRP if found.st_gid in (os.getegid(), *os.getgroups()) else 0
    return bool(found.st_mode & bits)


@contextmanager
def open_sqlite(address: Address, timeout_s: float) -> Iterator[SQLite]:
    """See ``opened``."""
    assert address.file is not None
    try:
        connection = sqlite3.connect(
            address.file.as_uri() + "?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=min(timeout_s, 60),
            check_same_thread=False,  # a thread of ours interrupts it
        )
    except sqlite3.Error as error:
        raise _said(error, Query(""), address) from None
    try:
        database = SQLite(address, connection, timeout_s)
        for text in ("PRAGMA query_only = ON", "PRAGMA trusted_schema = OFF", "BEGIN"):
            database.ask(text)
        database.ask("SELECT count(*) FROM sqlite_schema")  # from here on it sees one moment
        yield database
    finally:
        connection.close()
