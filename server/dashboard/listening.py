"""Where the dashboard listens, and what must be so before others may reach it."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from wardround.common.errors import ConfigError
from wardround.server.dashboard.sign_in.setup import SignIn

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.\-]+)):([0-9]{1,5})")
_IP = ipaddress.IPv4Address | ipaddress.IPv6Address
_TLS = (
    "name server.dashboard.certificate and key, or as server.dashboard.url the https address of "
    "the proxy in front"
)


def split(address: str) -> tuple[str, int]:
    """Host and port of ``--dashboard``. Raises ConfigError."""
    found = _ADDRESS.fullmatch(address)
    if not found or int(found[3]) > 65535:
        raise ConfigError(f"--dashboard {address!r:.60}: give host:port, such as 127.0.0.1:8080")
    return found[1] or found[2], int(found[3])


def hosts_of(host: str, bound: _IP, also: list[str], url: str) -> set[str]:
    """The names and addresses that it may be asked for under."""
    hosts = {*LOOPBACK_HOSTS, host.lower(), str(bound), *map(str.lower, also)}
    if name := urlsplit(url).hostname:
        hosts.add(name.lower())
    return hosts | {socket.gethostname().lower()} if bound.is_unspecified else hosts


def listen(
    address: str, also: list[str], sign_in: SignIn | None, open_to_all: bool
) -> socket.socket:
    """A listening socket on the first address that the host means. Raises ConfigError."""
    host, port = split(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):  # the latter for a label that is too long
        raise ConfigError(
            f"--dashboard {address:.80}: the host can't be resolved; give an address of this "
            "machine, such as 127.0.0.1:8080"
        ) from None
    here = ipaddress.ip_address(str(where[0]).partition("%")[0]).is_loopback
    _check(f"--dashboard {address}", here, also, sign_in, open_to_all)
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(64)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"--dashboard {address}: {error.strerror}; choose another port or end what uses it"
        ) from None
    listening.setblocking(False)
    return listening


def _check(
    what: str, here: bool, also: list[str], sign_in: SignIn | None, open_to_all: bool
) -> None:
    """Nobody else than this machine gets in without signing in, and no password goes in clear."""
    if sign_in is None:
        if not here and not open_to_all:
            raise ConfigError(
                f"{what}: others could reach it, and nobody has to sign in; make an account "
                "(wardround account add NAME --role coordinator), use 127.0.0.1, or add "
                "--dashboard-open if a proxy in front asks for a login"
            )
        return
    if open_to_all:
        raise ConfigError(
            f"{what}: --dashboard-open, and there are accounts to sign in with; give one or the "
            "other"
        )
    if not sign_in.encrypted and (not here or also):
        raise ConfigError(f"{what}: passwords would go there unencrypted; {_TLS}")


def check_certificate(certificate: Path, key: Path) -> None:
    """Raise ConfigError for files that TLS can't be served with."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, lambda: b"")
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        why = (
            (getattr(error, "reason", None) or error.strerror)
            if isinstance(error, OSError)
            else error
        )
        raise ConfigError(
            f"server.dashboard.certificate: {certificate} with {key} can't be used ({why})",
            mend="give PEM files of a certificate and its key without a password",
        ) from None
