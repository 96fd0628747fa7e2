"""A process that speaks TLS 1.3 only. Imported, and called, before anything imports gRPC.

gRPC has no setting for the lowest TLS version, and what it has holds for a whole process: a list of
TLS 1.2 cipher suites, which it reads from the environment once, when it is imported. So the
server's and a hospital's process say it at their start, and nobody else is touched: a program that
imports Wardround keeps its own gRPC as it was.
"""

from __future__ import annotations

import os
import sys

from wardround.common.errors import WardroundError

_SUITE = "ECDHE-RSA-AES256-GCM-SHA384"
"""Needs RSA keys: our ECDSA certificates are left no suite of TLS 1.2, and only 1.3 comes about."""
_MEND = (
    "call hold_to_tls13() of wardround.common.transport.only_tls13 before anything imports grpc or "
    "flwr, or start `wardround server` and `wardround client` as processes of their own"
)
_held = False


def hold_to_tls13() -> None:
    """Let gRPC, in this process from now on, make no connection below TLS 1.3, and log nothing.

    For the server's and a hospital's own process; it changes all other use of gRPC in it. Raises
    WardroundError if gRPC is imported already: it would go on as it is.
    """
    global _held
    if _held:
        return
    if "grpc" in sys.modules:
        raise WardroundError(
            "gRPC was imported before this process was held to TLS 1.3, and takes no more settings",
            mend=_MEND,
        )
    os.environ["GRPC_SSL_CIPHER_SUITES"] = _SUITE
    # A stranger's failed handshakes must not fill our logs; what is wrong is said in our own words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    _held = True


def check_held() -> None:
    """Raise WardroundError unless this process is held to TLS 1.3."""
    if not _held:
        raise WardroundError("this process would also speak TLS 1.2", mend=_MEND)
