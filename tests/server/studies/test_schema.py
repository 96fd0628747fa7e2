"""The steps of ``migrations/`` lead to the tables, and to nobody else's."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from tests.server.studies.databases import queued
from wardround.common.errors import ConfigError
from wardround.server.studies.schema import VERSIONS
from wardround.server.studies.store import StudyStore
from wardround.server.studies.tables import metadata

pytestmark = pytest.mark.xdist_group("postgresql")
STEPS = Path(__file__).parents[3] / "server" / "studies" / "migrations"


def run(database: str | Path, *lines: str) -> None:
    """Statements, past the store."""
    if isinstance(database, Path):
        with sqlite3.connect(database) as lite:
            for line in lines:
                lite.execute(line)
        lite.close()
        database.chmod(0o600)
    else:
        with psycopg.connect(database.replace("+psycopg", "")) as post:
            for line in lines:
                post.execute(line.encode())


def test_the_steps_make_the_tables(database: str | Path) -> None:
    StudyStore.open(database).close()
    url = f"sqlite:///{database}" if isinstance(database, Path) else database
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        options = {"version_table": VERSIONS, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
        newest = ScriptDirectory(str(STEPS)).get_current_head()
        assert context.get_current_heads() == (newest,)
    engine.dispose()


def test_a_database_of_a_newer_wardround_is_refused(database: str | Path) -> None:
    with StudyStore.open(database) as store:
        queued(store, 1)
    run(database, f"UPDATE {VERSIONS} SET version_num = 'later'")
    with pytest.raises(ConfigError, match="version 'later', which this wardround doesn't know"):
        StudyStore.open(database)
    run(database, f"UPDATE {VERSIONS} SET version_num = '0001'")
    with StudyStore.open(database) as store:
        assert len(store.list()) == 1


def test_another_programs_tables_are_left_alone(database: str | Path) -> None:
    run(database, "CREATE TABLE events (what VARCHAR)")
    with pytest.raises(ConfigError, match="a table 'events' of another program.*of its own"):
        StudyStore.open(database)
    run(database, "INSERT INTO events VALUES ('theirs')", "DROP TABLE events")
    with StudyStore.open(database) as store:
        assert store.list() == []


def test_a_database_that_lost_its_tables(database: str | Path) -> None:
    with StudyStore.open(database) as store:
        run(database, "DROP TABLE events")
        with pytest.raises(ConfigError, match="network.database"):
            queued(store, 1)
        assert store.list() == [], "nothing was written"
