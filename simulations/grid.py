"""The in-process grid: messages wait until their replies are pulled, then an executor runs clients.

A client runs when its reply is pulled. Its time starts when its turn comes, as it would on a
machine of its own. ``executors/sequential.py`` is the reference: what a faster executor gives must
be what that one gives.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from flwr.app import Message

from wardround.common.flower.hosting import HostGrid, set_message_id
from wardround.server.members.lazy import VirtualMembers
from wardround.simulations.clients import Clients
from wardround.simulations.executors.base import Executor
from wardround.simulations.executors.sequential import Sequential


class InProcessGrid(HostGrid):
    """A Flower ``Grid`` whose nodes are clients of this process.

    Parameters
    ----------
    executor : runs the clients; one after the other by default
    members : whom the server has as members without asking them: a virtual population
    emulates_masks : whether its clients' sums under secure aggregation are emulated
    """

    def __init__(
        self,
        clients: Clients,
        executor: Executor | None = None,
        members: VirtualMembers | None = None,
        *,
        emulates_masks: bool = False,
    ) -> None:
        super().__init__()
        self.clients, self.members = clients, members
        self.answers_cohorts = clients.ours
        self.emulates_masks = emulates_masks
        self._executor = executor or Sequential()
        self._numbers = itertools.count(1)
        self._waiting: dict[str, Message] = {}

    def name(self, node_id: int) -> str:
        return self.clients.name(node_id)

    def get_node_ids(self) -> Iterable[int]:
        return range(1, len(self.clients.names) + 1)

    def silent(self, kind: str, server_round: int, node_ids: Sequence[int]) -> dict[int, str]:
        named = {self.clients.name(node): node for node in node_ids}
        failed = self.clients.failures(kind, server_round, list(named))
        return {named[name]: reason for name, reason in failed.items()}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            message_id = f"message-{next(self._numbers)}"
            set_message_id(message, message_id)
            self._waiting[message_id] = message
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        found = (self._waiting.pop(message_id, None) for message_id in list(message_ids))
        messages = (message for message in found if message is not None)
        return self._executor.answers(messages, self.clients)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return list(self.pull_messages(self.push_messages(messages)))
