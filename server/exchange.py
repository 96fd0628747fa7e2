"""One exchange: send a request to each member of a cohort, yield the replies as they arrive.

The host decides what runs where; this loop only needs ``push_messages`` and ``pull_messages`` of a
Flower ``Grid``. Replies that never come are yielded as None when the time is over; a second reply
to one request, or one to none, is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from flwr.app import Message
from flwr.serverapp import Grid

_POLL_S = 0.02


def exchange(
    grid: Grid, requests: Sequence[Message], timeout_s: float
) -> Iterator[tuple[Message, Message | None]]:
    """Yield (request, reply) once per request; the reply is None for a client that was too late.

    A reply counts as late if its ``created_at`` lies more than ``timeout_s`` after its request's;
    hosts stamp both, so a client's clock plays no part.
    """
    pending = dict(zip(grid.push_messages(requests), requests, strict=True))
    deadline = time.monotonic() + timeout_s
    while pending:
        arrived = False
        for reply in grid.pull_messages(list(pending)):
            request = pending.pop(reply.metadata.reply_to_message_id, None)
            if request is None:
                continue
            arrived = True
            took_s = reply.metadata.created_at - request.metadata.created_at
            yield request, None if took_s > timeout_s else reply
        if pending and not arrived:
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
    for request in pending.values():
        yield request, None
