"""What a worker of ``spread.py`` does with an order; the process that does it for
``processes.py``.

The process is a fork of the simulation, so it has its data. It is told what to do in lines of JSON
over a pipe, and finds the messages in files. What clients remember comes with the message and goes
back with the reply.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from flwr.app import Message, RecordDict

from wardround.client.app import reason_of
from wardround.common.flower.hosting import received_message
from wardround.common.protocol.cohort import with_clients
from wardround.simulations.executors.base import Executor
from wardround.simulations.executors.parcel import Parcel

if TYPE_CHECKING:
    from wardround.simulations.grid import InProcessGrid

GOODBYE = b"goodbye"
"""The last line to a worker."""


@dataclass(frozen=True)
class Order:
    """What a worker is to do.

    number : of the task, for the reply
    kind : message type
    nodes : node ids; of a group, or of the parcel's messages
    group : whether the parcel is one message for all of them
    """

    number: int
    kind: str
    nodes: list[int]
    group: bool

    def values(self) -> dict[str, Any]:
        """All of it, for JSON; ``Order(**values)`` reads it."""
        return asdict(self)


@dataclass(frozen=True)
class Done:
    """What a worker says of an order.

    errors : reasons of messages without a reply, by position
    seconds : that each message took
    """

    number: int
    errors: dict[int, str]
    seconds: list[float]

    def to_bytes(self) -> bytes:
        """One line."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Done:
        """The line back."""
        found = json.loads(data)
        errors = {int(key): str(value) for key, value in found["errors"].items()}
        return cls(int(found["number"]), errors, [float(x) for x in found["seconds"]])


def serve(connection: Connection, grid: InProcessGrid, number: int, executor: Executor) -> None:
    """Do what comes over the connection until it ends."""
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.SIG_IGN)  # the simulation's own process ends us
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    grid.intercepts_nothing()  # who fails was decided before
    last = ("", Parcel([], []))
    while True:
        try:
            line = connection.recv_bytes()
        except (EOFError, OSError):
            line = GOODBYE
        if line == GOODBYE:
            os._exit(0)
        told = json.loads(line)
        request, reply = told.pop("request"), told.pop("reply")
        order = Order(**told)
        try:
            if last[0] != request:
                last = (request, Parcel.read(Path(request)))
            done, parcel = work(executor, grid, order, last[1])
            parcel.write(Path(reply))
        except Exception as error:  # a parcel that can't be read or written: the disk's fault
            reason = reason_of(error)
            done = Done(order.number, dict.fromkeys(range(len(order.nodes)), reason), [])
            Path(reply).unlink(missing_ok=True)
        connection.send_bytes(done.to_bytes())


def group_request(order: Order, parcel: Parcel) -> Message:
    """The parcel's message for a group, for the order's clients alone."""
    content = with_clients(parcel.contents[0], order.nodes)
    return _message(order, content, order.nodes[0], 0)


def work(
    executor: Executor, grid: InProcessGrid, order: Order, parcel: Parcel
) -> tuple[Done, Parcel]:
    """Do an order: what to say, and the replies with what clients remember now."""
    if order.group:
        requests = [group_request(order, parcel)]
    else:
        requests = [
            _message(order, content, node, position)
            for position, (content, node) in enumerate(
                zip(parcel.contents, order.nodes, strict=True)
            )
        ]
        grid.set_client_states(
            {grid.name(x): state for x, state in zip(order.nodes, parcel.states, strict=True)}
        )
    replies = {x.metadata.reply_to_message_id: x for x in executor.answers(requests, grid)}
    contents, errors, seconds = [], {}, []
    for position, request in enumerate(requests):
        reply = replies[request.metadata.message_id]
        seconds.append(reply.metadata.created_at - request.metadata.created_at)
        if reply.has_error():
            errors[position] = reply.error.reason or "no reason given"
        contents.append(RecordDict() if reply.has_error() else reply.content)
    states = [] if order.group else [grid.state_records(node) for node in order.nodes]
    return Done(order.number, errors, seconds), Parcel(contents, states)


def _message(order: Order, content: RecordDict, node_id: int, position: int) -> Message:
    message = received_message(content, order.kind, f"task-{order.number}-{position}")
    message.metadata.dst_node_id = node_id
    return message
