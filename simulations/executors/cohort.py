"""Many clients in one batched computation; whatever can't be batched runs one client at a time.

Which form of training is used depends on the model (``engines/``): the first that suits it. A
chunk of clients is trained at once, as many as a cache (on a GPU: its memory) holds; the size
depends on the model and the data alone, so that the same run gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flwr.app import Message

from wardround.common.protocol.kept import is_work
from wardround.simulations.clients import Clients
from wardround.simulations.executors.at_once import TrainingAtOnce, evaluate_together
from wardround.simulations.executors.base import Executor
from wardround.simulations.executors.group import GroupWork, answer_one, is_group
from wardround.simulations.executors.singles import train_messages
from wardround.simulations.executors.trainer import Trainers


class Cohort(Executor):
    """Trains chunks of clients at once."""

    name = "cohort"

    def __init__(self) -> None:
        self._trainers = Trainers()
        self.work = GroupWork(TrainingAtOnce(self._trainers).train, evaluate_together)

    @property
    def form(self) -> str:
        """The name of the form in use, or 'sequential'."""
        return self._trainers.form

    def notes(self) -> list[str]:
        return self._trainers.notes()

    def answers(self, messages: Iterable[Message], clients: Clients) -> Iterator[Message]:
        waiting: list[Message] = []
        for message in messages:
            if is_work(message.metadata.message_type, message.content) and not is_group(message):
                waiting.append(message)
                continue
            yield from train_messages(waiting, clients, self._trainers)
            waiting = []
            yield answer_one(message, clients, self.work)
        yield from train_messages(waiting, clients, self._trainers)
