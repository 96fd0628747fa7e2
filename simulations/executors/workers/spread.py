"""The executor that spreads clients over workers, which have the data and are told what to do.

Sums are added in the order of the tasks. What clients remember goes with a task and comes back with
its reply. How messages travel is each pool's own (``processes.py``, ``on_ray/pool.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol

from flwr.app import Message

from wardround.common.flower.hosting import error_reply, message_with, timestamp
from wardround.common.protocol import names as m
from wardround.common.protocol.cohort import clients_of
from wardround.simulations.clients import Clients
from wardround.simulations.executors.at_once import evaluate_together, group_terms
from wardround.simulations.executors.base import Executor
from wardround.simulations.executors.each import EachAnswered
from wardround.simulations.executors.group import (
    Group,
    GroupWork,
    answer_one,
    is_for_each,
    is_group,
)
from wardround.simulations.executors.sums import EvaluationSums, GroupSums, Refused, failed_with
from wardround.simulations.executors.trainer import Extent, Trainers
from wardround.simulations.executors.workers.orders import Task
from wardround.simulations.executors.workers.parcel import Parcel
from wardround.simulations.executors.workers.tasks import Finished, Tasks

MOST_CLIENTS_A_TASK = 256
MESSAGES_A_TASK = 16
EACH_A_TASK = 64


class Extents(Protocol):
    """Says how much clients train on."""

    def of(self, group: Group, node_ids: list[int], refused: Refused) -> Sequence[Extent]:
        """These clients' extents; why others can't train goes to ``refused``."""


class SpreadTraining:
    """Trains a group by tasks of clients that workers may train at once.

    Parameters
    ----------
    forms : whether a worker trains many clients at once, or one after the other
    """

    def __init__(self, tasks: Tasks, extents: Extents, *, forms: bool = True) -> None:
        self.tasks, self._extents, self._forms = tasks, extents, forms
        self._trainers = Trainers()

    def notes(self) -> list[str]:
        """What a user should know, one line each."""
        return self._trainers.notes() + self.tasks.died

    def train(self, group: Group, node_ids: list[int], sums: GroupSums) -> None:
        """Have these clients trained and fold their updates into ``sums``."""
        clients = self._extents.of(group, node_ids, sums.refused)
        if not clients:
            return
        for finished in self.tasks.run(self._todo(group, clients, sums), group.clients):
            if (content := finished.group_reply) is None:
                sums.refused |= dict.fromkeys(finished.task.order.nodes, finished.reason)
            else:
                sums.add_content(content)

    def _todo(self, group: Group, clients: Sequence[Extent], sums: GroupSums) -> list[Task]:
        """The group's tasks: chunks of clients of like size, or in their own order as many as of
        single messages, where the sums must be had to the bit."""
        parcel = Parcel([group.message.content], [])
        if sums.in_order:
            nodes = [one.node_id for one in clients]
            return self.tasks.of_group(parcel, m.TRAIN, nodes, most=MESSAGES_A_TASK)
        trainer = self._trainers.of(group.model, group.clients, clients[0].node_id)
        corrected = bool(group_terms(group).proximal)
        batched = self._forms and trainer.form != "sequential"
        most = MOST_CLIENTS_A_TASK if batched else MESSAGES_A_TASK
        return [
            task
            for chunk in trainer.chunks(clients, corrected)
            for task in self.tasks.of_group(
                parcel, m.TRAIN, [one.node_id for one in chunk], most=most
            )
        ]


class Spread(Executor):
    """Makes tasks, has them done, and folds what comes back.

    Parameters
    ----------
    training : of groups; its tasks are those of single messages, too
    evaluate : a group; here, by default, as that is a matter of moments
    kinds : types of single messages that workers answer; None: all
    """

    def __init__(
        self,
        name: str,
        training: SpreadTraining,
        *,
        evaluate: Callable[[Group], EvaluationSums] = evaluate_together,
        kinds: Collection[str] | None = (m.TRAIN, m.BEGIN, m.EVALUATE),
    ) -> None:
        self.name = name
        self.work = GroupWork(training.train, evaluate)
        self._training, self._tasks, self._kinds = training, training.tasks, kinds

    def notes(self) -> list[str]:
        return self._training.notes()

    def close(self) -> None:
        self._tasks.pool.close()

    def answers(self, messages: Iterable[Message], clients: Clients) -> Iterator[Message]:
        waiting: list[Message] = []
        for message in messages:
            kind = message.metadata.message_type
            if is_group(message) or not (self._kinds is None or kind in self._kinds):
                yield from self._singles(waiting, clients)
                waiting = []
                if is_group(message) and is_for_each(message):
                    yield self._each(message, clients)
                else:
                    yield answer_one(message, clients, self.work)
                continue
            if waiting and waiting[0].metadata.message_type != kind:
                yield from self._singles(waiting, clients)
                waiting = []
            message.metadata.created_at = timestamp()
            if reason := clients.failure(message, message.metadata.dst_node_id):
                yield error_reply(message, reason)
            else:
                waiting.append(message)
        yield from self._singles(waiting, clients)

    def _each(self, message: Message, clients: Clients) -> Message:
        """The reply to a group's message that each client answers by itself."""
        kind, began_s = message.metadata.message_type, timestamp()
        message.metadata.created_at = began_s
        found, nodes = EachAnswered(message), []
        for node in clients_of(message.content):
            if reason := clients.failure(message, node):
                found.refused[node] = failed_with(reason)
            else:
                nodes.append(node)
        parcel = Parcel([message.content], [])
        todo = self._tasks.of_group(parcel, kind, nodes, most=EACH_A_TASK)
        for finished in self._tasks.run(todo, clients):
            if (content := finished.group_reply) is None:
                found.refused |= dict.fromkeys(finished.task.order.nodes, finished.reason)
            else:
                found.add_content(content)
        reply = Message(found.content(), reply_to=message)
        reply.metadata.created_at = began_s + (timestamp() - began_s) / max(1, len(nodes))
        return reply

    def _singles(self, messages: Sequence[Message], clients: Clients) -> Iterator[Message]:
        """Replies to messages of one type for single clients, who don't fail."""
        most = MESSAGES_A_TASK
        parts = [list(messages[start : start + most]) for start in range(0, len(messages), most)]
        todo = []
        for part in parts:
            nodes = [message.metadata.dst_node_id for message in part]
            states = [clients.state_records(node) for node in nodes]
            parcel = Parcel([message.content for message in part], states)
            todo.append(self._tasks.make(parcel, part[0].metadata.message_type, nodes, group=False))
        for part, finished in zip(parts, self._tasks.run(todo, clients), strict=True):
            yield from _replies(part, finished, clients)


def _replies(messages: list[Message], finished: Finished, clients: Clients) -> Iterator[Message]:
    """A task's replies, each stamped with its own time; clients remember what they should."""
    done, parcel = finished.done, finished.parcel
    for index, message in enumerate(messages):
        if parcel is not None:
            clients.set_state_records(message.metadata.dst_node_id, parcel.states[index])
        if index in done.errors:
            reply = error_reply(message, done.errors[index])
        else:
            assert parcel is not None
            reply = message_with(parcel.contents[index], message)
        took_s = done.seconds[index] if index < len(done.seconds) else 0.0
        message.metadata.created_at = timestamp()
        reply.metadata.created_at = message.metadata.created_at + took_s
        yield reply
