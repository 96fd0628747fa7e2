"""Each test of the store runs on SQLite and on a PostgreSQL of the session's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import PostgreSQL
from tests.server.studies.databases import Clock, PostgreSQLClock, SQLiteClock
from wardround.server.studies.store import StudyStore


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | Path]:
    """A new database: a file of SQLite, or a URL."""
    if request.param == "sqlite":
        yield tmp_path / "studies.sqlite"
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    url = server.fresh()
    yield url
    server.drop(url)


@pytest.fixture
def clock(database: str | Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The database's clock, which stands still until the test advances it."""
    if isinstance(database, Path):
        yield SQLiteClock(monkeypatch)
    else:
        hands = PostgreSQLClock(database)
        yield hands
        hands.close()


@pytest.fixture
def store(database: str | Path, clock: Clock) -> Iterator[StudyStore]:
    """An open store whose clock is in the test's hands."""
    opened = StudyStore.open(database)
    yield opened
    opened.close()
