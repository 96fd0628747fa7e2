"""One exchange: send a request to each member of a cohort, yield the replies as they arrive.

The host decides what runs where; this loop only needs ``push_messages`` and ``pull_messages`` of a
Flower ``Grid``, and asks again and again unless the host can tell when a reply is here. Replies
that never come are yielded as None when the time is over; a second reply to one request, or one to
none, is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from flwr.app import Message
from flwr.serverapp import Grid

_SHORTEST_POLL_S, _LONGEST_POLL_S = 0.02, 1.0


@runtime_checkable
class KnowsArrivals(Protocol):
    """What a host's ``Grid`` may do beyond Flower's: it knows when a reply is here."""

    def wait(self, message_ids: Iterable[str], seconds: float) -> None:
        """Until a reply to one of these is here, at most so long."""

    def withdraw(self, message_ids: Iterable[str]) -> None:
        """Nobody waits for these any more."""


def exchange(
    grid: Grid,
    requests: Sequence[Message],
    timeout_s: float,
    enough: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Message, Message | None]]:
    """Yield (request, reply) once per request; the reply is None for a client that was too late.

    A reply counts as late if its ``created_at`` lies more than ``timeout_s`` after its request's;
    hosts stamp both, so a client's clock plays no part. Once ``enough`` says so, nothing still
    on its way is waited for.
    """
    pending = dict(zip(grid.push_messages(requests), requests, strict=True))
    mailbox = grid if isinstance(grid, KnowsArrivals) else None
    deadline, poll_s = time.monotonic() + timeout_s, _SHORTEST_POLL_S
    while pending:
        arrived = False
        for reply in grid.pull_messages(list(pending)):
            request = pending.pop(reply.metadata.reply_to_message_id, None)
            if request is None:
                continue
            arrived, poll_s = True, _SHORTEST_POLL_S
            took_s = reply.metadata.created_at - request.metadata.created_at
            yield request, None if took_s > timeout_s else reply
            del reply  # it may be large, and the next one is about to be made
        if pending and not arrived:
            if enough() or time.monotonic() > deadline:
                break
            if mailbox is not None:
                mailbox.wait(pending, poll_s)
            else:
                time.sleep(poll_s)
            # a pull may be a remote call: wait longer the longer nothing comes
            poll_s = min(2 * poll_s, _LONGEST_POLL_S)
    if mailbox is not None:
        mailbox.withdraw(list(pending))
    for request in pending.values():
        yield request, None
