"""What a worker does with an order, in whichever process it is.

What clients remember comes with the message and goes back with the reply.
"""

from __future__ import annotations

from flwr.app import Message, RecordDict

from wardround.common.flower.hosting import received_message
from wardround.common.protocol.cohort import with_clients
from wardround.simulations.clients import Clients
from wardround.simulations.executors.base import Executor
from wardround.simulations.executors.workers.orders import Done, Order
from wardround.simulations.executors.workers.parcel import Parcel


def work(executor: Executor, clients: Clients, order: Order, parcel: Parcel) -> tuple[Done, Parcel]:
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
        clients.set_states(
            {clients.name(x): state for x, state in zip(order.nodes, parcel.states, strict=True)}
        )
    replies = {x.metadata.reply_to_message_id: x for x in executor.answers(requests, clients)}
    contents, errors, seconds = [], {}, []
    for position, request in enumerate(requests):
        reply = replies[request.metadata.message_id]
        seconds.append(reply.metadata.created_at - request.metadata.created_at)
        if reply.has_error():
            errors[position] = reply.error.reason or "no reason given"
        contents.append(RecordDict() if reply.has_error() else reply.content)
    states = [] if order.group else [clients.state_records(node) for node in order.nodes]
    return Done(order.number, errors, seconds), Parcel(contents, states)


def group_request(order: Order, parcel: Parcel) -> Message:
    """The parcel's message for a group, for the order's clients alone."""
    content = with_clients(parcel.contents[0], order.nodes)
    return _message(order, content, order.nodes[0], 0)


def _message(order: Order, content: RecordDict, node_id: int, position: int) -> Message:
    message = received_message(content, order.kind, f"task-{order.number}-{position}")
    message.metadata.dst_node_id = node_id
    return message
