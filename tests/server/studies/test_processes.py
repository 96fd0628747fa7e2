"""Real processes on one database, killed at any point: all of a change, or nothing of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.studies.databases import check_events
from wardround.common.audit.lines import told
from wardround.common.audit.verify import verify_log
from wardround.server.studies.store import StudyStore

pytestmark = pytest.mark.xdist_group("postgresql")
ROOT = Path(__file__).parents[3]
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Have ``tests/server/studies/workers.py`` do something: ask(what, database, more)."""
    command = [sys.executable, "-m", "tests.server.studies.workers"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin and process.stdout
        into, out = process.stdin, process.stdout

        def send(what: str, database: str | Path, **more: Any) -> Any:
            asked = {"what": what, "database": str(database), **more}
            into.write(json.dumps(asked) + "\n")
            into.flush()
            line = out.readline()
            assert line, "it failed, and says why on stderr"
            return json.loads(line)

        yield send
        into.close()


def test_a_server_killed_at_any_statement_leaves_all_or_nothing(
    database: str | Path, tmp_path: Path, ask: Ask
) -> None:
    points = ask("sweep", database, folder=str(tmp_path))
    assert min(points.values()) >= 3 and len(points) == 7, points
    with StudyStore.open(database) as store:
        check_events(store)
        rows = store.list()
        states = Counter(row.state for row in rows)
        # of each kind the one that wasn't killed
        assert (states["failed"], states["queued"], states["running"]) == (1, 0, 1)
        assert states["submitted"] == 1
        assert len(store.deliveries()) == 4, "three notices and one result"
        words = Counter(one.word for row in rows for one in store.decisions(row.id))
        assert words["rejected"] == 1 and words["accepted"] == 0
        assert store.lead("B", 1.0) == 2
        newest = max(event.number for row in rows for event in store.events(row.id))
        assert store.unaudited() == []
    log = tmp_path / "audit.jsonl"
    numbers = [line["number"] for line in told(log, "study")]
    assert numbers == list(range(1, newest + 1)), "each event once, in order"
    assert verify_log(log) == []


def test_each_study_ends_once_whoever_is_killed(database: str | Path, ask: Ask) -> None:
    assert ask("race", database, studies=30, kills=5)["killed"] >= 1
    with StudyStore.open(database) as store:
        check_events(store)
        assert Counter(row.state for row in store.list()) == {"complete": 30}
        for row in store.list():
            events = store.events(row.id)
            assert [event.new for event in events].count("complete") == 1
            claims = [event.who for event in events if event.new == "running"]
            assert events[-1].who == claims[-1], "the last to claim it is who ended it"


def test_servers_that_open_a_new_database_at_once_make_it_once(
    database: str | Path, ask: Ask
) -> None:
    marks = ask("open", database)
    assert len(marks) == 3 and len(set(marks)) == 1 and len(marks[0]) == 16
