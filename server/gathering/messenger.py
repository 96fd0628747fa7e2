"""Sends requests to hospitals, and tells which of them answered and why others weren't used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from wardround.common.errors import ReplyRefused
from wardround.common.protocol import names as m
from wardround.server.gathering.exchange import exchange
from wardround.server.members.member import Member
from wardround.server.observer import Observer

Refusal = dict[str, str]
"""'hospital', 'step' and 'reason', as a line of ``metrics.jsonl`` has them."""


@dataclass(frozen=True, kw_only=True)
class Messenger:
    """How a gatherer reaches hospitals.

    timeout_s : ``federation.round_timeout_s``
    observer : is told of every reply, used or not
    """

    grid: Grid
    timeout_s: float
    observer: Observer

    def exchange(
        self,
        requests: Sequence[Message],
        members: Sequence[Member],
        enough: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[Member, Message, Message | None]]:
        """Send, and yield (member, request, reply) as replies arrive; None for a late one."""
        by_node = {member.node_id: member for member in members}
        pairs = exchange(self.grid, requests, self.timeout_s, enough)
        # not a loop, whose variables would keep a reply while the next one is made
        return map(lambda pair: (by_node[pair[0].metadata.dst_node_id], *pair), pairs)

    def in_time(self, reply: Message | None) -> Message:
        """The reply. Raises ReplyRefused if there is none."""
        if reply is None:
            raise ReplyRefused(
                f"late: no answer within federation.round_timeout_s = {self.timeout_s:g}"
            )
        return reply

    def tell_used(self, hospital: str, step: str) -> None:
        """A hospital's reply was accepted."""
        self.observer.replied(hospital, step, None)

    def tell_refused(self, hospital: str, step: str, error: Exception) -> Refusal:
        """A hospital's reply isn't used: its line for the report."""
        self.observer.replied(hospital, step, str(error))
        return {"hospital": hospital, "step": step, "reason": str(error)}


def sizes(messages: Sequence[Message]) -> int:
    """Payload bytes of all messages."""
    return sum(m.payload_bytes(message.content) for message in messages)
