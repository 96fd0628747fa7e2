"""Who calls: the certificate of the connection, held against the signed description of now.

Looked at for each call, and again and again while a stream lasts: who is revoked, or whose
certificate expires, is heard no longer.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Protocol

import grpc

from wardround.common.errors import ProvisionError
from wardround.common.trust.credentials import check_membership
from wardround.common.trust.description import Description
from wardround.common.trust.pki import CertificateInfo, check_validity, read_certificate
from wardround.server.studies.rights import Caller


class PresentDescription(Protocol):
    """Where the signed description comes from, which may be replaced while the server runs."""

    @property
    def now(self) -> Description:
        """The present one."""

    def text(self) -> str:
        """The same as it is handed on."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one member, and all together, may ask of the interface at a time.

    burst, per_s : calls that one may make at once, and so many more each second
    own, all : calls under way, of one and of everybody: each holds a thread
    stream_s : a stream ends after so long, without an error; its caller goes on with another
    """

    burst: int = 60
    per_s: float = 10.0
    own: int = 8
    all: int = 48
    stream_s: float = 3600.0


class TooMany(Exception):
    """A caller asks more than the limits allow; the text says when to try again."""


class Callers:
    """Who is on the other end of a call."""

    def __init__(
        self,
        description: PresentDescription,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.description, self.limits = description, limits
        self._clock, self._turn = clock, Lock()
        self._calls: dict[Caller, tuple[float, float]] = {}
        self._under_way: Counter[Caller] = Counter()

    def certificate(self, context: grpc.ServicerContext) -> CertificateInfo:
        """The caller's. Raises ProvisionError where there is none that can be used."""
        auth = context.auth_context()
        if auth.get("ssl_tls_version", [b""])[0] != b"TLSv1.3":
            raise ProvisionError("the connection isn't TLS 1.3")
        if "x509_pem_cert" not in auth:
            raise ProvisionError("the connection has no certificate")
        return read_certificate(auth["x509_pem_cert"][0])

    def check(self, info: CertificateInfo) -> Caller:
        """The member whose certificate it is, now. Raises ProvisionError if it is none (any
        more)."""
        check_validity(info, datetime.now(UTC), "the certificate")
        if info.kind == "server":
            raise ProvisionError("a server's certificate is no member's")
        check_membership(info, self.description.now, "the network's description")
        return Caller(info.kind, info.name)

    @contextmanager
    def call(self, caller: Caller) -> Iterator[None]:
        """A call under way. Raises TooMany."""
        with self._turn:
            self._spend(caller)
            if self._under_way[caller] >= self.limits.own:
                raise TooMany(f"{self.limits.own} calls of yours are under way; end one of them")
            if self._under_way.total() >= self.limits.all:
                raise TooMany("the server has too many calls under way; try again in a minute")
            self._under_way[caller] += 1
        try:
            yield
        finally:
            with self._turn:
                self._under_way[caller] -= 1
                if not self._under_way[caller]:
                    del self._under_way[caller]

    def _spend(self, caller: Caller) -> None:
        now, (left, since) = self._clock(), self._calls.get(caller, (self.limits.burst, 0.0))
        left = min(float(self.limits.burst), left + (now - since) * self.limits.per_s)
        if left < 1:
            raise TooMany(f"over {self.limits.per_s:g} calls a second; try again in a few seconds")
        self._calls[caller] = (left - 1, now)
