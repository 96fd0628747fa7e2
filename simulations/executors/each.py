"""A message for a group of clients, answered by each client's own app.

Whatever a hospital does with it (its checks, its rows, its failure) it does here: what is shared is
the message, and the reply, in which vectors are added and equal answers stand together. It goes so
where masks are emulated: the preparation's sums, layouts of sums, figures.
"""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import Message

from wardround.common.errors import ReplyRefused
from wardround.common.flower.hosting import received_message
from wardround.common.protocol.cohort import (
    CohortKeyReply,
    CohortMaskedReply,
    clients_of,
    for_one,
)
from wardround.common.protocol.masked import KeyReply, MaskedReply, MaskedTask
from wardround.common.protocol.message import Content
from wardround.common.secagg.content import sums_layout
from wardround.common.secagg.messages import TaskRequest
from wardround.common.secagg.ring import RingVector
from wardround.server.gathering.replies import check_error
from wardround.simulations.clients import Clients
from wardround.simulations.executors.sums import Refused


class EachAnswered:
    """What clients answer to one message, as it grows."""

    def __init__(self, message: Message) -> None:
        self.refused: Refused = {}
        self._accepted: list[int] = []
        self._said: dict[bytes, list[int]] = {}
        masked = MaskedTask.read(message.content)  # None of layouts, which nobody masks
        self._vector = _zeros(masked) if masked is not None else None

    def add(self, node_id: int, reply: Message) -> None:
        """One client's reply, or why it has none."""
        try:
            check_error(reply)
            if self._vector is None:
                self._add_said(KeyReply.from_records(reply.content).message, [node_id])
            else:
                self._vector.add_bytes(MaskedReply.from_records(reply.content).vector)
                self._accepted.append(node_id)
        except ReplyRefused as error:
            self.refused[node_id] = str(error)

    def add_content(self, content: Content) -> None:
        """What a worker's ``content`` gave. Raises ReplyRefused for anything else."""
        if self._vector is None:
            said = CohortKeyReply.from_records(content)
            self.refused |= said.refused
            for message, nodes in said.messages.items():
                self._add_said(message, nodes)
            return
        reply = CohortMaskedReply.from_records(content)
        self.refused |= reply.refused
        self._vector.add_bytes(reply.vector)
        self._accepted += reply.accepted

    def content(self) -> Content:
        """What a reply to the group's message holds."""
        if self._vector is None:
            messages = {message: tuple(nodes) for message, nodes in self._said.items()}
            return CohortKeyReply(messages, self.refused).to_records()
        accepted = tuple(self._accepted)
        return CohortMaskedReply(accepted, self.refused, self._vector.data()).to_records()

    def _add_said(self, message: bytes, nodes: Iterable[int]) -> None:
        self._said.setdefault(message, []).extend(nodes)


def _zeros(masked: MaskedTask) -> RingVector:
    task, layout = TaskRequest.from_bytes(masked.message), sums_layout(masked.sums_layout())
    return RingVector(task.bits, layout.update_size, layout.exact_size)


def answer_each(message: Message, clients: Clients) -> EachAnswered:
    """What every client of the group answers."""
    found, kind = EachAnswered(message), message.metadata.message_type
    content = for_one(message.content)
    for node_id in clients_of(message.content):
        one = received_message(content, kind, f"{message.metadata.message_id}-{node_id}")
        one.metadata.dst_node_id = node_id
        found.add(node_id, clients.answer(one))
    return found
