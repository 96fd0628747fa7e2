"""Clients spread over the cores of a machine (or its GPUs), each process with forms of its own.

A worker is a fork of the simulation, so it has its data. Messages travel in files of memory that
all share.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import time
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import cast

from wardround.simulations.clients import Clients
from wardround.simulations.executors.at_once import KnownClients
from wardround.simulations.executors.base import Executor
from wardround.simulations.executors.cohort import Cohort
from wardround.simulations.executors.sequential import Sequential
from wardround.simulations.executors.workers.orders import Answer, Done, Order, Task
from wardround.simulations.executors.workers.parcel import Parcel
from wardround.simulations.executors.workers.process import ENDING, GOODBYE, serve
from wardround.simulations.executors.workers.shared_folder import SharedFolder
from wardround.simulations.executors.workers.spread import Spread, SpreadTraining
from wardround.simulations.executors.workers.tasks import Tasks, WorkerPool

PROCESSES, SEQUENTIAL_PROCESSES = "processes", "processes-sequential"
_PATIENCE_S = 2.0
"""How long workers may take to end, all together; a simulation that is told to end has seconds."""


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass
class _Worker:
    process: multiprocessing.process.BaseProcess
    connection: Connection
    order: Order | None = None
    reply: Path = Path()


def processes(workers: int = 0, *, forms: bool = True) -> Spread:
    """The executor that runs training and evaluation in worker processes.

    workers : how many; 0: as many as the process may use cores
    forms : whether a worker trains many clients at once; else one after the other, for what forms
        make no faster
    """
    pool = ProcessPool(workers or cores(), Cohort if forms else Sequential)
    training = SpreadTraining(Tasks(pool), KnownClients(), forms=forms)
    return Spread(PROCESSES if forms else SEQUENTIAL_PROCESSES, training)


class ProcessPool(WorkerPool):
    """Forks of this process, started when there is work.

    Parameters
    ----------
    count : how many
    make_executor : of each worker
    """

    called = "worker process"

    def __init__(self, count: int, make_executor: Callable[[], Executor]) -> None:
        self._count, self._make_executor = count, make_executor
        self._workers: list[_Worker] = []
        self._folder: SharedFolder | None = None
        self._files = 0
        self._requests: dict[int, Path] = {}

    def close(self) -> None:
        for worker in self._workers:
            with contextlib.suppress(OSError):  # it is dead already
                # said aloud: a fork of someone else's may hold our end of the pipe open
                worker.connection.send_bytes(GOODBYE)
            worker.connection.close()
        end_s = time.monotonic() + _PATIENCE_S
        for worker in self._workers:
            worker.process.join(max(0.0, end_s - time.monotonic()))
            if worker.process.is_alive():  # in the middle of an order whose reply nobody wants
                worker.process.kill()
                worker.process.join()
        self._workers, self._requests = [], {}
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def hand_out(self, waiting: deque[Task], clients: Clients) -> None:
        if not self._workers:
            self._shared()
            for number in range(self._count):
                self._workers.append(self._start(clients, number))
        for worker in self._workers:
            if worker.order is None and waiting:
                task = waiting.popleft()
                worker.order, worker.reply = task.order, self._path("reply")
                files = {"request": str(self._written(task.parcel)), "reply": str(worker.reply)}
                worker.connection.send_bytes(json.dumps(files | task.order.values()).encode())

    def finished(self, clients: Clients) -> list[Answer]:
        busy = {worker.connection: worker for worker in self._workers if worker.order}
        answers = []
        for connection in wait(list(busy)):
            worker = busy[cast(Connection, connection)]
            order, worker.order = worker.order, None
            assert order is not None
            try:
                said = worker.connection.recv_bytes()
            except (EOFError, OSError):
                worker.process.join()
                code = worker.process.exitcode
                how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
                self._replace(worker, clients)
                answers.append(Answer(order.number, None, None, how))
            else:
                done = Done.from_bytes(said)
                parcel = Parcel.read(worker.reply) if worker.reply.exists() else None
                answers.append(Answer(done.number, done, parcel))
            worker.reply.unlink(missing_ok=True)
        return answers

    def release(self, parcel: Parcel) -> None:
        if path := self._requests.pop(id(parcel), None):
            path.unlink(missing_ok=True)

    def _written(self, parcel: Parcel) -> Path:
        """The file of a request; the caller has the parcel until it is released."""
        path = self._requests.get(id(parcel))
        if path is None:
            path = self._requests[id(parcel)] = self._path("request")
            parcel.write(path)
        return path

    def _path(self, what: str) -> Path:
        self._files += 1
        return self._shared().path / f"{what}-{self._files}"

    def _shared(self) -> SharedFolder:
        """The messages' folder; made before the workers, who keep it locked with us."""
        if self._folder is None:
            self._folder = SharedFolder()
        return self._folder

    def _replace(self, dead: _Worker, clients: Clients) -> None:
        dead.connection.close()
        index = self._workers.index(dead)
        self._workers[index] = self._start(clients, index)

    def _start(self, clients: Clients, number: int) -> _Worker:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        others = [worker.connection for worker in self._workers] + [ours]
        process = context.Process(
            target=_serve_alone,
            args=(theirs, others, clients, self._make_executor, number),
            name=f"wardround-worker-{number}",
            daemon=True,
        )
        with warnings.catch_warnings():
            # a display's thread may be there; the fork never touches a display
            warnings.simplefilter("ignore", DeprecationWarning)
            # one that comes before the fork has said that it ignores them would end it
            before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
            try:
                process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return _Worker(process, ours)


def _serve_alone(
    connection: Connection,
    others: list[Connection],
    clients: Clients,
    make_executor: Callable[[], Executor],
    number: int,
) -> None:
    """``serve``, without the ends of pipes that only the parent may hold open."""
    for other in others:
        other.close()
    serve(connection, clients, make_executor(), number)
