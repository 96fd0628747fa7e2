"""How the database is reached: SQLite in a private file, or PostgreSQL by its URL.

No message and no log has a URL's password. SQLite: write-ahead log, every commit on the disk before
it returns, one writer at a time (``BEGIN IMMEDIATE``), and a file that was moved away or replaced
is noticed. PostgreSQL: connections are tried before use, and none waits for ever: neither for a
server that doesn't answer nor for another process that was stopped within a change.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from wardround.common.address import is_loopback
from wardround.common.durable.files import hand_over, sync
from wardround.common.durable.private import private_folder, why
from wardround.common.errors import ConfigError, DatabaseAway
from wardround.common.text import one_line

KEY = "network.database"
WRITES = "wardround_writes"
"""Execution option of a connection that will change something."""
_WAIT_S = 5
_POSTGRESQL = "postgresql+psycopg"
_SESSION = (
    "SET statement_timeout = '10s'; SET lock_timeout = '10s'; "
    "SET idle_in_transaction_session_timeout = '5s'; "
    "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3"
)
_ALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
_FORMS = "a file for SQLite (''), or 'postgresql+psycopg://USER@HOST/NAME?sslmode=verify-full'"
_AWAY_SQLITE = {
    sqlite3.SQLITE_BUSY: "another process is writing, and doesn't end",
    sqlite3.SQLITE_LOCKED: "another process is writing, and doesn't end",
    sqlite3.SQLITE_READONLY: "can't be written (rights, or a disk that is read-only)",
    sqlite3.SQLITE_IOERR: "the disk gives an error",
    sqlite3.SQLITE_FULL: "can't be written (the disk is full)",
    sqlite3.SQLITE_CANTOPEN: "can't be opened (moved away, or no rights)",
}
_BROKEN_SQLITE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_AWAY_POSTGRESQL = ("08", "25P03", "25006", "40", "53", "55P03", "57", "58")
"""Classes and codes of errors that pass, or that a person mends beside a running server."""
_BROKEN_POSTGRESQL = ("28", "3D000", "3F000", "42501", "42P01", "XX001", "XX002")


class Place:
    """Which database, and how it is called in messages. Raises ConfigError for no URL of one."""

    def __init__(self, database: str | Path) -> None:
        self.url = _url_of(database)
        self.file = Path(str(self.url.database)) if self.url.drivername == "sqlite" else None
        self._secrets = [
            str(value)
            for key, value in [("password", self.url.password), *self.url.query.items()]
            if value and "password" in key
        ]
        shown = self.url.set(password=None, query={}).render_as_string()
        self.name = f"{KEY} ({self.file or shown})"

    def says(self, error: BaseException) -> str:
        """What a driver says, in a line without a password."""
        text = str(error)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return one_line(text)

    def away(self, what: str) -> DatabaseAway:
        """The error that passes, or that is mended beside a running server."""
        return DatabaseAway(what, who=self.name, mend="it is asked again; bring the database back")

    def broken(self, what: str, mend: str) -> ConfigError:
        """The error that needs a person before the server starts again."""
        return ConfigError(what, who=self.name, mend=mend)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise DatabaseAway or ConfigError for what a driver raises when the database is at
        fault; an error of ours in a statement goes through."""
        try:
            yield
        except PoolTimeout:
            raise self.away("all its connections are in use") from None
        except (DBAPIError, sqlite3.Error, DisconnectionError) as error:
            found = self._meant(getattr(error, "orig", None) or error, error)
            if found is None:
                raise
            raise found from None

    def _meant(self, original: BaseException, error: BaseException) -> Exception | None:
        if isinstance(original, sqlite3.Error):
            code = getattr(original, "sqlite_errorcode", 0) & 0xFF
            if code in _AWAY_SQLITE:
                return self.away(_AWAY_SQLITE[code])
            lost = code == sqlite3.SQLITE_ERROR and "no such table" in str(original)
            if code in _BROKEN_SQLITE or lost:
                return self.broken(
                    f"is no sound database of studies ({self.says(original)})",
                    "restore it from a backup",
                )
            return None
        state = getattr(original, "sqlstate", None)
        if isinstance(error, DisconnectionError):
            return self.away(self.says(error))
        if state is None:  # no answer of the server: the connection itself
            lost = isinstance(error, DBAPIError) and (
                error.connection_invalidated
                or isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)
            )
            return self.away(f"can't be reached ({self.says(original)})") if lost else None
        if state.startswith(_AWAY_POSTGRESQL):
            return self.away(f"gives no answer now ({self.says(original)})")
        if state.startswith(_BROKEN_POSTGRESQL):
            return self.broken(self.says(original), "mend it there, then start again")
        return None


def _url_of(database: str | Path) -> sa.URL:
    if isinstance(database, Path):
        return sa.URL.create("sqlite", database=str(database.absolute()))
    try:
        url = make_url(database)
    except (ArgumentError, ValueError):  # its text may hold a password
        raise ConfigError("is no URL of a database", who=KEY, mend=f"give {_FORMS}") from None
    if (
        not url.drivername.startswith("sqlite") and "@" in f"{url.host}{url.database}"
    ):  # what is taken for them is the end of a password
        raise ConfigError(
            "has an '@' too many", who=KEY, mend="write a password's '@' as %40, '/' as %2F"
        )
    if url.drivername in ("postgresql", "postgres", _POSTGRESQL):
        url = url.set(drivername=_POSTGRESQL)
        _check_way(url)
        return url
    if url.drivername in ("sqlite", "sqlite+pysqlite") and url.database not in (None, ":memory:"):
        if url.query:
            raise ConfigError("options of SQLite aren't for here", who=KEY, mend="leave '?...' out")
        return sa.URL.create("sqlite", database=str(Path(str(url.database)).absolute()))
    kind = url.drivername if url.drivername.replace("+", "").isalnum() else "this"
    raise ConfigError(f"'{kind}' isn't known", who=KEY, mend=f"give {_FORMS}")


def _check_way(url: sa.URL) -> None:
    """Raise ConfigError where nothing is said of TLS on a way that others may see."""
    host = url.host or str(url.query.get("host", ""))
    local = not host or host.startswith("/") or is_loopback(host)
    if not local and "sslmode" not in url.query:
        raise ConfigError(
            f"'{one_line(host, 100)}' is another machine, and nothing is said of TLS",
            who=KEY,
            mend="add '?sslmode=verify-full' (or 'disable', where the way there is your own)",
        )


def connect(place: Place) -> sa.Engine:
    """The engine for a place; SQLite's file is made, private, where there is none. Connects to
    nothing. Raises ConfigError where the file can't be made or others may read it."""
    try:
        if place.file is not None:
            return _sqlite(place, place.file)
        engine = sa.create_engine(
            place.url,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_timeout=2 * _WAIT_S,
            connect_args={"connect_timeout": _WAIT_S, "tcp_user_timeout": 10_000, **_ALIVE},
        )
    except (NoSuchModuleError, ModuleNotFoundError):
        raise ConfigError(
            "needs SQLAlchemy and psycopg", who=KEY, mend="pip install 'wardround[server]'"
        ) from None
    sa.event.listen(engine, "connect", _begin_session)
    return engine


def _begin_session(connection: Any, record: object) -> None:
    connection.autocommit = True
    connection.execute(_SESSION)
    connection.autocommit = False


# --- SQLite ---------------------------------------------------------------------------------------
def _sqlite(place: Place, file: Path) -> sa.Engine:
    _make_private(place, file)
    engine = sa.create_engine(place.url, creator=lambda: _open_sqlite(file), hide_parameters=True)

    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    def connected(connection: object, record: Any) -> None:
        record.info["file"] = _identity(file)

    def checked_out(connection: object, record: Any, proxy: object) -> None:
        if record.info["file"] != _identity(file):
            raise DisconnectionError("the file was moved away or replaced")

    sa.event.listen(engine, "begin", begin)
    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "checkout", checked_out)
    return engine


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make_private(place: Place, file: Path) -> None:
    private_folder(file.parent)
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        hand_over(file)
        sync(file.parent)
    except FileExistsError:
        if not file.is_file():
            raise place.broken("is no file", "name another one") from None
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise place.broken("others on this machine may read it", f"chmod 600 {file}") from None
    except OSError as error:
        raise place.broken(f"can't be made ({why(error, file)})", "see to the folder") from None


def _open_sqlite(file: Path) -> sqlite3.Connection:
    """Never makes a file: one that is gone is said to be. Raises sqlite3.Error."""
    end = time.monotonic() + _WAIT_S
    while True:
        connection = sqlite3.connect(
            file.as_uri() + "?mode=rw",
            uri=True,
            isolation_level=None,
            timeout=_WAIT_S,
            check_same_thread=False,  # the pool lends a connection to one thread at a time
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            return connection
        except sqlite3.Error as error:
            connection.close()
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > end:  # two that open a new file: no wait of its own
                raise
            time.sleep(0.05)
