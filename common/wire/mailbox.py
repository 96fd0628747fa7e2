"""Messages to and from one peer, over however many connections it takes.

A mailbox outlives its connections. Messages that wait in it are announced again on every new one, a
large message goes on where the last connection broke, and a message that came twice takes effect
once. It knows nothing of gRPC: it gives out frames and is given frames.

Who sends a message forgets it when the other side has it as a whole, digest checked. Bodies that
arrive lie in a spool: in memory while they are small, then in an unnamed file.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from wardround.common.errors import TransportError
from wardround.common.wire.content import BodyDigest
from wardround.common.wire.frames import (
    CHUNK_BYTES,
    Chunk,
    Done,
    Drop,
    Failed,
    Frame,
    Have,
    Ping,
    Start,
)

_SPOOL_ABOVE_BYTES = 4 << 20
_AT_ONCE_BYTES = 1 << 18
"""A message of at most so many bytes isn't announced first: its body follows at once."""
_MOST_ATTEMPTS = 3
_MOST_OPEN = 64
"""Messages that a peer may have begun and not finished."""


class Readable(Protocol):
    """A body that can be read in pieces."""

    size_bytes: int

    def read(self, offset: int, count: int) -> bytes:
        """At most ``count`` bytes from ``offset``."""


@dataclass
class Outgoing:
    """A message to be sent. ``start.number`` is the mailbox's to give."""

    start: Start
    body: Readable | None = None
    offset: int = 0
    announced: bool = False
    ready: bool = False
    attempts: int = 1


@dataclass
class Incoming:
    """A message that came, or is coming; ``file`` is at its beginning once it is whole."""

    start: Start
    file: IO[bytes]
    received: int = 0
    digest: BodyDigest = field(default_factory=BodyDigest)


class Events(Protocol):
    """What a mailbox tells its owner; called without its lock, in the reading thread."""

    def wanted(self, start: Start) -> str | None:
        """Whether an announced message is to come: None, or why it isn't ("": it came before)."""

    def arrived(self, message: Incoming) -> None:
        """A message is whole. When this returns, its sender may forget it."""

    def gone(self, start: Start) -> None:
        """A message of ours has arrived at the other side."""

    def failed(self, start: Start, reason: str) -> None:
        """A message of ours was refused by the other side, or couldn't be brought over."""

    def control(self, frame: Frame) -> None:
        """Any other frame."""


class Mailbox:
    """The messages to and from one peer.

    Parameters
    ----------
    events : is told what happens
    most_bytes : a larger message is refused, naming ``server.max_message_mb``
    folder : for spools
    clock : monotonic seconds
    """

    def __init__(
        self,
        events: Events,
        most_bytes: int,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._events, self.most_bytes, self._folder, self._clock = events, most_bytes, folder, clock
        self._changed = threading.Condition()
        self._outgoing: dict[str, Outgoing] = {}
        self._numbers: dict[int, str] = {}
        self._incoming: dict[str, Incoming] = {}
        self._coming: dict[int, str] = {}
        self._control: deque[Frame] = deque()
        self._epoch, self._open, self._next_number = 0, False, 0
        self._stopped = False
        self.heard = clock()
        """When the peer was last heard of."""

    # --- connections ---------------------------------------------------------------------------
    def open(self) -> int:
        """A new connection begins; frames of an older one end. Gives the number to name it by."""
        with self._changed:
            self._epoch, self._open = self._epoch + 1, True
            self._control.clear()
            self._numbers.clear()
            self._coming.clear()
            self._next_number = 0
            for message in self._outgoing.values():
                message.announced = message.ready = False
            self.heard = self._clock()
            self._changed.notify_all()
            return self._epoch

    def close(self, epoch: int) -> bool:
        """The connection is over; False if a newer one has taken its place."""
        with self._changed:
            if epoch != self._epoch or not self._open:
                return False
            self._open = False
            self._changed.notify_all()
            return True

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._open

    def stop(self) -> None:
        """From now on nothing leaves, whatever is waiting."""
        with self._changed:
            self._stopped, self._open = True, False
            self._outgoing.clear()
            self._control.clear()
            self._changed.notify_all()

    # --- sending -------------------------------------------------------------------------------
    def put(self, start: Start, body: Readable | None = None) -> None:
        """Send a message, now or on a later connection; one that is being sent isn't sent twice."""
        with self._changed:
            if not self._stopped and start.id not in self._outgoing:
                self._outgoing[start.id] = Outgoing(start, body)
                self._changed.notify_all()

    def put_control(self, frame: Frame) -> None:
        """Send a frame on this connection, before anything else."""
        with self._changed:
            if not self._stopped:
                self._control.append(frame)
                self._changed.notify_all()

    def take_back(self, message_id: str) -> None:
        """Don't send a message (any further)."""
        with self._changed:
            if self._outgoing.pop(message_id, None) is not None:
                self._control.append(Drop(id=message_id))
                self._changed.notify_all()

    def take_back_all(self) -> None:
        """Don't send anything that waits."""
        with self._changed:
            self._outgoing.clear()

    def frames(self, epoch: int, heartbeat_s: float) -> Iterator[bytes]:
        """What is to be sent on a connection, as it comes up; ends with the connection."""
        beat = self._clock() + heartbeat_s
        while True:
            with self._changed:
                while True:
                    if epoch != self._epoch or not self._open:
                        return
                    work: Frame | Outgoing | None = self._next_work()
                    if work is not None:
                        break
                    if self._clock() >= beat:
                        work = Ping()
                        break
                    self._changed.wait(max(0.001, beat - self._clock()))
            beat = self._clock() + heartbeat_s
            yield work.to_bytes() if isinstance(work, Frame) else self._chunk(work)

    def _next_work(self) -> Frame | Outgoing | None:
        """With the lock held: a frame, or a message whose next chunk is due."""
        if self._control:
            return self._control.popleft()
        for message in self._outgoing.values():
            if not message.announced:
                return self._announce(message)
            if message.ready and message.offset < message.start.size_bytes:
                return message
        return None

    def _announce(self, message: Outgoing) -> Start:
        self._next_number += 1
        message.start = message.start.model_copy(update={"number": self._next_number})
        message.announced, message.offset = True, 0
        message.ready = 0 < message.start.size_bytes <= _AT_ONCE_BYTES
        self._numbers[self._next_number] = message.start.id
        return message.start

    def _chunk(self, message: Outgoing) -> bytes:
        assert message.body is not None
        offset = message.offset
        data = message.body.read(offset, CHUNK_BYTES)
        if not data:
            raise TransportError(f"message {message.start.id[:12]} ended before its size")
        with self._changed:
            if message.offset == offset:  # else it was asked for from elsewhere meanwhile
                message.offset += len(data)
        return Chunk(message.start.number, offset, data).to_bytes()

    # --- receiving -----------------------------------------------------------------------------
    def receive(self, epoch: int, frame: Frame | Chunk) -> None:
        """Use one frame. Raises TransportError if the peer breaks the protocol."""
        if epoch != self._epoch:
            return
        self.heard = self._clock()
        if isinstance(frame, Chunk):
            self._add_chunk(frame)
        elif isinstance(frame, Start):
            self._begin(frame)
        elif isinstance(frame, Have):
            self._go_on(frame)
        elif isinstance(frame, Done):
            with self._changed:
                message = self._outgoing.pop(frame.id, None)
            if message is not None:
                self._events.gone(message.start)
        elif isinstance(frame, Failed):
            self._give_up(frame)
        elif not isinstance(frame, Ping):
            self._events.control(frame)

    def _begin(self, start: Start) -> None:
        if start.size_bytes > self.most_bytes:
            reason = (
                f"a message of {start.size_bytes} bytes; server.max_message_mb allows "
                f"{self.most_bytes >> 20}"
            )
            return self.put_control(Failed(id=start.id, reason=reason))
        reason_not = self._events.wanted(start)
        if reason_not is not None:
            answer = Failed(id=start.id, reason=reason_not) if reason_not else Done(id=start.id)
            return self.put_control(answer)
        message = self._incoming.get(start.id)
        if message is None or message.start.digest != start.digest:
            if len(self._incoming) >= _MOST_OPEN:
                raise TransportError(f"more than {_MOST_OPEN} messages were begun, none finished")
            file = tempfile.SpooledTemporaryFile(_SPOOL_ABOVE_BYTES, dir=str(self._folder))
            message = self._incoming[start.id] = Incoming(start, file)
        message.start = start
        self._coming[start.number] = start.id
        if start.size_bytes == 0:
            return self._finish(message)
        if start.size_bytes > _AT_ONCE_BYTES or message.received:
            self.put_control(Have(number=start.number, offset=message.received))

    def _add_chunk(self, chunk: Chunk) -> None:
        message = self._incoming.get(self._coming.get(chunk.number, ""))
        if message is None:
            return  # of a message that was refused or had come before
        if chunk.offset != message.received:
            return  # a repetition: what goes on from here was asked for
        if message.received + len(chunk.data) > message.start.size_bytes:
            raise TransportError("a message is longer than it was announced")
        try:
            message.digest.update(chunk.data)
            message.file.write(chunk.data)
            message.received += len(chunk.data)
            if message.received == message.start.size_bytes:
                self._finish(message)
        except TransportError as error:
            self._refuse(message, str(error), again=False)
        except OSError as error:  # the spool's disk is full
            self._refuse(message, f"it can't be kept ({error.strerror})", again=False)

    def _finish(self, message: Incoming) -> None:
        start = message.start
        if start.size_bytes and message.digest.hexdigest() != start.digest:
            return self._refuse(message, "its bytes are not those of its digest", again=True)
        del self._incoming[start.id]
        del self._coming[start.number]
        message.file.seek(0)
        self._events.arrived(message)
        self.put_control(Done(id=start.id))

    def _refuse(self, message: Incoming, reason: str, again: bool) -> None:
        message.file.close()
        self._incoming.pop(message.start.id, None)
        self._coming.pop(message.start.number, None)
        self.put_control(Failed(id=message.start.id, reason=reason, again=again))

    def _go_on(self, frame: Have) -> None:
        with self._changed:
            message = self._outgoing.get(self._numbers.get(frame.number, ""))
            if message is None:
                return
            if frame.offset >= message.start.size_bytes:
                raise TransportError("the peer has more of a message than there is")
            message.offset, message.ready = frame.offset, True
            self._changed.notify_all()

    def _give_up(self, frame: Failed) -> None:
        with self._changed:
            message = self._outgoing.get(frame.id)
            if message is None:
                return
            if frame.again and message.attempts < _MOST_ATTEMPTS:
                message.attempts += 1
                message.announced = message.ready = False
                self._changed.notify_all()
                return
            del self._outgoing[frame.id]
        self._events.failed(message.start, frame.reason)

    def forget_partial(self) -> None:
        """Drop what came only in part: nobody will send the rest."""
        for message in list(self._incoming.values()):
            message.file.close()
        self._incoming.clear()
        self._coming.clear()
