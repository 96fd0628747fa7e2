"""The server's memory of each hospital: its connection, and what is asked of it.

A ``Link`` belongs to a name of the roster. It outlives connections: a request that was sent over
one is answered over the next. A hospital that was silent for ``server.lease_s`` is away: what it
was asked is answered with an error that says so, and the round goes on without it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from flwr.app import Message

from wardround.common.errors import TransportError
from wardround.common.hosting import error_reply, message_with, timestamp
from wardround.common.messages import one_line
from wardround.common.wire.content import Body, decode_content
from wardround.common.wire.frames import Frame, Heads, Start
from wardround.common.wire.mailbox import Incoming, Mailbox
from wardround.server.transport.events import ServerEvents


def node_id_of(name: str) -> int:
    """A hospital's Flower node id: the same in every run and whoever else takes part."""
    return int.from_bytes(hashlib.sha256(f"hospital {name}".encode()).digest()[:8], "big") >> 1


@dataclass
class Asked:
    """A request and, once it has come, the reply: a body that isn't read yet, or an error."""

    request: Message
    start: Start
    body: Body
    file: IO[bytes] | None = None
    size_bytes: int = 0
    error: str | None = None
    arrived_at: float = 0.0

    @property
    def answered(self) -> bool:
        """Whether the reply is here."""
        return self.file is not None or self.error is not None

    def reply(self) -> Message:
        """The reply, decoded; what can't be decoded is an error of the hospital's."""
        reply = error_reply(self.request, one_line(self.error)) if self.error is not None else None
        if reply is None:
            assert self.file is not None
            try:
                with self.file:
                    content = decode_content(self.file, self.size_bytes)
                reply = message_with(content, self.request)
            except TransportError as error:
                reply = error_reply(self.request, one_line(str(error)))
        reply.metadata.created_at = self.arrived_at
        return reply


class Link:
    """One hospital.

    Parameters
    ----------
    changed : the condition that guards all links of a server, notified when a reply is here
    """

    def __init__(
        self,
        name: str,
        most_bytes: int,
        folder: Path,
        changed: threading.Condition,
        events: ServerEvents,
    ) -> None:
        self.name, self.node_id = name, node_id_of(name)
        self.mailbox = Mailbox(self, most_bytes, folder)
        self.instance = ""
        self.address = ""
        self.admitted = False
        self.refusal = ""
        self.asked: dict[str, Asked] = {}
        self._changed, self._events = changed, events

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self.mailbox.is_open

    def silent_s(self) -> float:
        """Seconds since it was last heard of."""
        return time.monotonic() - self.mailbox.heard

    # --- asking ------------------------------------------------------------------------------
    def ask(self, asked: Asked) -> None:
        """Send a request; the same one again is sent again, in case its answer was lost."""
        with self._changed:
            self.asked[asked.start.id] = asked
        self.mailbox.put(asked.start, asked.body)

    def take(self, message_id: str) -> Asked | None:
        """An answered request, which is then forgotten."""
        with self._changed:
            asked = self.asked.get(message_id)
            if asked is None or not asked.answered:
                return None
            return self.asked.pop(message_id)

    def forget(self, message_id: str) -> None:
        """A request is no longer of interest."""
        with self._changed:
            asked = self.asked.pop(message_id, None)
        if asked is not None:
            if asked.file is not None:
                asked.file.close()
            self.mailbox.take_back(message_id)

    def fail_all(self, reason: str) -> None:
        """Answer whatever is still open with an error."""
        with self._changed:
            for message_id, asked in self.asked.items():
                if not asked.answered:
                    asked.error, asked.arrived_at = reason, timestamp()
                    self.mailbox.take_back(message_id)
            self._changed.notify_all()

    # --- events of the mailbox ---------------------------------------------------------------
    def wanted(self, start: Start) -> str | None:
        if start.kind == "request":
            return "a hospital answers, it doesn't ask"
        with self._changed:
            asked = self.asked.get(start.reply_to)
            if asked is None or asked.answered:
                return ""  # a second answer, or one that nobody waits for any more
            if asked.start.type != start.type:
                return "the answer is of another type than the question"
        return None

    def arrived(self, message: Incoming) -> None:
        start = message.start
        self._events.received(self.name, start)
        with self._changed:
            asked = self.asked.get(start.reply_to)
            if asked is None or asked.answered:
                message.file.close()
                return
            if start.kind == "error":
                message.file.close()
                asked.error = start.reason
            else:
                asked.file, asked.size_bytes = message.file, start.size_bytes
            asked.arrived_at = timestamp()
            self._changed.notify_all()

    def gone(self, start: Start) -> None:
        self._events.sent(self.name, start)

    def failed(self, start: Start, reason: str) -> None:
        with self._changed:
            asked = self.asked.get(start.id)
            if asked is not None and not asked.answered:
                asked.error, asked.arrived_at = f"it refused the request: {reason}", timestamp()
                self._changed.notify_all()

    def control(self, frame: Frame) -> None:
        if isinstance(frame, Heads):
            self._events.heads(self.name, frame, self.mailbox)
