"""Executors: how the clients of the in-process grid are run.

An executor is given the messages that wait and yields a reply to each. Whatever it does to be
faster, the replies are those of the sequential one, to the rounding of float32; a contract suite
holds every executor to that. It is the reference since it has no arithmetic of its own: each client
is trained by the very code that runs at a hospital. Two kinds of training message reach an
executor: one client's, and one for a *group* of clients (``group.py``), which asks for nothing but
the sums of their updates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from flwr.app import Message

from wardround.simulations.clients import Clients


class Executor(ABC):
    """Runs clients.

    name : by which a configuration asks for it
    """

    name: str

    @abstractmethod
    def answers(self, messages: Iterable[Message], clients: Clients) -> Iterator[Message]:
        """A reply to each message, in their order; a client runs when its reply is asked for."""

    def notes(self) -> list[str]:
        """What a user should know of how clients were run, one line each."""
        return []

    def close(self) -> None:  # noqa: B027 (most have nothing to end)
        """End whatever the executor has started."""
