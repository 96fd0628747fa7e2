"""One client after the other: the reference that every other executor is held to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flwr.app import Message

from wardround.simulations.clients import Clients
from wardround.simulations.executors.base import Executor
from wardround.simulations.executors.group import GroupWork, answer_one
from wardround.simulations.executors.one_by_one import evaluate_each, train_each


class Sequential(Executor):
    """Exact and deterministic; one reply is in memory at a time."""

    name = "sequential"

    def __init__(self) -> None:
        self.work = GroupWork(train_each, evaluate_each)

    def answers(self, messages: Iterable[Message], clients: Clients) -> Iterator[Message]:
        for message in messages:
            yield answer_one(message, clients, self.work)
