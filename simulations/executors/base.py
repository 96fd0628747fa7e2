"""Executors: how the clients of the in-process grid are run.

An executor is given the messages that wait and yields a reply to each. Whatever it does to be
faster, the replies are those of the sequential one, to the rounding of float32; a contract suite
holds every executor to that. Two kinds of training message reach it: one client's, and one for a
*group* of clients (``executors/group.py``), which asks for nothing but the sums of their updates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Protocol

from flwr.app import Message, RecordDict

from wardround.client.data.hospital import Hospital
from wardround.client.requests.received import ModelCache
from wardround.client.state import ClientState
from wardround.common.protocol.cohort import clients_of


class Host(Protocol):
    """What an executor needs of the grid that it works for."""

    models: ModelCache
    keep: int | None
    """How many clients something may be kept of; None: all."""

    def answer(self, message: Message) -> Message:
        """The app's reply, or the reason of a client that fails."""

    def failure(self, message: Message, node_id: int) -> str | None:
        """Why this client fails instead of answering; None if it doesn't."""

    def failures(self, message: Message, server_round: int, names: Sequence[str]) -> dict[str, str]:
        """Why clients of a group that a message asks fail, by name."""

    def name(self, node_id: int) -> str:
        """The client's name. Raises ReplyRefused for an unknown node."""

    def hospital(self, node_id: int) -> Hospital:
        """The client's hospital."""

    def state(self, node_id: int) -> ClientState:
        """What the client remembers."""

    def state_records(self, node_id: int) -> RecordDict:
        """The same, as it is stored."""

    def set_state_records(self, node_id: int, records: RecordDict) -> None:
        """Let the client remember this."""


class Executor(ABC):
    """Runs clients."""

    name: ClassVar[str]

    @abstractmethod
    def answers(self, messages: Iterable[Message], host: Host) -> Iterator[Message]:
        """A reply to each message, in their order; a client runs when its reply is asked for."""

    def notes(self) -> list[str]:
        """What a user should know of how clients were run, one line each."""
        return []

    def close(self) -> None:  # noqa: B027 (most have nothing to end)
        """End whatever the executor has started."""


def is_group(message: Message) -> bool:
    """Whether a message is for a group of clients."""
    return message.has_content() and bool(clients_of(message.content))
