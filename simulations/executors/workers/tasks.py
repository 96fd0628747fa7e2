"""Has tasks done by a pool of workers.

The longest tasks come first and are handed to whoever is free; what comes back is given on in the
order of the tasks, whose size doesn't depend on the number of workers, so that neither that number
nor who is fast changes a bit. A worker that dies takes nothing with it but its time, and its task
is done again; a task that kills three of them is given up, with the reason.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from flwr.app import RecordDict

from wardround.simulations.clients import Clients
from wardround.simulations.executors.sums import failed_with
from wardround.simulations.executors.workers.orders import Answer, Done, Order, Task
from wardround.simulations.executors.workers.parcel import Parcel

_MOST_DEATHS = 3


class WorkerPool(ABC):
    """Workers of one kind, and how orders and parcels travel to them."""

    called: ClassVar[str]
    """What one of them is called."""

    @abstractmethod
    def hand_out(self, waiting: deque[Task], clients: Clients) -> None:
        """Take tasks out of ``waiting`` for the workers that are free."""

    @abstractmethod
    def finished(self, clients: Clients) -> list[Answer]:
        """What busy workers say, once one of them says something; the dead are replaced."""

    @abstractmethod
    def release(self, parcel: Parcel) -> None:
        """No task needs this parcel any more. Said again, or of one never sent: nothing."""

    @abstractmethod
    def close(self) -> None:
        """End all workers."""


@dataclass(frozen=True, eq=False)
class Finished:
    """A task that was done: what the worker said, and the reply's parcel if there is one."""

    task: Task
    done: Done
    parcel: Parcel | None

    @property
    def group_reply(self) -> RecordDict | None:
        """The content of a group's reply; None where the task failed."""
        return None if self.parcel is None or self.done.errors else self.parcel.contents[0]

    @property
    def reason(self) -> str:
        """Why a group's task failed."""
        return failed_with(next(iter(self.done.errors.values()), "no reason given"))


class Tasks:
    """Numbers tasks and has them done.

    Attributes
    ----------
    died : a line for each worker that died
    """

    def __init__(self, pool: WorkerPool) -> None:
        self.pool = pool
        self.died: list[str] = []
        self._numbers = 0

    def make(self, parcel: Parcel, kind: str, nodes: list[int], *, group: bool) -> Task:
        """A new task."""
        self._numbers += 1
        return Task(Order(self._numbers, kind, nodes, group), parcel)

    def of_group(self, parcel: Parcel, kind: str, nodes: Sequence[int], *, most: int) -> list[Task]:
        """Tasks of at most so many clients for a group's message."""
        return [
            self.make(parcel, kind, list(nodes[start : start + most]), group=True)
            for start in range(0, len(nodes), most)
        ]

    def run(self, tasks: Sequence[Task], clients: Clients) -> Iterator[Finished]:
        """Have all done; yields them in their order."""
        coming = _Coming(self, tasks)
        try:
            for position, task in enumerate(tasks):
                answer = coming.wait_for(task, clients)
                assert answer.done is not None
                yield Finished(task, answer.done, answer.parcel)
                following = tasks[position + 1 : position + 2]
                if not (following and following[0].parcel is task.parcel):
                    self.pool.release(task.parcel)
        finally:
            for task in tasks:
                self.pool.release(task.parcel)


class _Coming:
    """The answers to one run's tasks, as they come."""

    def __init__(self, tasks: Tasks, todo: Sequence[Task]) -> None:
        self._tasks = tasks
        self._waiting, self._known = deque(todo), {task.order.number: task for task in todo}
        self._deaths = dict.fromkeys(self._known, 0)
        self._ready: dict[int, Answer] = {}

    def wait_for(self, task: Task, clients: Clients) -> Answer:
        """What became of this task."""
        pool = self._tasks.pool
        while task.order.number not in self._ready:
            pool.hand_out(self._waiting, clients)
            for answer in pool.finished(clients):
                self._take(answer)
        return self._ready.pop(task.order.number)

    def _take(self, answer: Answer) -> None:
        number, called = answer.number, self._tasks.pool.called
        if answer.done is None:
            self._tasks.died.append(f"a {called} ended with {answer.how} and was replaced")
        if number not in self._known:  # of a run that was given up
            return
        if answer.done is None:
            self._deaths[number] += 1
            if self._deaths[number] < _MOST_DEATHS:
                self._waiting.appendleft(self._known[number])
                return
            reason = f"its {called} ended {_MOST_DEATHS} times, last with {answer.how}"
            answer = Answer(number, Done.failed(self._known[number].order, reason))
        self._ready[number] = answer
