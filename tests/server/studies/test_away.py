"""A database that goes away and comes back, that can't be used, or isn't one of ours."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from tests.postgres import PostgreSQL
from tests.server.studies.databases import new_study, queued
from wardround.common.errors import ConfigError, DatabaseAway
from wardround.server.studies.store import StudyStore

pytestmark = pytest.mark.xdist_group("postgresql")


def calls(store: StudyStore) -> list[Callable[[], object]]:
    """Reading and writing, of each kind of transaction."""
    return [
        store.now,
        store.list,
        lambda: store.submit(new_study(9), "anna"),
        lambda: store.claim("A", 10, 1),
        lambda: store.lead("A", 10),
        lambda: store.audited(0),
    ]


def check_away(store: StudyStore, what: str, secret: str = "") -> None:
    for call in calls(store):
        with pytest.raises(DatabaseAway, match=what) as caught:
            call()
        text = "".join(traceback.format_exception(caught.value))
        assert str(caught.value).startswith("network.database (")
        assert not secret or secret not in text


def test_postgresql_goes_away_and_comes_back(
    postgresql: PostgreSQL, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = postgresql.fresh()
    with StudyStore.open(url) as store:
        study = queued(store, 1)
        running = store.claim("A", 100, 1)
        postgresql.stop()
        try:
            check_away(store, "can't be reached|gives no answer", postgresql.password)
            with pytest.raises(DatabaseAway) as caught:
                StudyStore.open(url)
            assert postgresql.password not in str(caught.value)
        finally:
            postgresql.start()
        assert store.get(study.id) == running
        done = store.change(study.id, "complete", expect="running", fence=1, who="A")
        assert done.state == "complete"
    assert postgresql.password not in caplog.text and "signed 1" not in caplog.text


def test_a_connection_that_breaks_within_a_change(postgresql: PostgreSQL) -> None:
    """As when PostgreSQL is restarted just then: nothing is written, and the same call works."""
    url = postgresql.fresh()
    with StudyStore.open(url) as store:
        ends = [1]

        def end(connection: sa.Connection, cursor: object, statement: str, *_: object) -> None:
            if ends and statement.startswith("INSERT INTO events"):
                ends.clear()
                with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as other:
                    other.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )

        sa.event.listen(sa.Engine, "before_cursor_execute", end)
        try:
            with pytest.raises(DatabaseAway):
                store.submit(new_study(1), "anna")
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", end)
        assert store.list() == []
        assert store.submit(new_study(1), "anna")
        assert [event.number for event in store.events(new_study(1).id)] == [1]


def test_postgresql_ends_the_change_of_a_process_that_stands_still(
    postgresql: PostgreSQL,
) -> None:
    """It holds the lock that all changes need: it loses it before others lose patience."""
    with StudyStore.open(postgresql.fresh()) as store:
        found: list[Any] = []
        sa.event.listen(sa.Engine, "commit", listener := lambda c: found.append(_limits(c)))
        store.lead("A", 10)
        sa.event.remove(sa.Engine, "commit", listener)
    assert found == [["5s", "10s", "10s"]]


def _limits(connection: sa.Connection) -> list[str]:
    names = ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")
    return [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]


def test_a_password_is_in_no_message(postgresql: PostgreSQL) -> None:
    url = postgresql.fresh()
    base, words = url.replace(postgresql.password, "hunter2secret"), "hunter2secret"
    asks = [
        base,
        base.replace(":hunter2secret@", "@") + "?password=hunter2secret",
        base.replace("127.0.0.1", "hunter2secret@127.0.0.1"),
        f"postgresql://ward:{words}@127.0.0.1:{words}/x",
        f"postgresql://ward:{words}@db.example.org/x",
        f"postgresql://ward:12/{words}@127.0.0.1/x",
        f"postgresql://ward:{words}/x@127.0.0.1/x",
        f"mysql://ward:{words}@127.0.0.1/x",
        f"{words}:{words}",
        words,
    ]
    for ask in asks:
        with pytest.raises((DatabaseAway, ConfigError)) as caught:
            StudyStore.open(ask)
        text = "".join(traceback.format_exception(caught.value))
        lines = [line for line in text.splitlines() if "StudyStore.open(" not in line]
        assert words not in "\n".join(lines), ask
        assert "network.database" in str(caught.value)


@pytest.mark.parametrize(
    ("database", "what"),
    [
        ("mysql://ward@127.0.0.1/x", "'mysql' isn't known; give a file for SQLite"),
        ("no url", "is no URL of a database; give"),
        ("sqlite://", "'sqlite' isn't known"),
        ("sqlite:////tmp/x.sqlite?mode=memory", "options of SQLite"),
        ("postgresql://ward@db.example.org/x", "'db.example.org' is another machine.*sslmode"),
        ("postgresql:///x?host=db.example.org", "another machine"),
    ],
)
def test_what_is_no_database_for_studies_is_named(database: str, what: str) -> None:
    with pytest.raises(ConfigError, match=f"^network.database: .*{what}"):
        StudyStore.open(database)


# --- SQLite ---------------------------------------------------------------------------------------
Connections = list[sqlite3.Connection]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connections]:
    """The connections that a store makes; they wait for a lock for a moment only."""
    found: Connections = []
    real = sqlite3.connect

    def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        found.append(real(*args, **(kwargs | {"timeout": 0.05})))
        return found[-1]

    monkeypatch.setattr(sqlite3, "connect", connect)
    yield found


def test_sqlite_is_private_and_each_commit_is_on_the_disk(
    tmp_path: Path, opened: Connections
) -> None:
    file = tmp_path / "new" / "studies.sqlite"
    with StudyStore.open(f"sqlite:///{file}") as store:
        store.submit(new_study(1), "anna")
        assert {stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()} == {0o600}
        assert len(list(file.parent.iterdir())) == 3, "with its log beside it"
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        for connection in opened:
            shown = [
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]
            assert shown == ["wal", 2, 1]
    with StudyStore.open(file) as store:
        assert store.list()


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("PRAGMA max_page_count = 1", "the disk is full"),
        ("PRAGMA query_only = 1", "read-only"),
    ],
)
def test_a_disk_that_takes_nothing(
    tmp_path: Path, opened: Connections, fault: str, what: str
) -> None:
    with StudyStore.open(tmp_path / "studies.sqlite") as store:
        queued(store, 1)
        before = store.list()
        for connection in opened:
            connection.execute(fault)
        with pytest.raises(DatabaseAway, match=what):
            store.submit(new_study(2, body=bytes(2**19)), "anna")
        assert store.list() == before
        for connection in opened:
            connection.execute(fault.replace("= 1", "= 0" if "query" in fault else "= 1000000"))
        assert store.submit(new_study(2, body=bytes(2**19)), "anna")


def test_another_that_writes_is_said(tmp_path: Path, opened: Connections) -> None:
    file = tmp_path / "studies.sqlite"
    with StudyStore.open(file) as store:
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseAway, match="another process is writing"):
            store.lead("A", 10)
        assert store.list() == [], "reading waits for nobody"
        other.execute("ROLLBACK")
        other.close()
        assert store.lead("A", 10) == 1


def test_a_file_that_is_moved_away_and_put_back(tmp_path: Path) -> None:
    file, away = tmp_path / "a" / "studies.sqlite", tmp_path / "b"
    with StudyStore.open(file) as store:
        study = queued(store, 1)
        file.parent.rename(away)
        check_away(store, "moved away|can't be opened")
        assert not file.exists(), "no new one is made"
        away.rename(file.parent)
        assert store.get(study.id) == study
        with sqlite3.connect(file) as now, sqlite3.connect(tmp_path / "copy") as copy:
            now.backup(copy)
        now.close()
        copy.close()
        store.lead("A", 10)
        os.replace(tmp_path / "copy", file)
        for beside in ("-wal", "-shm"):
            file.with_name(file.name + beside).unlink(missing_ok=True)
        assert store.lead("B", 10) == 1, "it is the file that lies there now"


def test_files_that_are_no_private_database(tmp_path: Path) -> None:
    file = tmp_path / "studies.sqlite"
    file.write_bytes(b"no database at all, " * 1000)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="no sound database.*restore it"):
        StudyStore.open(file)
    file.chmod(0o640)
    with pytest.raises(ConfigError, match=f"may read it; chmod 600 {file}"):
        StudyStore.open(file)
    with pytest.raises(ConfigError, match="is no file"):
        StudyStore.open(tmp_path)


def test_threads_share_a_store(database: str | Path) -> None:
    with StudyStore.open(database) as store:
        taken: list[str] = []
        for number in range(12):
            queued(store, number)

        def take(owner: str) -> None:
            while (row := store.claim(owner, 100, 100)) is not None:
                taken.append(row.id)

        threads = [threading.Thread(target=take, args=(f"thread {n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(taken) == len(set(taken)) == 12
