"""What is coming from a peer: messages that were begun and aren't whole.

Whatever a peer announces, what lies here is bounded: at most ``_MOST_OPEN`` messages, and of those
that go to the disk at most ``most_bytes`` together. A message that doesn't come on is dropped
(``stale``), and its sender is told to begin it again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from wardround.common.errors import TransportError
from wardround.common.transport.frames import Chunk, Start
from wardround.common.transport.items import Incoming

_MOST_OPEN = 16
"""Messages that a peer may have begun and not finished."""
SPOOL_ABOVE_BYTES = 1 << 18
"""A smaller message is in memory while it comes."""


class Inbox:
    """The messages of one peer that are coming, over all its connections.

    Parameters
    ----------
    most_bytes : of a message, and of all that are coming and lie on the disk, together
    folder : for spools
    clock : monotonic seconds

    Attributes
    ----------
    begun : by message id
    """

    def __init__(self, most_bytes: int, folder: Path, clock: Callable[[], float]) -> None:
        self.most_bytes, self.folder, self._clock = most_bytes, folder, clock
        self.begun: dict[str, Incoming] = {}
        self._numbers: dict[int, str] = {}

    def connect(self) -> None:
        """A new connection: its sender numbers messages anew."""
        self._numbers.clear()

    def __len__(self) -> int:
        return len(self._numbers)

    def size_bytes(self, but: str = "") -> int:
        """What is coming to the disk, as announced, without message ``but``."""
        sizes = [x.start.size_bytes for key, x in list(self.begun.items()) if key != but]
        return sum(size for size in sizes if size > SPOOL_ABOVE_BYTES)

    def why_not(self, start: Start) -> str:
        """Why a message can't come; '' if it can."""
        size, most = start.size_bytes, self.most_bytes >> 20
        if size > self.most_bytes:
            return f"a message of {size} bytes; server.max_message_mb = {most} allows less"
        together = size + self.size_bytes(start.id)
        if size > SPOOL_ABOVE_BYTES and together > self.most_bytes:
            return (
                f"messages of {together} bytes at once; server.max_message_mb = {most} allows less"
            )
        return ""

    def begin(self, start: Start) -> Incoming:
        """A message to come, from its beginning or from where the last connection broke.

        Raises TransportError if the peer has begun too many.
        """
        message = self.begun.get(start.id)
        if message is None or not message.continues(start):
            self.forget(start.id)
            if len(self.begun) >= _MOST_OPEN:
                raise TransportError(f"over {_MOST_OPEN} messages were begun and not finished")
            file = tempfile.SpooledTemporaryFile(SPOOL_ABOVE_BYTES, dir=str(self.folder))
            message = self.begun[start.id] = Incoming(start, file)
        self._numbers.pop(message.start.number, None)
        message.start, message.touched = start, self._clock()
        self._numbers[start.number] = start.id
        return message

    def piece(self, chunk: Chunk) -> tuple[Incoming, bytes] | None:
        """Its message, and what of it is new; None for one of a message that isn't to come.

        Raises TransportError if the peer breaks the protocol.
        """
        message = self.begun.get(self._numbers.get(chunk.number, ""))
        if message is None:
            return None  # of a message that was refused or had come before
        if chunk.offset > message.received:
            raise TransportError("a piece of a message is missing")
        # a small body comes from its beginning until Have is read: what is here already is skipped
        data = chunk.data[message.received - chunk.offset :]
        if message.received + len(data) > message.start.size_bytes:
            raise TransportError("a message is longer than it was announced")
        message.touched = self._clock()
        return message, data

    def take(self, message: Incoming) -> None:
        """A message is whole: it is its owner's now."""
        del self.begun[message.start.id]
        self._numbers.pop(message.start.number, None)

    def forget(self, message_id: str) -> None:
        """Drop what came of a message."""
        message = self.begun.pop(message_id, None)
        if message is not None:
            self._numbers.pop(message.start.number, None)
            message.file.close()

    def forget_all(self) -> None:
        """Drop what came only in part."""
        for message_id in list(self.begun):
            self.forget(message_id)

    def stale(self, age_s: float) -> list[Start]:
        """Messages of which nothing came for so long."""
        before = self._clock() - age_s
        return [one.start for one in self.begun.values() if one.touched < before]
