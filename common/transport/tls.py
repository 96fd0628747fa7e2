"""Mutual TLS 1.3 for gRPC: both ends prove themselves, and trust the consortium's authority only.

That nothing below 1.3 comes about is the process's matter (``only_tls13``), and there are no
credentials without it; the server looks at the version of each connection, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import grpc

from wardround.common.transport.only_tls13 import check_held


@dataclass(frozen=True)
class Files:
    """The PEM texts of one end."""

    ca: bytes
    certificate: bytes
    key: bytes = field(repr=False)


def server_credentials(
    files: Files, renewed: Callable[[], Files | None] = lambda: None
) -> grpc.ServerCredentials:
    """Of a server that asks every client for a certificate of the CA.

    renewed : asked at every handshake for other files to go on with; connections that stand keep
        theirs

    Raises WardroundError in a process that isn't held to TLS 1.3.
    """
    check_held()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        new = renewed()
        return _configuration(new) if new is not None else None

    return grpc.dynamic_ssl_server_credentials(
        _configuration(files), fetch, require_client_authentication=True
    )


def _configuration(files: Files) -> grpc.ServerCertificateConfiguration:
    pairs = [(files.key, files.certificate)]
    return grpc.ssl_server_certificate_configuration(pairs, files.ca)


def channel_credentials(files: Files, held: bool = True) -> grpc.ChannelCredentials:
    """Of a client that trusts this CA only.

    held : False in a program that isn't ours alone, such as a notebook: there what the server's
        process is held to decides, and TLS 1.3 itself lets nobody in between say another version

    Raises WardroundError in a process that isn't held to TLS 1.3.
    """
    if held:
        check_held()
    return grpc.ssl_channel_credentials(files.ca, files.key, files.certificate)
