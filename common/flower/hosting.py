"""The one module that touches Flower's internals: what a host of the apps needs.

Flower's public API has no way to make messages outside its own engine. Whoever hosts our apps
without it (the in-process grid, the gRPC grid) goes through here, so an upgrade of Flower is a
matter of this file and its tests.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.date import now
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = [
    "RUN_ID",
    "ClientApp",
    "Context",
    "CohortGrid",
    "Grid",
    "HostGrid",
    "Message",
    "Run",
    "become_client",
    "become_server",
    "error_reply",
    "message_with",
    "received_message",
    "own_copy",
    "quiet_flower",
    "set_message_id",
    "timestamp",
]

SERVER_NODE_ID = SUPERLINK_NODE_ID
CLIENT_NODE_ID = 2
"""What a hospital's process calls itself; the server knows it by name."""


def become_server(run_id: int) -> Run:
    """Give this process the identity that ``Message(...)`` reads, and return the run's record."""
    TaskIdentity.task_id = 1
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = SERVER_NODE_ID
    return Run.create_empty(run_id)


def become_client() -> None:
    """Give this process the identity that ``Message(...)`` reads, as a hospital's."""
    TaskIdentity.task_id = 1
    TaskIdentity.run_id = 1
    TaskIdentity.node_id = CLIENT_NODE_ID


def timestamp() -> float:
    """Seconds since the epoch, by the clock that Flower stamps messages with."""
    return float(now().timestamp())


def quiet_flower() -> None:
    """Keep Flower's own log lines about sampling and aggregation off our display."""
    logging.getLogger("flwr").setLevel(logging.ERROR)


def set_message_id(message: Message, message_id: str) -> None:
    """Name a message; Flower's own link would do so by hashing the whole content."""
    message.metadata.__dict__["_message_id"] = message_id


def own_copy(message: Message) -> Message:
    """The same message with record shells of its own, so that one client can't alter another's.

    The arrays are shared, as their immutable bytes are: to make 17 anew takes Flower 0.2 ms, for
    each message of each client of a simulation.
    """
    shells = {name: record.copy() for name, record in message.content.items()}
    copy = Message(
        RecordDict(shells),
        dst_node_id=message.metadata.dst_node_id,
        message_type=message.metadata.message_type,
        ttl=message.metadata.ttl,
        group_id=message.metadata.group_id,
    )
    set_message_id(copy, message.metadata.message_id)
    return copy


def error_reply(
    request: Message, reason: str, code: int = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
) -> Message:
    """The reply that says a client failed, and why. ``code``: of ``common/protocol/errors.py``."""
    return Message(Error(code, reason), reply_to=request)


def message_with(content: RecordDict, request: Message) -> Message:
    """The reply that came over a network, with the content that was decoded."""
    return Message(content, reply_to=request)


def received_message(content: RecordDict, message_type: str, message_id: str) -> Message:
    """A request as it came over a network, at a client."""
    message = Message(content, dst_node_id=CLIENT_NODE_ID, message_type=message_type)
    set_message_id(message, message_id)
    return message


RUN_ID = 1
"""Every host outside Flower's own engine hosts one run."""


class HostGrid(Grid):
    """What every grid of ours has in common: one run, in a process that is its server."""

    answers_cohorts = False
    """Whether one message may ask many clients: only where all of them run in this process."""
    emulates_masks = False
    """Whether secure aggregation is emulated: only where all clients are simulated ones. A host
    between machines has no way to say so."""

    def __init__(self) -> None:
        self._run = become_server(RUN_ID)

    def name(self, node_id: int) -> str:
        """What its host calls a node, also one that can't say who it is."""
        return f"node {node_id}"

    def silent(self, kind: str, server_round: int, node_ids: Sequence[int]) -> dict[int, str]:
        """Which of these don't answer a message of the kind that is emulated, and why."""
        return {}

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)


class CohortGrid(Grid):
    """A grid as a strategy may see it: only the cohort of this round is connected.

    Flower's strategies sample from ``get_node_ids`` by themselves; with the cohort drawn before,
    they get exactly the clients that the round asks.
    """

    def __init__(self, grid: Grid, node_ids: Iterable[int]) -> None:
        self._grid, self._node_ids = grid, list(node_ids)

    def set_run(self, run: Run) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._node_ids)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return self._grid.send_and_receive(messages, timeout=timeout)
