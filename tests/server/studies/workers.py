"""Processes that use a store and die, forked by one that has imported all; a line of JSON says how.

``sweep`` forks a child for every statement of every kind of change; the child kills itself just
before that statement. ``race`` has three that claim studies and end them, and kills some of them.
``open`` has three that open a new database at once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.server.studies.databases import new_study, queued
from wardround.common.audit.log import AuditLog
from wardround.common.errors import Overtaken
from wardround.server.studies.outbox import Outbox
from wardround.server.studies.store import StudyStore

LEASE_S = 0.3
MOST_POINTS = 12
Database = str | Path


def fork(work: Callable[[], object]) -> int:
    """A child that does this and ends; its process number."""
    sys.stdout.flush()
    if child := os.fork():
        return child
    try:
        work()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


def killed(child: int) -> bool:
    """Wait for it: whether it was killed. One that failed fails this one."""
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


# --- killed at each statement ---------------------------------------------------------------------
def _waiting(store: StudyStore, number: int) -> str:
    new = new_study(number)
    store.submit(new, "anna")
    store.change(new.id, "waiting", expect="submitted", fence=0, who="server")
    return new.id


def _changes(folder: Path) -> dict[str, Callable[[StudyStore, str], object]]:
    def audit(store: StudyStore, id: str) -> None:
        with AuditLog.open(folder / "audit.jsonl", "server", None) as log:
            Outbox(store, log).send()

    def change(to: Any, *results: str) -> Callable[[StudyStore, str], object]:
        return lambda store, id: store.change(
            id, to, expect="waiting", fence=0, who="server", results=results
        )

    return {
        "submit": lambda store, id: store.submit(new_study(int(id, 16) % 10**9), "anna"),
        "end": change("failed", "north"),
        "decide": lambda store, id: store.decide(id, "north", "rejected", "no"),
        "queue": change("queued"),
        "claim": lambda store, id: store.claim("A", 0.0, 10**6),
        "lead": lambda store, id: store.lead("A", 0.0),
        "audit": audit,
    }


def sweep(database: Database, folder: Path) -> dict[str, int]:
    """How many statements each kind of change was killed at, before it lived."""
    points, store = {}, StudyStore.open(database)
    for kind, (name, make) in enumerate(_changes(folder).items()):
        ids = [_waiting(store, kind * 100 + point) for point in range(MOST_POINTS)]
        store.close()  # a child connects anew
        for point, id in enumerate(ids):
            if not killed(fork(lambda: _dies(store, id, make, point))):
                points[name] = point
                break
    store.close()
    return points


def _dies(store: StudyStore, id: str, make: Callable[[StudyStore, str], object], at: int) -> None:
    left = [at]

    def before(*_: Any) -> None:
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    for kind in ("before_cursor_execute", "commit"):
        sa.event.listen(sa.Engine, kind, before)
    make(store, id)


# --- many at once ---------------------------------------------------------------------------------
def race(database: Database, studies: int, kills: int) -> dict[str, int]:
    """Three that work, of whom some are killed and begin again, until no study is left."""
    with StudyStore.open(database) as store:
        for number in range(studies):
            queued(store, number)
    draw = random.Random(studies)
    workers, hits = [fork(lambda: _work(database)) for _ in range(3)], 0
    for _ in range(kills):
        time.sleep(draw.uniform(0.02, 0.1))
        which = draw.randrange(3)
        os.kill(workers[which], signal.SIGKILL)
        hits += killed(workers[which])
        workers[which] = fork(lambda: _work(database))
    for worker in workers:
        assert not killed(worker)
    return {"killed": hits}


def _work(database: Database) -> None:
    with StudyStore.open(database) as store:
        owner = f"process {os.getpid()}"
        while store.list(states=["queued", "running"]):
            row = store.claim(owner, LEASE_S, 3)
            if row is None:
                time.sleep(0.02)
                continue
            try:
                store.renew(row.id, row.fence, LEASE_S)
                store.change(row.id, "complete", expect="running", fence=row.fence, who=owner)
            except Overtaken:
                pass  # it was slow, and another has it


def opening(database: Database) -> list[str]:
    """The marks that three see who open it at the same moment."""
    read, write = os.pipe()

    def see() -> None:
        time.sleep(max(0.0, at - time.monotonic()))
        with StudyStore.open(database) as store:
            os.write(write, f"{store.database}\n".encode())

    at = time.monotonic() + 0.1
    for child in [fork(see) for _ in range(3)]:
        assert not killed(child)
    return os.read(read, 1000).decode().split()


def main() -> None:
    """Do what each line says, and print what came of it."""
    for line in sys.stdin:
        asked = json.loads(line)
        what, text = asked["what"], asked["database"]
        database: Database = text if "://" in text else Path(text)
        if what == "sweep":
            found: object = sweep(database, Path(asked["folder"]))
        elif what == "race":
            found = race(database, asked["studies"], asked["kills"])
        else:
            found = opening(database)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
