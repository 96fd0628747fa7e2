"""Messages to and from one peer, over however many connections it takes.

A mailbox outlives its connections. Messages that wait in it are announced again on every new one, a
large message goes on where the last connection broke, and a message that came twice takes effect
once. It knows nothing of gRPC: it gives out frames and is given frames.

Who sends a message forgets it when the other side has it as a whole, digest checked. Bodies that
arrive lie in a spool: in memory while they are small, then in an unnamed file.

Only the newest connection counts. Frames are used one after the other, also while that changes.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from wardround.common.errors import TransportError
from wardround.common.transport.frames import (
    CHUNK_BYTES,
    Chunk,
    Done,
    Drop,
    Failed,
    Frame,
    Got,
    Have,
    Ping,
    Start,
)
from wardround.common.transport.inbox import Inbox
from wardround.common.transport.items import Events, Incoming, Outgoing, Readable

__all__ = ["Events", "Incoming", "Mailbox", "Outgoing", "Readable"]

_AT_ONCE_BYTES = 1 << 18
"""A message of at most so many bytes isn't announced first: its body follows at once."""
_FIRST_CHUNK_BYTES, _LEAST_CHUNK_BYTES = 1 << 16, 1 << 13
_FAST_S, _SLOW_S = 0.2, 1.0
"""A chunk that took longer than _SLOW_S to come: the next is half as large, so that also on a slow
link something arrives within every heartbeat. One that took less than _FAST_S: twice."""
_CHUNKS_ON_WAY, _CHUNKS_FAR = 2, 8
"""Of a message; buffers on the way take much more, and then nobody knows how slow the link is. More
only where the way is long: they take memory at both ends."""
_FAR_S = 0.05
"""No chunk of this connection came faster than this."""
_MOST_ATTEMPTS = 3


class Mailbox:
    """The messages to and from one peer.

    Parameters
    ----------
    events : is told what happens
    most_bytes : a larger message is refused, naming ``server.max_message_mb``, and so is one that
        with all others that are coming makes more
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
        self.inbox = Inbox(most_bytes, folder, clock)
        self._events, self._clock = events, clock
        self._changed = threading.Condition()
        self._receiving = threading.RLock()
        """Held while a frame is used; taken before ``_changed``, never after."""
        self._outgoing: dict[str, Outgoing] = {}
        self._control: deque[Frame] = deque()
        self._numbers: dict[int, str] = {}
        self._epoch, self._next_number = 0, 0
        self._chunk_bytes, self._last_got = _FIRST_CHUNK_BYTES, 0.0
        self._fastest_s = math.inf
        self._open = self._stopped = False
        self._last: Frame | None = None
        self.heard = clock()
        """When the peer was last heard of."""

    # --- connections ---------------------------------------------------------------------------
    def open(self) -> int:
        """A new connection begins; frames of an older one end. Gives the number to name it by."""
        with self._receiving, self._changed:
            self._epoch, self._open, self._last = self._epoch + 1, not self._stopped, None
            self._control.clear()
            self._numbers.clear()
            self.inbox.connect()
            self._next_number, self._chunk_bytes = 0, _FIRST_CHUNK_BYTES
            self._last_got, self._fastest_s = 0.0, math.inf
            for message in self._outgoing.values():
                message.announced = message.ready = False
            self.heard = self._clock()
            self._changed.notify_all()
            return self._epoch

    def close(self, epoch: int, last: Frame | None = None) -> bool:
        """The connection is over; False if it was already, or a newer one has taken its place.

        last : a frame that is still sent, if the peer takes it
        """
        with self._changed:
            if epoch != self._epoch or not self._open:
                return False
            self._open, self._last = False, last
            self._changed.notify_all()
            return True

    @property
    def epoch(self) -> int:
        """The number of the newest connection."""
        return self._epoch

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._open

    def stop(self, last: Frame | None = None) -> None:
        """From now on nothing leaves, whatever is waiting, but ``last``, if the peer takes it."""
        with self._changed:
            self._stopped, self._open, self._last = True, False, last if self._open else None
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
        """Send a frame on this connection, before anything else; without one it is dropped."""
        with self._changed:
            if self._open:
                self._control.append(frame)
                self._changed.notify_all()

    def take_back(self, message_id: str) -> None:
        """Don't send a message (any further); one that has arrived needn't be answered."""
        self._take(message_id)
        self.put_control(Drop(id=message_id))

    def _take(self, message_id: str) -> Outgoing | None:
        with self._changed:
            message = self._outgoing.pop(message_id, None)
            if message is not None:
                self._numbers.pop(message.start.number, None)
            return message

    def waiting(self) -> list[Start]:
        """What isn't known to have arrived."""
        with self._changed:
            return [message.start for message in self._outgoing.values()]

    def take_back_all(self) -> None:
        """Don't send anything that waits."""
        with self._changed:
            self._outgoing.clear()

    def frames(self, epoch: int, heartbeat_s: float) -> Iterator[bytes]:
        """What is to be sent on a connection, as it comes up; ends with the connection."""
        while (work := self._wait_for_work(epoch, heartbeat_s)) is not None:
            if isinstance(work, Frame):
                yield work.to_bytes()
            elif chunk := self._chunk(work, epoch):
                yield chunk
        if self._epoch == epoch and self._last is not None:
            yield self._last.to_bytes()

    def _wait_for_work(self, epoch: int, heartbeat_s: float) -> Frame | Outgoing | None:
        """The next thing to send, a Ping when nothing came up; None when the connection is over."""
        beat = self._clock() + heartbeat_s
        with self._changed:
            while epoch == self._epoch and self._open:
                work = self._next_work()
                if work is not None:
                    return work
                if self._clock() >= beat:
                    return Ping()
                self._changed.wait(max(0.001, beat - self._clock()))
        return None

    def _next_work(self) -> Frame | Outgoing | None:
        """With the lock held: a frame, or a message whose next chunk is due."""
        if self._control:
            return self._control.popleft()
        for message in self._outgoing.values():
            if not message.announced:
                return self._announce(message)
            if message.ready and message.offset < message.start.size_bytes:
                on_way = message.offset - message.got
                if _is_small(message.start) or on_way < self._window() * self._chunk_bytes:
                    return message
        return None

    def _announce(self, message: Outgoing) -> Start:
        self._numbers.pop(message.start.number, None)
        self._next_number += 1
        message.start = message.start.model_copy(update={"number": self._next_number})
        message.go_on(0)
        message.announced, message.ready = True, _is_small(message.start)
        self._numbers[self._next_number] = message.start.id
        return message.start

    def _chunk(self, message: Outgoing, epoch: int) -> bytes:
        """The next chunk; empty if the message was announced anew meanwhile, or can't be read."""
        assert message.body is not None
        offset, number = message.offset, message.start.number
        try:
            data = message.body.read(offset, self._chunk_bytes)
            if not data:
                raise TransportError(f"message {message.start.id[:12]} ended before its size")
        except (OSError, TransportError) as error:
            self.take_back(message.start.id)
            reason = getattr(error, "strerror", None) or str(error)
            self._events.failed(message.start, f"it can't be read ({reason})")
            return b""
        with self._changed:
            if epoch != self._epoch or not self._open or number != message.start.number:
                return b""
            if message.offset == offset:  # else it was asked for from elsewhere meanwhile
                message.offset += len(data)
                message.times.append((message.offset, self._clock()))
        return Chunk(number, offset, data).to_bytes()

    def _window(self) -> int:
        """How many chunks may be on their way."""
        return _CHUNKS_FAR if _FAR_S < self._fastest_s < math.inf else _CHUNKS_ON_WAY

    def _adapt(self, sent_at: float) -> None:
        """The size of chunks, to how long the last one took to come once it was its turn."""
        now = self._clock()
        took_s, self._last_got = now - max(sent_at, self._last_got), now
        self._fastest_s = min(self._fastest_s, now - sent_at)
        if took_s > _SLOW_S:
            self._chunk_bytes = max(_LEAST_CHUNK_BYTES, self._chunk_bytes // 2)
        elif took_s < _FAST_S:
            self._chunk_bytes = min(CHUNK_BYTES, self._chunk_bytes * 2)

    # --- receiving -----------------------------------------------------------------------------
    def receive(self, epoch: int, frame: Frame | Chunk) -> None:
        """Use one frame. Raises TransportError if the peer breaks the protocol."""
        with self._receiving:
            if epoch != self._epoch or self._stopped:
                return
            self.heard = self._clock()
            if isinstance(frame, Chunk):
                self._add_chunk(frame)
            elif isinstance(frame, Start):
                self._begin(frame)
            elif isinstance(frame, Have):
                self._go_on(frame)
            elif isinstance(frame, Got):
                self._note(frame)
            elif isinstance(frame, Done):
                self._done(frame)
            elif isinstance(frame, Failed):
                self._give_up(frame)
            elif not isinstance(frame, Ping):
                if isinstance(frame, Drop):
                    self.inbox.forget(frame.id)
                self._events.control(frame)

    def _begin(self, start: Start) -> None:
        if reason := self.inbox.why_not(start):
            return self._refuse(start, reason)
        reason_not = self._events.wanted(start)
        if reason_not is not None:
            self.inbox.forget(start.id)
            answer = Failed(id=start.id, reason=reason_not) if reason_not else Done(id=start.id)
            return self.put_control(answer)
        message = self.inbox.begin(start)
        if start.size_bytes == 0:
            return self._finish(message)
        if not _is_small(start) or message.received:
            self.put_control(Have(number=start.number, offset=message.received))

    def _add_chunk(self, chunk: Chunk) -> None:
        found = self.inbox.piece(chunk)
        if found is None:
            return
        message, data = found
        try:
            message.add(data)
            if message.received == message.start.size_bytes:
                self._finish(message)
            elif data and not _is_small(message.start):
                self.put_control(Got(number=chunk.number, offset=message.received))
        except TransportError as error:
            self._refuse(message.start, str(error))
        except OSError as error:  # the spool's disk is full
            self._refuse(message.start, f"it can't be kept ({error.strerror})")

    def _finish(self, message: Incoming) -> None:
        start = message.start
        if start.size_bytes and message.digest.hexdigest() != start.digest:
            self.inbox.forget(start.id)
            reason = "its bytes are not those of its digest"
            return self.put_control(Failed(id=start.id, reason=reason, again=True))
        message.file.seek(0)
        self.inbox.take(message)
        self._events.arrived(message)
        self.put_control(Done(id=start.id))

    def _refuse(self, start: Start, reason: str) -> None:
        self.inbox.forget(start.id)
        self.put_control(Failed(id=start.id, reason=reason))

    def forget_partial(self) -> None:
        """Drop what came only in part: nobody will send the rest."""
        with self._receiving:
            self.inbox.forget_all()

    def sweep(self) -> None:
        """Drop what came in part and isn't wanted any more; its sender may forget it, too."""
        with self._receiving:
            for start in [one.start for one in self.inbox.begun.values()]:
                if self._events.wanted(start) is not None:
                    self.inbox.forget(start.id)
                    self.put_control(Done(id=start.id))

    def expire(self, age_s: float) -> None:
        """Drop messages of which nothing came for so long; they are to begin again."""
        with self._receiving:
            for start in self.inbox.stale(age_s):
                self.inbox.forget(start.id)
                reason = f"nothing of it came for {age_s:g} s"
                self.put_control(Failed(id=start.id, reason=reason, again=True))

    # --- what the other side says of our messages ----------------------------------------------
    def _done(self, frame: Done) -> None:
        message = self._take(frame.id)
        if message is not None:
            self._events.gone(message.start)

    def _go_on(self, frame: Have) -> None:
        with self._changed:
            message = self._outgoing.get(self._numbers.get(frame.number, ""))
            if message is None:
                return
            if frame.offset >= message.start.size_bytes:
                raise TransportError("the peer has more of a message than there is")
            message.go_on(frame.offset)
            message.ready = True
            self._changed.notify_all()

    def _note(self, frame: Got) -> None:
        with self._changed:
            message = self._outgoing.get(self._numbers.get(frame.number, ""))
            if message is None:
                return
            while message.times and message.times[0][0] <= frame.offset:
                message.got, sent_at = message.times.popleft()
                self._adapt(sent_at)
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
            self._take(frame.id)
        self._events.failed(message.start, frame.reason)


def _is_small(start: Start) -> bool:
    """Whether the body follows at once, without being asked for."""
    return 0 < start.size_bytes <= _AT_ONCE_BYTES
