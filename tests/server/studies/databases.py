"""Both databases for one suite, their clocks in a test's hands, and what a store must always be."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

from wardround.common.study.states import may_follow
from wardround.server.studies.rows import NewStudy, StudyRow
from wardround.server.studies.store import StudyStore

if TYPE_CHECKING:
    import pytest

START = 1_800_000_000.0
HOSPITALS = ("north", "south", "east")


def new_study(number: int, **values: Any) -> NewStudy:
    """A study that differs from those of other numbers."""
    given: dict[str, Any] = {
        "id": hashlib.sha256(b"%d" % number).hexdigest(),
        "name": f"study-{number}",
        "researcher": "anna",
        "hospitals": HOSPITALS,
        "body": b"signed %d" % number,
        "ends": START + 10**6,
    }
    return NewStudy(**(given | values))


def queued(store: StudyStore, number: int) -> StudyRow:
    """A study that was submitted, shown and accepted."""
    new = new_study(number)
    store.submit(new, "anna")
    store.change(new.id, "waiting", expect="submitted", fence=0, who="server")
    return store.change(new.id, "queued", expect="waiting", fence=0, who="server")


def check_events(store: StudyStore) -> None:
    """Numbers have no gap; each study's states are a walk of the graph that ends where it is; it
    is over once; each claim has a server."""
    numbers = []
    for row in store.list():
        events = store.events(row.id)
        numbers += [event.number for event in events]
        state: Any = ""
        claims = 0
        for event in events:
            if event.kind in ("state", "claim"):
                assert event.old == state, (row, events)
                new: Any = event.new
                assert event.kind == "claim" or not state or may_follow(state, new), events
                state, claims = new, claims + (new == "running")
        assert (state, claims) == (row.state, row.fence), (row, events)
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


class Clock(Protocol):
    """The clock of a database."""

    def advance(self, seconds: float) -> None:
        """It is later by so many seconds."""


class SQLiteClock:
    """SQLite asks the function julianday, which a connection may have another one of."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._seconds = START
        real = sqlite3.connect

        def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = real(*args, **kwargs)
            connection.create_function("julianday", 1, self._julian)
            return connection

        patch.setattr(sqlite3, "connect", connect)

    def _julian(self, word: str) -> float:
        assert word == "now"
        return self._seconds / 86400 + 2440587.5

    def advance(self, seconds: float) -> None:
        """It is later by so many seconds."""
        self._seconds += seconds


class PostgreSQLClock:
    """PostgreSQL asks the function clock_timestamp, which a schema before its own may have."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
        name = url.rpartition("/")[2]
        for line in (
            "CREATE SCHEMA clock",
            f"CREATE TABLE clock.seconds AS SELECT {START}::double precision AS at",
            "CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql "
            "AS 'SELECT to_timestamp(at) FROM clock.seconds'",
            f"ALTER DATABASE {name} SET search_path = clock, pg_catalog",
        ):
            self._connection.execute(line.encode())

    def advance(self, seconds: float) -> None:
        """It is later by so many seconds."""
        self._connection.execute("UPDATE clock.seconds SET at = at + %s", (seconds,))

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()


def empty(store: StudyStore, database: str | Path) -> None:
    """Take all studies out, as no store does: for many short lives on one database."""
    lines = [f"DELETE FROM {name}" for name in ("deliveries", "decisions", "events", "studies")]
    lines += ["UPDATE network SET events = 0, audited = 0, owner = '', fence = 0, lease_until = 0"]
    if isinstance(database, Path):
        with sqlite3.connect(database, isolation_level=None) as lite:
            for line in lines:
                lite.execute(line)
        lite.close()
    else:
        with psycopg.connect(database.replace("+psycopg", "")) as post:
            for line in lines:
                post.execute(line.encode())
