"""Mutual TLS 1.3 for gRPC: both ends prove themselves, and trust the consortium's authority only.

That nothing below 1.3 comes about is set in ``common/__init__.py``; the server looks at the version
of each connection, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc


@dataclass(frozen=True)
class Files:
    """The PEM texts of one end."""

    ca: bytes
    certificate: bytes
    key: bytes = field(repr=False)


def server_credentials(files: Files) -> grpc.ServerCredentials:
    """Of a server that asks every client for a certificate of the CA."""
    pair = (files.key, files.certificate)
    return grpc.ssl_server_credentials([pair], files.ca, require_client_auth=True)


def channel_credentials(files: Files) -> grpc.ChannelCredentials:
    """Of a client that trusts this CA only."""
    return grpc.ssl_channel_credentials(files.ca, files.key, files.certificate)
