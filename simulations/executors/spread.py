"""Executors that spread clients over workers, which have the data and are told what to do.

The longest tasks are handed out first, to whoever is free; sums are added in the order of the
tasks, whose size doesn't depend on the number of workers, so that neither that number nor who is
fast changes a bit. What clients remember goes with a task and comes back with its reply: a worker
that dies takes nothing with it but its time, and its task is done again; a task that kills three of
them is given up, with the reason. How messages travel is each kind's own (``processes.py``,
``on_ray.py``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from flwr.app import Message
from torch import nn

from wardround.common.flower.arrays import Arrays
from wardround.common.flower.hosting import error_reply, message_with, timestamp
from wardround.common.protocol import names as m
from wardround.common.protocol.cohort import CohortTrainReply
from wardround.simulations.executors.base import Host, is_group
from wardround.simulations.executors.cohort import Cohort, group_terms
from wardround.simulations.executors.group import Group, TrainingSums, failed_with
from wardround.simulations.executors.parcel import Parcel
from wardround.simulations.executors.trainer import Extent
from wardround.simulations.executors.worker import Done, Order

MOST_CLIENTS_A_TASK = 256
MESSAGES_A_TASK = 16
_MOST_DEATHS = 3


@dataclass(frozen=True, eq=False)
class Task:
    """An order and the parcel that it is about, which several tasks may share."""

    order: Order
    parcel: Parcel


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of an order.

    done : None if the worker died
    parcel : the reply's; None if there is none
    how : a worker that died ended
    """

    number: int
    done: Done | None
    parcel: Parcel | None = None
    how: str = ""


class Spread(Cohort):
    """Makes tasks, has them done, and folds what comes back."""

    worker: ClassVar[str]
    """What a worker is called."""
    forms: ClassVar[bool] = True
    """Whether a worker trains many clients at once, or one after the other."""
    works_on: ClassVar[tuple[str, ...] | None] = (m.TRAIN, m.EVALUATE)
    """Types of single messages that workers answer; None for all."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = 0
        self._died: list[str] = []

    def notes(self) -> list[str]:
        return super().notes() + self._died

    # --- how messages travel -----------------------------------------------------------------
    @abstractmethod
    def hand_out(self, waiting: deque[Task], host: Host) -> None:
        """Take tasks out of ``waiting`` for the workers that are free."""

    @abstractmethod
    def finished(self, host: Host) -> list[Answer]:
        """What busy workers say, once one of them says something; the dead are replaced."""

    @abstractmethod
    def release(self, parcel: Parcel) -> None:
        """No task needs this parcel any more. Said again, or of one never sent: nothing."""

    # --- single messages ---------------------------------------------------------------------
    def answers(self, messages: Iterable[Message], host: Host) -> Iterator[Message]:
        waiting: list[Message] = []
        for message in messages:
            kind = message.metadata.message_type
            if not is_group(message) and (self.works_on is None or kind in self.works_on):
                if waiting and waiting[0].metadata.message_type != kind:
                    yield from self._singles(waiting, host)
                    waiting = []
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
        parts = [
            list(messages[start : start + MESSAGES_A_TASK])
            for start in range(0, len(messages), MESSAGES_A_TASK)
        ]
        tasks = []
        for part in parts:
            nodes = [message.metadata.dst_node_id for message in part]
            states = [host.state_records(node) for node in nodes]
            parcel = Parcel([message.content for message in part], states)
            tasks.append(self.task(parcel, part[0].metadata.message_type, nodes, False))
        for part, (_, done, reply) in zip(parts, self.run(tasks, host), strict=True):
            yield from self._replies(part, done, reply, host)

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
        parcel = Parcel([group.message.content], [])
        clients = self.extents(group, parcel, node_ids, sums.refused)
        if not clients:
            return
        trainer = self.trainer(model, group.host, clients[0].node_id)
        corrected = bool(group_terms(group, model).proximal)
        batched = self.forms and trainer.form != "sequential"
        size = MOST_CLIENTS_A_TASK if batched else MESSAGES_A_TASK
        tasks = [
            self.task(parcel, m.TRAIN, [x.node_id for x in chunk[start : start + size]], True)
            for chunk in trainer.chunks(clients, corrected)
            for start in range(0, len(chunk), size)
        ]
        for task, done, reply in self.run(tasks, group.host):
            if reply is None or done.errors:
                sums.refused |= dict.fromkeys(task.order.nodes, reason_given(done))
            else:
                _fold_reply(reply, sums)

    def extents(
        self, group: Group, parcel: Parcel, node_ids: list[int], refused: dict[int, str]
    ) -> Sequence[Extent]:
        """How much each client trains on; why others can't goes to ``refused``.

        parcel : the group's request
        """
        return self._clients(group, node_ids, refused)

    # --- tasks -------------------------------------------------------------------------------
    def task(self, parcel: Parcel, kind: str, nodes: list[int], group: bool) -> Task:
        """A new task."""
        self._numbers += 1
        return Task(Order(self._numbers, kind, nodes, group), parcel)

    def run(self, tasks: Sequence[Task], host: Host) -> Iterator[tuple[Task, Done, Parcel | None]]:
        """Have all done; yield task, what was said, and the reply's parcel, in the tasks' order."""
        waiting, known = deque(tasks), {task.order.number: task for task in tasks}
        deaths = dict.fromkeys(known, 0)
        ready: dict[int, Answer] = {}
        try:
            for position, task in enumerate(tasks):
                while task.order.number not in ready:
                    self.hand_out(waiting, host)
                    for answer in self.finished(host):
                        number = answer.number
                        if answer.done is None:
                            self._died.append(
                                f"a {self.worker} ended with {answer.how} and was replaced"
                            )
                        if number not in known:  # of a run that was given up
                            continue
                        if answer.done is None:
                            deaths[number] += 1
                            if deaths[number] < _MOST_DEATHS:
                                waiting.appendleft(known[number])
                                continue
                            answer = self._given_up(known[number].order, answer.how)
                        ready[number] = answer
                answer = ready.pop(task.order.number)
                assert answer.done is not None
                yield task, answer.done, answer.parcel
                if tasks[position + 1 : position + 2] and tasks[position + 1].parcel is task.parcel:
                    continue
                self.release(task.parcel)
        finally:
            for task in tasks:
                self.release(task.parcel)

    def _given_up(self, order: Order, how: str) -> Answer:
        reason = f"its {self.worker} ended {_MOST_DEATHS} times, last with {how}"
        return Answer(
            order.number, Done(order.number, dict.fromkeys(range(len(order.nodes)), reason), [])
        )


def reason_given(done: Done) -> str:
    """Why a group's task failed."""
    return failed_with(next(iter(done.errors.values()), "no reason given"))


def _fold_reply(parcel: Parcel, sums: TrainingSums) -> None:
    """Add a task's sums."""
    (content,) = parcel.contents
    reply = CohortTrainReply.from_records(content)
    sums.refused |= reply.refused
    if reply.accepted:
        part = dict(reply.sums)
        sums.add_sums(list(reply.accepted), part, reply.weight, reply.loss, reply.steps)
