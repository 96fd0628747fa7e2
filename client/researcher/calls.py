"""Calls to a network's server, with a kit's certificate: frames there and back, and what is wrong
as one line.

Streams have a connection of their own: gRPC lets few calls share one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import grpc

from wardround.client.site.kit import MemberKit
from wardround.client.transport.diagnose import diagnose
from wardround.common.errors import (
    ProvisionError,
    StudyRefused,
    StudyUnknown,
    TransportError,
    WardroundError,
)
from wardround.common.study import frames as f
from wardround.common.text import one_line
from wardround.common.transport import tls

_ANSWER_WITHIN_S = 60.0
_MOST_BYTES = 16 << 20
A = TypeVar("A", bound=f.Frame)


class Away(TransportError):
    """The server can't be reached, or is about to stop; the same may succeed later."""

    lasting = False


class Calls:
    """A member's calls.

    held : whether this process speaks TLS 1.3 only; a program that had imported gRPC before, as a
        notebook may have, goes on with the gRPC that it has
    """

    def __init__(self, kit: MemberKit, held: bool) -> None:
        self.kit, self._held = kit, held
        self._channel: grpc.Channel | None = None

    def close(self) -> None:
        """End the connection; a later call makes another."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def ask(self, call: f.Call, answer: type[A]) -> A:
        """The answer to a call.

        Raises StudyUnknown, StudyRefused, ProvisionError (the certificate isn't accepted any more),
        TransportError, and Away for one that may succeed later.
        """
        if self._channel is None:
            self._channel = self._connect()
        method = self._channel.unary_unary(f.SERVICE + type(call).__name__)
        try:
            data = method(call.to_bytes(), timeout=_ANSWER_WITHIN_S)
        except grpc.RpcError as error:
            raise self._meant(error) from None
        return answer.read(bytes(data))

    @contextmanager
    def stream(self, call: f.Call) -> Iterator[Iterator[bytes]]:
        """The messages that answer a call. Raises as ``ask`` does, also while they are read."""
        channel = self._connect()
        try:
            answer = channel.unary_stream(f.SERVICE + type(call).__name__)(call.to_bytes())
            try:
                yield self._messages(answer)
            finally:
                with suppress(Exception):
                    answer.cancel()
        finally:
            channel.close()

    def _messages(self, answer: Iterator[bytes]) -> Iterator[bytes]:
        try:
            for data in answer:
                yield bytes(data)
        except grpc.RpcError as error:
            raise self._meant(error) from None

    def _connect(self) -> grpc.Channel:
        kit = self.kit
        files = tls.Files(kit.ca_pem, kit.certificate_pem, kit.key_pem)
        options = [
            ("grpc.max_receive_message_length", _MOST_BYTES),
            ("grpc.max_send_message_length", _MOST_BYTES),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
            ("grpc.keepalive_time_ms", 30_000),  # a stream may be without news for long
        ]
        credentials = tls.channel_credentials(files, held=self._held)
        return grpc.secure_channel(kit.description.address, credentials, options)

    def _meant(self, error: grpc.RpcError) -> WardroundError:
        """What a call's end means; the server's words are shown as one harmless line."""
        code, said = error.code(), one_line(error.details() or "", 1000)
        if code == grpc.StatusCode.NOT_FOUND:
            return StudyUnknown(said)
        if code == grpc.StatusCode.UNAUTHENTICATED:
            return ProvisionError(f"the server doesn't accept {self.kit.info}: {said}")
        if code == grpc.StatusCode.UNIMPLEMENTED:
            return StudyRefused(
                f"the server at {self.kit.description.address} has no studies",
                mend="its coordinator's file needs [network]",
            )
        if code == grpc.StatusCode.UNAVAILABLE:
            return Away(diagnose(self.kit) or said)
        if code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
            return Away(f"{self.kit.description.address} gave no answer")
        if code == grpc.StatusCode.INTERNAL:
            return TransportError(said)
        return StudyRefused(said)
