"""The database of studies: what a change costs, beside a bare commit of the same database.

    python -m benchmarks.studies [--quick] [--json PATH]

One process, one change at a time, every commit on the disk; medians of the repeats, in which store
and limit alternate. PostgreSQL is a server of the benchmark's own on loopback; without one its rows
are left out, and that is said.

submitted  a study of 4 KiB for three hospitals: its row, theirs, an event
claimed    queued to running, with lease, fence and event; ended likewise, with what is owed
limit      INSERT of one row of 4 KiB and COMMIT, by the driver alone
drained    by three processes that claim, renew and end, with all that is queued in one table; the
           peer is one process that does
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psycopg

from benchmarks.report import Row, arguments, emit
from tests import postgres
from wardround.server.studies.rows import NewStudy
from wardround.server.studies.store import StudyStore

Database = str | Path
BODY = os.urandom(4096)
HOSPITALS = ("north", "south", "east")
LEASE_S = 60.0


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__ or "")
    studies, repeats = (100, 3) if options.quick else (1000, 5)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure("SQLite", Path(folder) / "studies.sqlite", studies, repeats)
    if postgres.programs() is None:
        print(f"without PostgreSQL: {postgres.BRING}", file=sys.stderr)
    else:
        with postgres.running(durable=True) as server:
            rows += measure("PostgreSQL", server.fresh(), studies, repeats)
    emit("The database of studies", rows, options.json)


def measure(name: str, database: Database, studies: int, repeats: int) -> list[Row]:
    """The rows of one database."""
    kinds = ("submitted", "claimed", "ended")
    rates: dict[str, list[float]] = {kind: [] for kind in (*kinds, "bare")}
    with StudyStore.open(database) as store, bare(database) as insert:
        for repeat in range(repeats):
            ids = [_id(repeat * studies + number) for number in range(studies)]
            rates["bare"].append(_rate(ids, insert))
            rates["submitted"].append(_rate(ids, lambda id: _submit(store, id)))
            for id in ids:
                _queue(store, id)
            rates["claimed"].append(_rate(ids, lambda id: store.claim("A", LEASE_S, 10**6)))
            rates["ended"].append(_rate(ids, lambda id: _end(store, id)))
    limit = statistics.median(rates["bare"])
    rows = [
        Row(name, f"{kind} per second", statistics.median(rates[kind]), "higher", limit=limit)
        for kind in kinds
    ]
    drained = [_drained(database, studies, 10**6 * count, count) for count in (1, 3)]
    peers: dict[str, float | None] = {"one process": drained[0]}
    return [*rows, Row(name, "drained per second", drained[1], "higher", peers)]


def _rate(ids: list[str], once: Callable[[str], object]) -> float:
    started = time.perf_counter()
    for id in ids:
        once(id)
    return len(ids) / (time.perf_counter() - started)


@contextmanager
def bare(database: Database) -> Iterator[Callable[[str], object]]:
    """One row and its commit, by the driver, with what the store asks of the database."""
    if isinstance(database, Path):
        with closing(sqlite3.connect(database, isolation_level=None)) as lite:
            lite.execute("PRAGMA journal_mode = WAL")
            lite.execute("PRAGMA synchronous = FULL")
            lite.execute("CREATE TABLE bare (id TEXT, body BLOB)")

            def insert(id: str) -> None:
                lite.execute("BEGIN IMMEDIATE")
                lite.execute("INSERT INTO bare VALUES (?, ?)", (id, BODY))
                lite.execute("COMMIT")

            yield insert
        return
    with psycopg.connect(database.replace("+psycopg", "")) as post:
        post.execute("CREATE TABLE bare (id TEXT, body BYTEA)")
        post.commit()

        def put(id: str) -> None:
            post.execute("INSERT INTO bare VALUES (%s, %s)", (id, BODY))
            post.commit()

        yield put


# --- what is measured -----------------------------------------------------------------------------
def _id(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def _submit(store: StudyStore, id: str) -> None:
    store.submit(NewStudy(id, "study", "anna", HOSPITALS, BODY, time.time() + 10**6), "anna")


def _queue(store: StudyStore, id: str) -> None:
    store.change(id, "waiting", expect="submitted", fence=0, who="server")
    store.change(id, "queued", expect="waiting", fence=0, who="server")


def _end(store: StudyStore, id: str) -> None:
    store.change(id, "complete", expect="running", fence=1, who="A", results=HOSPITALS)


def _drained(database: Database, studies: int, first: int, processes: int) -> float:
    """Studies that so many processes bring from queued to complete, per second of the slowest."""
    with StudyStore.open(database) as store:
        for number in range(studies):
            _submit(store, _id(first + number))
            _queue(store, _id(first + number))
    spawn = multiprocessing.get_context("spawn")
    start, times = spawn.Barrier(processes), spawn.Queue()
    workers = [
        spawn.Process(target=_drain, args=(database, start, times)) for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = [times.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    done = sum(count for count, _ in found)
    if done != studies:
        raise RuntimeError(f"{done} of {studies} studies were ended")
    return studies / max(seconds for _, seconds in found)


def _drain(database: Database, start: Barrier, times: Queue[tuple[int, float]]) -> None:
    with StudyStore.open(database) as store:
        owner, done = f"process {os.getpid()}", 0
        start.wait(timeout=600)
        started = time.perf_counter()
        while (row := store.claim(owner, LEASE_S, 10**6)) is not None:
            store.renew(row.id, row.fence, LEASE_S)
            store.change(row.id, "complete", expect="running", fence=row.fence, who=owner)
            done += 1
        times.put((done, time.perf_counter() - started))


if __name__ == "__main__":
    main()
