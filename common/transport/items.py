"""What a mailbox holds, and what it tells its owner (``common/transport/mailbox.py``).

A message's way, and what is left of it where it is cut short:

    put -> Start -> [Have] -> Chunk ... -> arrived -> Done -> gone
                                                   -> Failed -> failed

* The connection breaks: until it has Done or Failed the sender keeps the message and begins again
  with Start on the next connection; the receiver keeps what came, and Have says from where.
* Done is lost: Start comes once more, ``wanted`` answers "", and Done is said again.
* One of the two processes ends: what its mailbox held is lost. The server asks the next process of
  a hospital again (``server/transport/links.py``); a hospital finds the answer that it had given
  (``client/process/answers.py``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import IO, Protocol

from wardround.common.flower.content import BodyDigest
from wardround.common.transport.frames import Frame, Start


class Readable(Protocol):
    """A body that can be read in pieces."""

    size_bytes: int

    def read(self, offset: int, count: int) -> bytes:
        """At most ``count`` bytes from ``offset``."""


@dataclass
class Outgoing:
    """A message to be sent. ``start.number`` is the mailbox's to give.

    announced : on the present connection
    ready : its body may be sent: a small one's at once, a large one's after Have
    attempts : how often it was sent whole, as far as the receiver found it damaged
    offset, got : up to where it was sent, and up to where it has come, in bytes
    times : ends of the chunks on their way, and when they were sent
    """

    start: Start
    body: Readable | None = None
    offset: int = 0
    announced: bool = False
    ready: bool = False
    attempts: int = 1
    got: int = 0
    times: deque[tuple[int, float]] = field(default_factory=deque)

    def go_on(self, offset: int) -> None:
        """Send from ``offset``; what is on its way doesn't count."""
        self.offset = self.got = offset
        self.times.clear()


@dataclass
class Incoming:
    """A message that came, or is coming; ``file`` is at its beginning once it is whole, and whoever
    is told that it arrived closes it.

    digest : of what came so far, so that a large message isn't read a second time
    touched : when something of it came last; monotonic seconds
    """

    start: Start
    file: IO[bytes]
    received: int = 0
    digest: BodyDigest = field(default_factory=BodyDigest)
    touched: float = 0.0

    def add(self, data: bytes) -> None:
        """Write what came. Raises TransportError, or OSError."""
        self.digest.update(data)
        self.file.write(data)
        self.received += len(data)

    def continues(self, start: Start) -> bool:
        """Whether ``start`` announces this very message again: all but its number, which is of a
        connection, is the same. Otherwise what came is dropped and it begins anew."""
        return self.start == start.model_copy(update={"number": self.start.number})


class Events(Protocol):
    """What a mailbox tells its owner; called without its lock, one frame at a time."""

    def wanted(self, start: Start) -> str | None:
        """Whether an announced message is to come: None, or why it isn't, which its sender gets as
        Failed. "": it came before, or nobody needs it; its sender gets Done and forgets it."""

    def arrived(self, message: Incoming) -> None:
        """A message is whole. When this returns, its sender may forget it."""

    def gone(self, start: Start) -> None:
        """A message of ours has arrived at the other side."""

    def failed(self, start: Start, reason: str) -> None:
        """A message of ours was refused by the other side, or couldn't be brought over."""

    def control(self, frame: Frame) -> None:
        """Any other frame."""
