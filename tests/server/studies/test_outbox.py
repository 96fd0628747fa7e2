"""Each event is one line of the audit log, whatever fails between the two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.server.studies.databases import queued
from wardround.common.audit.lines import told
from wardround.common.audit.log import AuditLog
from wardround.common.errors import AuditError, ConfigError, DatabaseAway
from wardround.server.studies import store as store_module
from wardround.server.studies.outbox import Outbox, newest_told
from wardround.server.studies.store import StudyStore

pytestmark = pytest.mark.xdist_group("postgresql")


@contextmanager
def logged(path: Path) -> Iterator[AuditLog]:
    with AuditLog.open(path, "server", None) as log:
        yield log


def numbers(path: Path) -> list[int]:
    return [line["number"] for line in told(path, "study")]


def test_events_become_lines_in_order_and_once(
    store: StudyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MOST_EVENTS", 4)
    path = tmp_path / "audit.jsonl"
    study = queued(store, 1)
    queued(store, 2)
    store.decide(study.id, "north", "rejected", "not here")
    with logged(path) as log:
        outbox = Outbox(store, log)
        assert (outbox.send(), outbox.send()) == (7, 0)
        store.decide(study.id, "north", "accepted")
        assert outbox.send() == 1
    assert numbers(path) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert newest_told(path) == {store.database: 8}
    lines = list(told(path, "study"))
    told_of = {key: lines[6][key] for key in ("kind", "old", "new", "who", "reason", "study")}
    assert told_of == {
        "kind": "decision",
        "old": "waiting",
        "new": "rejected",
        "who": "north",
        "reason": "not here",
        "study": study.id,
    }


def test_a_failure_before_or_after_the_line_costs_none_and_doubles_none(
    store: StudyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.jsonl"
    queued(store, 1)

    def fails(*_: object) -> None:
        raise DatabaseAway("gone")

    def full(*_: object) -> None:
        raise AuditError("full")

    with logged(path) as log:
        outbox = Outbox(store, log)
        with monkeypatch.context() as patch:
            patch.setattr(AuditLog, "append_many", full)
            with pytest.raises(AuditError):
                outbox.send()
        with monkeypatch.context() as patch:
            patch.setattr(StudyStore, "audited", fails)
            with pytest.raises(DatabaseAway):
                outbox.send()
        assert [event.number for event in store.unaudited()] == [1, 2, 3]
        queued(store, 2)
        assert outbox.send() == 3, "the same outbox goes on"
    assert numbers(path) == [1, 2, 3, 4, 5, 6]
    with logged(path) as log:
        with monkeypatch.context() as patch:
            patch.setattr(StudyStore, "audited", fails)
            queued(store, 3)
            with pytest.raises(DatabaseAway):
                Outbox(store, log)
        assert Outbox(store, log).send() == 3, "and so does one that begins anew"
    assert numbers(path) == list(range(1, 10))


def test_a_database_that_was_set_back_is_found(store: StudyStore, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    queued(store, 1)
    with logged(path) as log:
        Outbox(store, log).send()
        log.append("study", database=store.database, number=4, study="a")
        with pytest.raises(ConfigError, match="set back: it has 3 events.*tells of event 4"):
            Outbox(store, log)


def test_another_database_counts_from_one(store: StudyStore, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    queued(store, 1)
    with logged(path) as log, StudyStore.open(tmp_path / "other.sqlite") as other:
        Outbox(store, log).send()
        assert Outbox(other, log).replaced, "an empty one instead of a lost one is told"
        queued(other, 1)
        assert Outbox(other, log).send() == 3
        assert not Outbox(other, log).replaced and not Outbox(store, log).replaced
    assert numbers(path) == [1, 2, 3, 1, 2, 3]
    assert len({line["database"] for line in told(path, "study")}) == 2
