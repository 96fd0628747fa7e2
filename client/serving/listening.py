"""Where a model is served, and what must be so before others than this machine reach it.

On loopback whoever is on the machine may ask. Elsewhere who asks must show a token or a
certificate, and what is asked goes through TLS 1.3, as rows of patients do.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from wardround.client.serving.door import Door
from wardround.common.address import join_address, split_address
from wardround.common.durable.private import read_private, read_public
from wardround.common.errors import ConfigError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_BACKLOG = 64


@dataclass(frozen=True)
class Tls:
    """Files of PEM. ``client_ca``: who signs the certificates of those that may ask; None: nobody
    needs one."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Of a server that speaks TLS 1.3 only. Raises ConfigError, and ProvisionError for a key
        that others on this machine may read."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        read_private(self.key, "name the certificate's key with --tls-key")
        try:
            context.load_cert_chain(self.certificate, self.key, lambda: b"")
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise _unfit("--tls-certificate", self.certificate, error) from None
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except (OSError, ValueError) as error:
                raise _unfit("--client-ca", self.client_ca, error) from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def names(self) -> set[str]:
        """For whom the certificate is, in small letters."""
        mend = "name the server's certificate with --tls-certificate"
        try:
            found = x509.load_pem_x509_certificate(read_public(self.certificate, mend))
            names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound):
            return set()
        dns = names.get_values_for_type(x509.DNSName)
        return {*map(str.lower, dns), *map(str, names.get_values_for_type(x509.IPAddress))}


def tls_of(certificate: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
    """Of a command's options; None where there are none. Raises ConfigError for some of them."""
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        raise ConfigError(
            "TLS needs --tls-certificate and --tls-key both", mend="name the one that is missing"
        )
    return Tls(certificate, key, client_ca)


@dataclass
class Listening:
    """A port that is open.

    hosts, any_address : as ``Guard`` has them
    """

    socket: socket.socket
    hosts: frozenset[str]
    any_address: bool
    url: str


def listen(
    address: str,
    door: Door,
    tls: Tls | None = None,
    *,
    plain: bool = False,
    names: Iterable[str] = (),
    open_model: bool = True,
) -> Listening:
    """A listening socket at ``host:port`` (port 0: any free one).

    Parameters
    ----------
    plain : something in front (a proxy, a container's own network) does TLS
    names : under which it is asked for besides
    open_model : False for a model that nobody has signed: then only this machine may ask

    Raises ConfigError for an address that is malformed, taken or can't be resolved, or that others
    could reach without all that they need.
    """
    what = f"--listen {address[:80]}"
    try:
        host, port = split_address(address)
    except ValueError as error:
        raise ConfigError(f"{what}: {error}") from None
    if not host:
        raise ConfigError(f"{what}: name the host, such as 127.0.0.1 (0.0.0.0: every interface)")
    family, where = _resolved(host, port, what)
    bound = ipaddress.ip_address(str(where[0]).partition("%")[0])
    if not bound.is_loopback:
        _check(what, door, tls, plain, open_model)
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(where)
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        raise ConfigError(
            f"{what}: {error.strerror}", mend="choose another port or end what uses it"
        ) from None
    opened.setblocking(False)
    hosts = {*_LOOPBACK, host.lower(), str(bound), *map(str.lower, names)}
    if bound.is_unspecified:
        hosts |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    hosts |= tls.names() if tls else set()
    scheme, at = "https" if tls else "http", join_address(host, opened.getsockname()[1])
    return Listening(opened, frozenset(hosts), bound.is_unspecified, f"{scheme}://{at}")


def _resolved(host: str, port: int, what: str) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):  # the latter for a label that is too long
        raise ConfigError(
            f"{what}: the host can't be resolved",
            mend="give an address of this machine, such as 127.0.0.1:8090",
        ) from None
    return found[0][0], found[0][4]


def _check(what: str, door: Door, tls: Tls | None, plain: bool, open_model: bool) -> None:
    """Raise ConfigError unless others may reach it."""
    if not open_model:
        raise ConfigError(
            f"{what}: others could reach it, and nobody has signed this model",
            mend="use 127.0.0.1, or a model that a deployed run has signed",
        )
    if not door.asks and (tls is None or tls.client_ca is None):
        raise ConfigError(
            f"{what}: others could reach it, and nobody has to say who they are",
            mend="name a --token-file or a --client-ca, or use 127.0.0.1",
        )
    if tls is None and not plain:
        raise ConfigError(
            f"{what}: patients' rows and the token would go there unencrypted",
            mend="name --tls-certificate and --tls-key; behind a proxy that has them: --plain",
        )


def _unfit(option: str, path: Path, error: OSError | ValueError) -> ConfigError:
    why = getattr(error, "reason", None) or getattr(error, "strerror", None) or "no PEM"
    return ConfigError(
        f"{option} {path}: can't be used ({why})",
        mend="give PEM files of a certificate and its key without a password",
    )
