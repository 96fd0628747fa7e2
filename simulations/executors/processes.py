"""Clients spread over the cores of a machine (or its GPUs), each process with forms of its own.

The longest tasks are handed out first, to whoever is free; sums are added in the order of the
tasks, whose size doesn't depend on the number of processes, so that neither that number nor who is
fast changes a bit. Messages travel in files of memory that all share. A worker that dies is
replaced and its task done again; a task that kills three of them is given up, with the reason.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, cast

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from torch import nn

from wardround.common import messages as m
from wardround.common.arrays import Arrays, decode_arrays
from wardround.common.errors import WardroundError
from wardround.common.hosting import error_reply, message_with, timestamp
from wardround.simulations.executors.base import Host, is_group
from wardround.simulations.executors.cohort import Cohort, group_terms
from wardround.simulations.executors.group import Group, TrainingSums, failed_with
from wardround.simulations.executors.parcel import Parcel
from wardround.simulations.executors.sequential import Sequential
from wardround.simulations.executors.worker import Done, Order, serve

if TYPE_CHECKING:
    from wardround.simulations.grid import InProcessGrid

MOST_CLIENTS_A_TASK = 256
MESSAGES_A_TASK = 16
_MOST_DEATHS = 3
_WORKED_ON = (m.TRAIN, m.EVALUATE)


@dataclass
class _Worker:
    process: multiprocessing.process.BaseProcess
    connection: Connection
    order: Order | None = None


class Processes(Cohort):
    """Runs training and evaluation in worker processes.

    Parameters
    ----------
    workers : how many; as many as the process may use cores, by default
    """

    name = "processes"
    forms = True
    """Whether a process trains many clients at once, or one after the other."""

    def __init__(self, workers: int = 0) -> None:
        super().__init__()
        self._count = workers or len(os.sched_getaffinity(0))
        self._workers: list[_Worker] = []
        self._folder: Path | None = None
        self._numbers = 0
        self._died: list[str] = []

    def notes(self) -> list[str]:
        return super().notes() + self._died

    def close(self) -> None:
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    # --- single messages ---------------------------------------------------------------------
    def answers(self, messages: Iterable[Message], host: Host) -> Iterator[Message]:
        waiting: list[Message] = []
        for message in messages:
            if message.metadata.message_type in _WORKED_ON and not is_group(message):
                message.metadata.created_at = timestamp()
                if reason := host.failure(message, message.metadata.dst_node_id):
                    yield error_reply(message, reason)
                else:
                    waiting.append(message)
                continue
            yield from self._singles(waiting, host)
            waiting = []
            yield self.answer_group(message, host) if is_group(message) else host.answer(message)
        yield from self._singles(waiting, host)

    def _singles(self, messages: Sequence[Message], host: Host) -> Iterator[Message]:
        if not messages:
            return
        parts = [
            list(messages[start : start + MESSAGES_A_TASK])
            for start in range(0, len(messages), MESSAGES_A_TASK)
        ]
        orders = []
        for part in parts:
            nodes = [message.metadata.dst_node_id for message in part]
            states = [host.state_records(node) for node in nodes]
            path = self._path("request")
            Parcel([message.content for message in part], states).write(path)
            orders.append(self._order(path, part[0].metadata.message_type, nodes, False))
        for position, done, parcel in self._run(orders, host):
            yield from self._replies(parts[position], done, parcel, host)
            Path(orders[position].request).unlink()

    def _replies(
        self, messages: list[Message], done: Done, parcel: Parcel | None, host: Host
    ) -> Iterator[Message]:
        for index, message in enumerate(messages):
            if parcel is not None:
                host.set_state_records(message.metadata.dst_node_id, parcel.states[index])
            if index in done.errors:
                reply = error_reply(message, done.errors[index])
            else:
                assert parcel is not None
                reply = message_with(parcel.contents[index], message)
            took_s = done.seconds[index] if index < len(done.seconds) else 0.0
            message.metadata.created_at = timestamp()
            reply.metadata.created_at = message.metadata.created_at + took_s
            yield reply

    # --- groups ------------------------------------------------------------------------------
    def train(
        self, group: Group, node_ids: list[int], model: nn.Module, x: Arrays, sums: TrainingSums
    ) -> None:
        clients = self._clients(group, node_ids, sums.refused)
        if not clients:
            return
        trainer = self.trainer(model, group.host, clients[0].node_id)
        plain = not group_terms(group, model).proximal
        batched = self.forms and trainer.form != "sequential"
        path = self._path("request")
        Parcel([group.request], []).write(path)
        orders = [
            self._order(path, m.TRAIN, [x.node_id for x in chunk[start : start + size]], True)
            for chunk in trainer.chunks(clients, plain)
            for size in [MOST_CLIENTS_A_TASK if batched else MESSAGES_A_TASK]
            for start in range(0, len(chunk), size)
        ]
        for position, done, parcel in self._run(orders, group.host):
            if parcel is None or done.errors:
                reason = failed_with(next(iter(done.errors.values()), "no reason given"))
                sums.refused |= dict.fromkeys(orders[position].nodes, reason)
            else:
                _fold_reply(parcel, sums)
        path.unlink()

    # --- tasks -------------------------------------------------------------------------------
    def _order(self, path: Path, kind: str, nodes: list[int], group: bool) -> Order:
        self._numbers += 1
        return Order(self._numbers, str(path), str(self._path("reply")), kind, nodes, group)

    def _path(self, what: str) -> Path:
        if self._folder is None:
            shared = Path("/dev/shm")
            place = shared if os.access(shared, os.W_OK) else None
            self._folder = Path(tempfile.mkdtemp(prefix="wardround-", dir=place))
        self._numbers += 1
        return self._folder / f"{what}-{self._numbers}"

    def _run(self, orders: list[Order], host: Host) -> Iterator[tuple[int, Done, Parcel | None]]:
        """Have all done; yield (position, what was said, the reply's parcel) in their order."""
        if not self._workers:
            self._workers = [self._start(host, number) for number in range(self._count)]
        places = {order.number: position for position, order in enumerate(orders)}
        waiting, deaths = deque(orders), dict.fromkeys(places, 0)
        ready: dict[int, Done] = {}
        following = 0
        while following < len(orders):
            for worker in self._workers:
                if worker.order is None and waiting:
                    worker.order = waiting.popleft()
                    worker.connection.send_bytes(worker.order.to_bytes())
            for done in self._finished(host, waiting, deaths):
                ready[places[done.number]] = done
            while following in ready:
                done, path = ready.pop(following), Path(orders[following].reply)
                yield following, done, Parcel.read(path) if path.exists() else None
                path.unlink(missing_ok=True)
                following += 1

    def _finished(
        self, host: Host, waiting: deque[Order], deaths: dict[int, int]
    ) -> Iterator[Done]:
        """What busy workers say, once one of them says something; the dead are replaced."""
        busy = {worker.connection: worker for worker in self._workers if worker.order}
        for connection in wait(list(busy)):
            worker = busy[cast(Connection, connection)]
            order, worker.order = worker.order, None
            assert order is not None
            try:
                yield Done.from_bytes(worker.connection.recv_bytes())
            except (EOFError, OSError):
                worker.process.join()
                code = worker.process.exitcode
                how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
                self._died.append(f"a worker process ended with {how} and was replaced")
                self._replace(worker, host)
                deaths[order.number] += 1
                if deaths[order.number] < _MOST_DEATHS:
                    waiting.appendleft(order)
                else:
                    reason = f"its worker process ended {_MOST_DEATHS} times, last with {how}"
                    yield Done(order.number, dict.fromkeys(range(len(order.nodes)), reason), [])

    def _replace(self, dead: _Worker, host: Host) -> None:
        dead.connection.close()
        index = self._workers.index(dead)
        self._workers[index] = self._start(host, index)

    def _start(self, host: Host, number: int) -> _Worker:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        others = [worker.connection for worker in self._workers] + [ours]
        process = context.Process(
            target=_serve_alone,
            args=(theirs, others, host, number, self.forms),
            name=f"wardround-worker-{number}",
            daemon=True,
        )
        with warnings.catch_warnings():
            # a display's thread may be there; the fork never touches a display
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        return _Worker(process, ours)


class SequentialProcesses(Processes):
    """Processes that train one client after the other: for what forms make no faster."""

    name = "processes-sequential"
    forms = False


def _serve_alone(
    connection: Connection,
    others: list[Connection],
    grid: InProcessGrid,
    number: int,
    forms: bool,
) -> None:
    """``serve``, without the ends of pipes that only the parent may hold open."""
    for other in others:
        other.close()
    serve(connection, grid, number, Cohort() if forms else Sequential())


def _fold_reply(parcel: Parcel, sums: TrainingSums) -> None:
    """Add a task's sums."""
    (content,) = parcel.contents
    config, metrics, arrays = (content[name] for name in (m.CONFIG, m.METRICS, m.ARRAYS))
    if not (
        isinstance(config, ConfigRecord)
        and isinstance(metrics, MetricRecord)
        and isinstance(arrays, ArrayRecord)
    ):
        raise WardroundError("a worker's reply isn't one of a group")
    refused, reasons = config[m.REFUSED], config[m.REASONS]
    accepted = config[m.ACCEPTED]
    assert isinstance(refused, list) and isinstance(reasons, list) and isinstance(accepted, list)
    sums.refused |= {int(str(x)): str(y) for x, y in zip(refused, reasons, strict=True)}
    if accepted:
        loss, steps, weight = (metrics[x] for x in (m.TRAIN_LOSS, m.LOCAL_STEPS, m.WEIGHT))
        sums.add_sums(
            [int(x) for x in accepted],
            decode_arrays(arrays, max_abs=float("inf")),
            float(cast(float, weight)),
            float(cast(float, loss)),
            float(cast(float, steps)),
        )
