"""What one study asks of each hospital, and whether that takes part.

A ``Link`` is a hospital in one study, over the ``Line`` that all studies share. It outlives
connections: a request that was sent over one is answered over the next. It also outlives the
hospital's process: what one process was asked and hasn't answered, the next one is asked again,
once its policy has allowed the run. A hospital that was silent for ``server.lease_s`` is away: what
it was asked is answered with an error that says so, and the round goes on without it.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from flwr.app import Message

from wardround.common.errors import TransportError
from wardround.common.flower.content import Body, decode_content
from wardround.common.flower.hosting import error_reply, message_with, timestamp
from wardround.common.protocol.errors import Code, code_of
from wardround.common.protocol.names import MANIFEST
from wardround.common.text import one_line
from wardround.common.transport.frames import Start
from wardround.common.transport.mailbox import Incoming
from wardround.server.transport.events import ServerEvents
from wardround.server.transport.line import Line

_OVER = (Code.REJECTED, Code.EDITED, Code.EXPIRED, Code.OVER)
"""What says that nothing of the run is answered until the hospital accepts its plan again."""


def node_id_of(name: str) -> int:
    """A hospital's Flower node id: the same in every run and whoever else takes part. 63 bits, so
    no sign is lost where it is stored as a signed number."""
    return int.from_bytes(hashlib.sha256(f"hospital {name}".encode()).digest()[:8], "big") >> 1


@dataclass
class Asked:
    """A request and, once it has come, the reply: a body that isn't read yet, or an error.

    Large arrays of a reply stay in its spool, and are read when they are looked at.

    serial : tells two askings of one request apart: they have one id, so the first asking's reply
        would otherwise answer the second, which may be of another attempt
    sent : whether the hospital's present process is being asked
    code : of an error, as ``common/protocol/errors.py`` has it
    size_bytes : of the reply's body
    arrived_at : Unix time, s
    """

    request: Message
    start: Start
    body: Body
    serial: str = ""
    sent: bool = False
    file: IO[bytes] | None = None
    size_bytes: int = 0
    error: str | None = None
    code: int = Code.FAILED
    arrived_at: float = 0.0

    @property
    def answered(self) -> bool:
        """Whether the reply is here."""
        return self.file is not None or self.error is not None

    def reply(self) -> Message:
        """The reply, decoded; what can't be decoded is an error of the hospital's. Only once it is
        ``answered``."""
        reply = None
        if self.error is not None:
            reply = error_reply(self.request, one_line(self.error), code_of(self.code))
        else:
            assert self.file is not None
            try:
                content = decode_content(self.file, self.size_bytes, stored=True)
                reply = message_with(content, self.request)
            except TransportError as error:
                reply = error_reply(self.request, one_line(str(error)))
        reply.metadata.created_at = self.arrived_at
        return reply


class Link:
    """One hospital in one study.

    Parameters
    ----------
    study : its id; '' in a federation that is one study
    changed : the condition that guards all links of a server, notified when a reply is here
    events : is told what is sent and received
    on_withdrawn : is told that what was accepted there is over, and the reason: a person withdraws
        from the run, its own rules were edited, or its signed description has ended
    on_again : is told that people there have decided something

    Attributes
    ----------
    refusal, refusal_code : why it doesn't take part; "" before it was asked
    departures : requests that weren't answered as it had left or doesn't take part
    """

    def __init__(
        self,
        line: Line,
        study: str,
        changed: threading.Condition,
        events: ServerEvents,
        on_withdrawn: Callable[[Link, str, Code], None] = lambda link, reason, code: None,
        on_again: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.line, self.study = line, study
        self.name, self.node_id = line.name, node_id_of(line.name)
        self.refusal = ""
        self.refusal_code = Code.FAILED
        self.departures, self._took_part = 0, False
        self._on_withdrawn, self._on_again = on_withdrawn, on_again
        self.asked: dict[str, Asked] = {}
        self._admitted = False
        self._changed, self._events = changed, events
        line.studies[study] = self

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self.line.connected

    def silent_s(self) -> float:
        """Seconds since it was last heard of."""
        return self.line.silent_s()

    @property
    def left(self) -> str:
        """The reason of its goodbye, until it connects again."""
        return self.line.left

    def stored_bytes(self) -> int:
        """Of answers that are here and not pulled yet."""
        return sum(x.size_bytes for x in list(self.asked.values()) if x.file is not None)

    @property
    def admitted(self) -> bool:
        """Whether its policy allows the run. Set to True, it sends what waited for that."""
        return self._admitted

    @admitted.setter
    def admitted(self, value: bool) -> None:
        with self._changed:
            self._admitted = value
            self._took_part |= value
            for asked in list(self.asked.values()) if value else []:
                self._send(asked)

    @property
    def withdrew(self) -> bool:
        """Whether it took part, and a person there rejects the run now."""
        return self._took_part and bool(self.refusal) and self.refusal_code is Code.REJECTED

    def stays_away(self, lease_s: float) -> bool:
        """Whether it refuses the run, or said goodbye and isn't back within a lease: it won't
        answer until people there decide otherwise."""
        left = bool(self.left) and not self.connected and self.silent_s() > lease_s
        return left or (bool(self.refusal) and not self._admitted)

    def turn_away(self, reason: str) -> None:
        """Its policy doesn't allow the run: answer what waits for that with an error."""
        with self._changed:
            self._admitted = False
        why = reason if self.withdrew else f"its policy doesn't allow the run: {reason}"
        code = self.refusal_code if self.withdrew else Code.FAILED
        self._fail(lambda asked: not asked.sent, why, left=True, code=code)

    def begins_anew(self) -> None:
        """Another process of the hospital is connected: it is not admitted until it has accepted
        the manifest; then what the last one hadn't answered is sent to it."""
        with self._changed:
            self._admitted = False
            for asked in self.asked.values():
                asked.sent = False

    def again(self) -> None:
        """People there have decided something of the study, or edited their rules."""
        self._on_again(self.name)

    def close(self) -> None:
        """The study is over: nothing of it waits any more."""
        with self._changed:
            self.line.studies.pop(self.study, None)
            over, self.asked = self.asked, {}
        for message_id, asked in over.items():
            self.line.mailbox.take_back(message_id)
            if asked.file is not None:
                asked.file.close()

    # --- asking ------------------------------------------------------------------------------
    def ask(self, asked: Asked) -> None:
        """Send a request; the same one again is sent again, in case its answer was lost."""
        with self._changed:
            before = self.asked.pop(asked.start.id, None)
            if before is not None and before.file is not None:
                before.file.close()
            self.asked[asked.start.id] = asked
            # the manifest is what it is admitted by; all else waits for that
            if self._admitted or asked.start.type == MANIFEST:
                self._send(asked)
            elif self.connected and self.refusal:
                self.turn_away(self.refusal)

    def _send(self, asked: Asked) -> None:
        if not asked.answered and not asked.sent:
            asked.sent = True
            self.line.mailbox.put(asked.start, asked.body)

    def find(self, message_id: str, serial: str) -> Asked | None:
        """A request that wasn't asked again since."""
        with self._changed:
            asked = self.asked.get(message_id)
            return asked if asked is not None and asked.serial == serial else None

    def take(self, message_id: str, serial: str) -> Asked | None:
        """An answered request, which is then forgotten."""
        with self._changed:
            asked = self.find(message_id, serial)
            if asked is None or not asked.answered:
                return None
            return self.asked.pop(message_id)

    def forget(self, message_id: str, serial: str) -> None:
        """A request is no longer of interest."""
        with self._changed:
            asked = self.find(message_id, serial)
            if asked is None:
                return
            del self.asked[message_id]
        if asked.file is not None:
            asked.file.close()
        self.line.mailbox.take_back(message_id)

    def fail_all(self, reason: str) -> None:
        """Answer whatever is still open with an error."""
        if self.left:
            reason = f"it has left ({self.left}); {reason}"
        self._fail(lambda asked: True, reason, left=bool(self.left))

    def _fail(
        self,
        which: Callable[[Asked], bool],
        reason: str,
        left: bool,
        code: Code = Code.FAILED,
    ) -> None:
        with self._changed:
            for message_id, asked in self.asked.items():
                if not asked.answered and which(asked):
                    asked.error, asked.code, asked.arrived_at = reason, code, timestamp()
                    self.departures += left
                    self.line.mailbox.take_back(message_id)
            self._changed.notify_all()

    # --- events of the mailbox ---------------------------------------------------------------
    def wanted(self, start: Start) -> str | None:
        """Only the first answer to what is being asked, of the question's own type."""
        with self._changed:
            asked = self.asked.get(start.reply_to)
            if asked is None or asked.answered:
                return ""  # a second answer, or one that nobody waits for any more
            if asked.start.type != start.type:
                return "the answer is of another type than the question"
        return None

    def arrived(self, message: Incoming) -> None:
        start = message.start
        self._events.received(self.name, start)  # in the audit log before anyone can use it
        with self._changed:
            asked = self.asked.get(start.reply_to)
            if asked is None or asked.answered:
                message.file.close()
                return
            over = start.kind == "error" and code_of(start.code) in _OVER
            withdrawn = start.type != MANIFEST and over
            if start.kind == "error":
                message.file.close()
                asked.error, asked.code = start.reason, start.code
                self.departures += withdrawn
            else:
                asked.file, asked.size_bytes = message.file, start.size_bytes
            asked.arrived_at = timestamp()
            self._changed.notify_all()
        if withdrawn:  # after the lock: it takes others, and asks this hospital again
            self._on_withdrawn(self, start.reason, code_of(start.code))

    def gone(self, start: Start) -> None:
        self._events.sent(self.name, start)

    def failed(self, start: Start, reason: str) -> None:
        with self._changed:
            asked = self.asked.get(start.id)
            if asked is not None and not asked.answered:
                asked.error, asked.arrived_at = f"it refused the request: {reason}", timestamp()
                self._changed.notify_all()
