"""The port that hospitals dial: who may connect, and one stream for each.

Mutual TLS 1.3 by gRPC: without a certificate of the consortium's CA there is no stream at all. Then
the certificate *is* the identity: its name must be in the roster with the same public key, its
serial number not revoked. A second process of one identity is refused while the first one's lease
lives. Before it has said hello a stream has a few seconds and one small frame, and an identity has
few such streams. Whoever is turned away, or breaks the protocol, is told why.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from wardround.common.errors import AuditError, ProvisionError, TransportError
from wardround.common.text import one_line
from wardround.common.transport.frames import (
    METHOD,
    MOST_FRAME_BYTES,
    TIME_METHOD,
    WIRE_VERSION,
    Bye,
    Hello,
    Refused,
    Welcome,
    read_frame,
)
from wardround.common.trust.description import Description
from wardround.common.trust.pki import CertificateInfo, check_validity, read_certificate
from wardround.common.versions import own_version
from wardround.server.transport.events import ServerEvents
from wardround.server.transport.hall import Hall
from wardround.server.transport.line import Line

log = logging.getLogger("wardround.server")

_HELLO_WITHIN_S = 10.0
_SPARE_STREAMS = 8
"""For health checks and refusals beside the hospitals' own streams."""
_MORE_STREAMS = 64
"""For what other handlers answer, so that no hospital waits for it; they bound it themselves."""
_MOST_GREETINGS = 3
"""Streams of one identity that haven't said hello yet."""
_SAY_AGAIN_S = 600.0
"""The same refusal of the same peer is written down only so often: it tries for ever."""
_MOST_REMEMBERED = 1000


class DescriptionSource(Protocol):
    """Where the signed description comes from, which may be replaced while the server runs."""

    @property
    def now(self) -> Description:
        """The present one."""

    def text(self) -> str:
        """The same as hospitals are sent it."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What every hospital is told of this server when it connects.

    instance : names this process
    most_bytes : of a message
    """

    instance: str
    heartbeat_s: float
    most_bytes: int


class Door(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Accepts or refuses connections, and runs those that are accepted.

    Parameters
    ----------
    description : the present signed one
    on_open : is told of each hospital that has come in
    """

    def __init__(
        self,
        hall: Hall,
        terms: Terms,
        *,
        description: DescriptionSource,
        events: ServerEvents,
        on_open: Callable[[str], None],
    ) -> None:
        self._hall, self._terms, self._description = hall, terms, description
        self._events, self._on_open = events, on_open
        self._turn = threading.Lock()
        self._streams: dict[str, _Stream] = {}
        self._greetings: Counter[str] = Counter()
        self._refusals: dict[tuple[str, str], float] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """gRPC asks who handles a method: only the one."""
        if details.method == TIME_METHOD:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: _own_time())
        if details.method != METHOD:
            return None
        return grpc.stream_stream_rpc_method_handler(self._connect)

    # --- one connection ------------------------------------------------------------------------
    def _connect(self, frames: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            yield from self._connection(frames, context)
        except AuditError as error:  # the server ends by it, in the rounds' own thread
            log.debug("a connection ended: %s", error)

    def _connection(
        self, frames: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        who = ":".join(context.peer().split(":")[:-1])  # its port changes with every attempt
        try:
            info = self._identify(context)
            who = info.name
            hello = self._greet(info.name, frames, context)
            stream = self._enter(info, hello, context)
        except (_Turned, TransportError) as error:
            code: Any = error.code if isinstance(error, _Turned) else "limits"
            self._turn_away(who, code, str(error))
            yield Refused(code=code, reason=one_line(str(error))).to_bytes()
            return
        line, epoch = stream.line, stream.epoch
        if not context.add_callback(lambda: line.mailbox.close(epoch)):
            line.mailbox.close(epoch)
        reader = threading.Thread(
            target=self._read, args=(stream, frames), name=f"read {line.name}", daemon=True
        )
        try:
            yield self._welcome((hello.description, hello.issued)).to_bytes()
            reader.start()
            self._on_open(line.name)
            yield from line.mailbox.frames(epoch, self._terms.heartbeat_s)
        finally:
            line.mailbox.close(epoch)
            if self._streams.get(line.name) is stream:
                self._events.disconnected(line.name, stream.reason or "the connection broke")
                with self._hall.changed:
                    self._hall.changed.notify_all()

    def _read(self, stream: _Stream, frames: Iterator[bytes]) -> None:
        try:
            for data in frames:
                frame = read_frame(data)
                if isinstance(frame, Bye):
                    stream.line.goodbye(frame.reason)
                    return stream.end(f"it said goodbye: {stream.line.left}")
                stream.line.mailbox.receive(stream.epoch, frame)
            stream.end("it ended the connection")
        except TransportError as error:
            reason = f"it broke the protocol: {error}"
            stream.end(reason, Refused(code="limits", reason=one_line(reason)))
        except grpc.RpcError:
            stream.end("the connection broke")
        except OSError as error:
            self._events.unwritable(error)
            stream.end(f"the server's disk failed ({error.strerror})")
        except Exception as error:  # gRPC's iterator raises a bare Exception when a stream breaks
            broke = type(error) is Exception
            reason = "the connection broke" if broke else f"reading it failed ({error})"
            stream.end(one_line(reason))

    def _turn_away(self, who: str, code: str, reason: str) -> None:
        """Write a refusal down, unless it is the one that was written down last."""
        now, key = time.monotonic(), (who, reason)
        with self._turn:
            if now - self._refusals.get(key, -_SAY_AGAIN_S) < _SAY_AGAIN_S:
                return
            self._refusals[key] = now
            while len(self._refusals) > _MOST_REMEMBERED:
                del self._refusals[next(iter(self._refusals))]
        self._events.refused(who, code, reason)

    def _greet(self, name: str, frames: Iterator[bytes], context: grpc.ServicerContext) -> Hello:
        with self._turn:
            if self._greetings[name] >= _MOST_GREETINGS:
                raise _Turned("busy", f"{name} has begun several connections and said nothing")
            self._greetings[name] += 1
        try:
            return _first_frame(frames, context)
        finally:
            with self._turn:
                self._greetings[name] -= 1

    def _identify(self, context: grpc.ServicerContext) -> CertificateInfo:
        auth = context.auth_context()
        if auth.get("ssl_tls_version", [b""])[0] != b"TLSv1.3":
            raise _Turned("limits", "the connection isn't TLS 1.3")
        try:
            info = read_certificate(auth["x509_pem_cert"][0])
            check_validity(info, datetime.now(UTC))
        except (KeyError, ProvisionError) as error:
            raise _Turned("enrolment", f"its certificate can't be used: {error}") from None
        self._check_member(info)
        return info

    def _check_member(self, info: CertificateInfo) -> None:
        description = self._description.now
        if info.serial in description.revoked:
            raise _Turned("revoked", f"the certificate of {info.name} was revoked")
        known = description.hospitals.get(info.name)
        if info.kind != "hospital" or info.federation != description.federation or known is None:
            raise _Turned("enrolment", f"'{info.name}' is not in the roster of this federation")
        if known != info.identity:
            raise _Turned("enrolment", f"the roster has another public key for {info.name}")

    def _enter(self, info: CertificateInfo, hello: Hello, context: grpc.ServicerContext) -> _Stream:
        own = own_version()
        if hello.wire != WIRE_VERSION or hello.version.partition("+")[0] != own:
            theirs, ours = hello.version, own
            if hello.wire != WIRE_VERSION:  # versions between releases are called alike
                theirs, ours = (
                    f"{text} (wire {wire})"
                    for text, wire in ((hello.version, hello.wire), (own, WIRE_VERSION))
                )
            raise _Turned(
                "version",
                f"the server has wardround {ours}, the hospital {theirs}; install the same",
            )
        line = self._hall.line(info.name)
        with self._turn:  # else two processes could both find the place free
            twin = line.connected and line.instance != hello.instance
            if twin and line.silent_s() <= self._hall.lease_s:
                raise _Turned(
                    "twin",
                    f"another process is connected as {info.name}; stop one of them (if it "
                    f"crashed, its place is free after {self._hall.lease_s:g} s)",
                )
            # the same process again, which lost its connection before we did: the new one counts
            epoch = line.begin(hello.instance, context.peer())
            stream = self._streams[info.name] = _Stream(line, epoch, info, context)
        self._events.connected(info.name, context.peer(), hello.version)
        return stream

    def _welcome(self, known: tuple[int, str]) -> Welcome:
        """``known``: the order of the description that the hospital has."""
        newer = self._description.now.order > known
        return Welcome(
            instance=self._terms.instance,
            heartbeat_s=self._terms.heartbeat_s,
            lease_s=self._hall.lease_s,
            most_bytes=self._terms.most_bytes,
            description=self._description.text() if newer else "",
        )

    # --- for the coordinator -------------------------------------------------------------------
    def check_all(self, new_description: bool) -> None:
        """End connections that were silent for a lease, or whose hospital may no longer be here:
        its certificate expired while it was connected, or the description revokes it.

        new_description : send it to those who stay
        """
        for stream in list(self._streams.values()):
            if not stream.line.connected:
                continue
            if stream.line.silent_s() > self._hall.lease_s:
                stream.end(f"nothing came from it for server.lease_s = {self._hall.lease_s:g}")
                stream.context.cancel()
                continue
            try:
                check_validity(stream.info, datetime.now(UTC))
                self._check_member(stream.info)
            except (_Turned, ProvisionError) as error:
                code: Any = error.code if isinstance(error, _Turned) else "enrolment"
                self._turn_away(stream.line.name, code, str(error))
                stream.end(str(error), Refused(code=code, reason=one_line(str(error))))
                continue
            if new_description:
                stream.line.mailbox.put_control(self._welcome((0, "")))

    def goodbye(self, reason: str) -> None:
        """End all connections; the hospitals are told why."""
        for stream in list(self._streams.values()):
            stream.end(reason, Bye(reason=one_line(reason)))


@dataclass
class _Stream:
    """A connection that was accepted. ``reason``: why it ended, where that is known."""

    line: Line
    epoch: int
    info: CertificateInfo
    context: grpc.ServicerContext
    reason: str = ""

    def end(self, reason: str, last: Refused | Bye | None = None) -> None:
        """Over, if it isn't already; ``last`` is still sent."""
        if self.line.mailbox.close(self.epoch, last):
            self.reason = reason


def _own_time() -> bytes:
    """Unix time in seconds, for ``wardround doctor`` to compare clocks."""
    return f"{time.time():.3f}".encode()


class _Turned(Exception):
    """Who connects is turned away."""

    def __init__(self, code: Any, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def _first_frame(frames: Iterator[bytes], context: grpc.ServicerContext) -> Hello:
    timer = threading.Timer(_HELLO_WITHIN_S, context.cancel)
    timer.daemon = True
    timer.start()
    try:
        data = next(frames)
    except StopIteration:
        raise TransportError("the connection ended before it said hello") from None
    except Exception:  # gRPC raises a bare Exception here
        raise TransportError(f"it said nothing within {_HELLO_WITHIN_S:g} s") from None
    finally:
        timer.cancel()
    frame = read_frame(data)
    if not isinstance(frame, Hello):
        raise TransportError("it didn't say hello first")
    return frame


def open_port(
    door: Door,
    listen: str,
    credentials: grpc.ServerCredentials,
    most_connections: int,
    more: Sequence[grpc.GenericRpcHandler] = (),
) -> tuple[grpc.Server, health.HealthServicer, int]:
    """Start to listen. Gives gRPC's server, its health service and the port.

    more : handlers of other methods on the same port, which see to themselves who calls

    Raises TransportError if the address can't be had.
    """
    most = most_connections + _SPARE_STREAMS + (_MORE_STREAMS if more else 0)
    workers = futures.ThreadPoolExecutor(most, "stream")
    options = [
        ("grpc.max_receive_message_length", MOST_FRAME_BYTES),
        ("grpc.max_send_message_length", MOST_FRAME_BYTES),
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", 4),
        ("grpc.server_handshake_timeout_ms", int(_HELLO_WITHIN_S * 1000)),
        ("grpc.max_metadata_size", 8192),
    ]
    server = grpc.server(
        workers,
        handlers=[door, *more],
        options=options,
        maximum_concurrent_rpcs=most,
    )
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    try:
        port = server.add_secure_port(listen, credentials)
    except RuntimeError:
        port = 0
    if not port:
        raise TransportError(
            f"{listen}: can't listen there; is the port taken? (server.listen, server.address)"
        )
    server.start()
    return server, servicer, int(port)
