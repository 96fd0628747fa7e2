"""Mutual TLS 1.3 for gRPC. Import this before anything else imports ``grpc``.

gRPC has no setting for the lowest TLS version. But it takes a list of TLS 1.2 cipher suites, and a
suite that needs RSA keys leaves our ECDSA certificates none: with them only TLS 1.3 comes about.
The server looks at the version of each connection, too.
"""

from __future__ import annotations

import os

os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES256-GCM-SHA384"
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its lines on standard error say what ours say

from dataclasses import dataclass, field  # noqa: E402

import grpc  # noqa: E402


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
