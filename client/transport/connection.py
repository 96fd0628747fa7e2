"""The hospital's connection: it dials out, says hello, and comes back for ever.

One TCP connection to one port, also through an HTTP CONNECT proxy (gRPC reads ``https_proxy`` and
``no_proxy`` itself). When it breaks, or the server was silent for a lease, the hospital tries again
with growing pauses, and says in a sentence what is wrong. What waits in the mailbox waits on. An
answer that can't be brought over is followed by an error that says so: the server waits for one.
"""

from __future__ import annotations

import hashlib
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import grpc

from wardround.client.site.kit import Kit
from wardround.client.transport.diagnose import diagnose
from wardround.common.errors import AuditError, ProvisionError, TransportError
from wardround.common.text import one_line
from wardround.common.transport import tls
from wardround.common.transport.frames import (
    METHOD,
    MOST_FRAME_BYTES,
    WIRE_VERSION,
    Bye,
    Drop,
    Frame,
    Heads,
    Hello,
    Refused,
    Start,
    Welcome,
    read_frame,
)
from wardround.common.transport.mailbox import Incoming, Mailbox
from wardround.common.versions import own_version

log = logging.getLogger("wardround.client")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 3.0
_REFUSED_PAUSE_S = 10.0
"""After a refusal that only a person can mend."""
_STEADY_S = 5.0
"""A connection that lasted so long was a good one: the next pause is short again."""
_ANSWER_WITHIN_S = 12.0


class ClientEvents(Protocol):
    """What a connection tells the hospital's process; called in the connection's threads."""

    def dialling(self) -> None:
        """It is about to try: the kit may have been given another description since."""

    def status(self, text: str, ok: bool) -> None:
        """A line for people: connected, or what is wrong. Said once, not at every attempt."""

    def connected(self, server: str) -> None:
        """The server has accepted this hospital; ``server`` names its process."""

    def most_bytes(self) -> int:
        """Of a message, by the settings that this hospital takes part by."""

    def described(self, data: bytes) -> None:
        """A newer signed description has come. Raises ProvisionError if it can't be used."""

    def wanted(self, start: Start) -> str | None:
        """As ``Events.wanted`` of a mailbox."""

    def request(self, message: Incoming) -> None:
        """A request has come as a whole."""

    def delivered(self, start: Start) -> None:
        """A reply has arrived at the server."""

    def undelivered(self, start: Start, reason: str) -> None:
        """The server refused a reply."""

    def dropped(self, request_id: str) -> None:
        """The server no longer waits for a request's answer."""

    def heads(self, heads: Heads) -> None:
        """The server's signed audit head has come."""


class Connection:
    """Keeps a connection to the federation's server."""

    def __init__(self, kit: Callable[[], Kit], events: ClientEvents) -> None:
        self._kit, self._events = kit, events
        self.instance = secrets.token_hex(16)
        self._offered = events.most_bytes()  # until the server says less
        self.mailbox = Mailbox(self, self._offered, kit().state)
        self._stopped = threading.Event()
        self._server = ""
        self._said = ""
        self._pause_s = _FIRST_PAUSE_S
        self._steady = False
        self._left = ""
        """What was said when the server left in order; until it is back."""

    def run(self) -> None:
        """Until ``stop``, whatever the network or the server does. Raises AuditError."""
        while not self._stopped.is_set():
            began = time.monotonic()
            reason = self._once()
            if self._stopped.is_set():
                return
            self._say(one_line(reason), ok=reason == self._left)
            if self._steady and time.monotonic() - began > _STEADY_S:
                self._pause_s = _FIRST_PAUSE_S
            self._stopped.wait(self._pause_s * random.uniform(0.5, 1.0))
            self._pause_s = max(self._pause_s, min(2 * self._pause_s, _LONGEST_PAUSE_S))

    def stop(self, reason: str = "it was stopped") -> None:
        """Nothing leaves any more but a goodbye; ``run`` returns."""
        self._stopped.set()
        self.mailbox.stop(Bye(reason=reason))

    # --- one connection ------------------------------------------------------------------------
    def _once(self) -> str:
        """Connect, and serve the connection until it ends. Gives the reason."""
        self._steady = False
        self._events.dialling()
        kit = self._kit()
        files = tls.Files(kit.ca_pem, kit.certificate_pem, kit.key_pem)
        options = [
            ("grpc.max_receive_message_length", MOST_FRAME_BYTES),
            ("grpc.max_send_message_length", MOST_FRAME_BYTES),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
        ]
        channel = grpc.secure_channel(
            kit.description.address, tls.channel_credentials(files), options
        )
        watch = _Watch(self.mailbox, _ANSWER_WITHIN_S)
        epoch = self.mailbox.open()
        call = channel.stream_stream(METHOD)(self._outgoing(epoch, watch))
        watch.guard(call)
        try:
            return self._serve(call, epoch, watch)
        except grpc.RpcError as error:
            return watch.reason or self._why(error)
        except (TransportError, ProvisionError) as error:
            return str(error)
        except AuditError:
            raise
        except Exception as error:  # a mistake in this program must not end the hospital's process
            log.debug("the connection failed", exc_info=True)
            return f"{type(error).__name__} in the hospital's connection"
        finally:
            watch.end()
            self.mailbox.close(epoch)
            channel.close()

    def _outgoing(self, epoch: int, watch: _Watch) -> Iterator[bytes]:
        description = self._kit().description
        hello = Hello(
            wire=WIRE_VERSION,
            version=own_version(),
            instance=self.instance,
            description=description.version,
            issued=description.issued,
        )
        yield hello.to_bytes()
        if watch.welcomed.wait(_ANSWER_WITHIN_S):
            yield from self.mailbox.frames(epoch, watch.heartbeat_s)

    def _serve(self, call: Iterator[bytes], epoch: int, watch: _Watch) -> str:
        for data in call:
            watch.heard()
            frame = read_frame(data)
            if isinstance(frame, Refused):
                if frame.code in ("enrolment", "revoked", "version"):
                    self._pause_s = _REFUSED_PAUSE_S
                elif frame.code in ("twin", "busy"):
                    self._pause_s = _LONGEST_PAUSE_S
                return f"the server refuses this hospital: {frame.reason}"
            if isinstance(frame, Bye):
                self._left = f"the server said goodbye ({frame.reason}); waiting until it is back"
                return self._left
            if isinstance(frame, Welcome):
                self._welcome(frame, watch)
            elif not watch.welcomed.is_set():
                raise TransportError("the server sent something before it said welcome")
            else:
                self.mailbox.receive(epoch, frame)
        return watch.reason or "the server ended the connection"

    def _welcome(self, frame: Welcome, watch: _Watch) -> None:
        if frame.description:
            self._events.described(frame.description.encode())
        if watch.welcomed.is_set():
            return  # said again, for the description
        if frame.instance != self._server:  # another process: it doesn't know what the last one did
            self.mailbox.forget_partial()
            self.mailbox.take_back_all()
            self._server = frame.instance
        self._offered, self._left = frame.most_bytes, ""
        self.set_limit()
        watch.begin(frame.heartbeat_s, frame.lease_s)
        self._steady = True
        self._pause_s = min(self._pause_s, _LONGEST_PAUSE_S)
        self._say(f"connected to {self._kit().description.address}", ok=True)
        self._events.connected(frame.instance)

    def set_limit(self) -> None:
        """How large a message may be: as both the server and this hospital's own settings say.
        What the server says alone would let it fill this disk."""
        self.mailbox.inbox.most_bytes = min(self._offered, self._events.most_bytes())

    def _why(self, error: grpc.RpcError) -> str:
        if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return "the server has too many connections (server.max_connections)"
        if self._left and error.code() == grpc.StatusCode.UNAVAILABLE:
            return self._left  # it isn't there, as it said: no fault of anybody's
        found = diagnose(self._kit())
        if found:
            return found
        if self.mailbox.is_open and error.code() == grpc.StatusCode.UNAVAILABLE:
            return "the connection broke"
        return f"the connection failed ({error.code().name.lower()})"

    def _say(self, text: str, ok: bool) -> None:
        if text != self._said:
            self._said = text
            self._events.status(text, ok)

    # --- events of the mailbox -----------------------------------------------------------------
    def wanted(self, start: Start) -> str | None:
        if start.kind != "request":
            return "a server asks, it doesn't answer"
        return self._events.wanted(start)

    def arrived(self, message: Incoming) -> None:
        self._events.request(message)

    def gone(self, start: Start) -> None:
        self._events.delivered(start)

    def failed(self, start: Start, reason: str) -> None:
        self._events.undelivered(start, reason)
        if start.kind == "reply":
            line = one_line(f"its answer couldn't be brought over: {reason}")
            error_id = hashlib.sha256(f"{start.id}\x1f{line}".encode()).hexdigest()
            update = {"id": error_id, "kind": "error", "size_bytes": 0, "digest": ""}
            self.mailbox.put(start.model_copy(update=update | {"reason": line}))

    def control(self, frame: Frame) -> None:
        if isinstance(frame, Heads):
            self._events.heads(frame)
        elif isinstance(frame, Drop):
            self._events.dropped(frame.id)


class _Watch:
    """Ends a call when nothing came for a lease: TCP may not notice for minutes."""

    def __init__(self, mailbox: Mailbox, patience_s: float) -> None:
        self._mailbox, self._patience_s = mailbox, patience_s
        self.welcomed = threading.Event()
        self.heartbeat_s = 1.0
        self.reason = ""
        self._last = time.monotonic()
        self._over = threading.Event()

    def guard(self, call: grpc.Call) -> None:
        """Watch this call from a thread."""

        def watch() -> None:
            while not self._over.wait(0.25):
                if time.monotonic() - self._last > self._patience_s:
                    self.reason = f"nothing came from the server for {self._patience_s:g} s"
                    call.cancel()
                    return

        threading.Thread(target=watch, name="watch", daemon=True).start()

    def begin(self, heartbeat_s: float, lease_s: float) -> None:
        """The server said how often it will be heard of."""
        self.heartbeat_s, self._patience_s = heartbeat_s, lease_s
        self.welcomed.set()

    def heard(self) -> None:
        """Something came."""
        self._last = time.monotonic()

    def end(self) -> None:
        """The call is over."""
        self._over.set()
        self.welcomed.set()
