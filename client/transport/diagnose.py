"""What is wrong with a connection, in a sentence: gRPC itself says little more than 'unavailable'.

Tries by hand, step by step, what gRPC does: the name, the proxy, the port, the TLS handshake with
this member's certificate. For the status line and for ``wardround doctor``.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from wardround.client.site.kit import MemberKit
from wardround.common.address import split_address
from wardround.common.errors import ProvisionError
from wardround.common.trust.credentials import NAMES
from wardround.common.trust.pki import check_validity

_TIMEOUT_S = 3.0
_MOST_ANSWER_BYTES = 4096


def _moved(kit: MemberKit) -> str:
    command = "client" if kit.role == "hospital" else "study"
    return (
        " (if the server has moved, the coordinator has a new federation.signed: wardround "
        f"{command} enroll KIT --answer federation.signed)"
    )


def diagnose(kit: MemberKit) -> str:
    """Why the server can't be reached; "" if nothing is found to be wrong."""
    host, port = split_address(kit.description.address)
    try:
        check_validity(kit.info, datetime.now(UTC))
    except ProvisionError as error:
        return str(error)
    proxy, moved = proxy_for(host), _moved(kit)
    try:
        where = f"the proxy {proxy[0]}:{proxy[1]}" if proxy else kit.description.address
        connection = socket.create_connection(proxy or (host, port), _TIMEOUT_S)
    except socket.gaierror:
        return f"the name in {where} can't be resolved; check the address and the DNS{moved}"
    except ConnectionRefusedError:
        return f"{where} refused the connection; is the server running, and the port right?{moved}"
    except TimeoutError:
        return f"{where} didn't answer within {_TIMEOUT_S:g} s; a firewall may drop it{moved}"
    except OSError as error:
        return f"{where} can't be reached ({error.strerror or type(error).__name__}){moved}"
    with connection:
        if proxy and (reason := _through_proxy(connection, kit.description.address)):
            return reason
        return _handshake(connection, kit, host)


def proxy_for(host: str) -> tuple[str, int] | None:
    """The HTTP CONNECT proxy that gRPC takes for this host; None for a direct connection."""
    text = next(
        (os.environ[n] for n in ("grpc_proxy", "https_proxy", "http_proxy") if os.environ.get(n)),
        "",
    )
    direct = os.environ.get("no_grpc_proxy") or os.environ.get("no_proxy") or ""
    excluded = [part.strip().lstrip("*.") for part in direct.split(",") if part.strip()]
    if not text or any(host == part or host.endswith("." + part) for part in excluded):
        return None
    parts = urlsplit(text if "//" in text else f"http://{text}")
    return (parts.hostname or "", parts.port or 80)


def _through_proxy(connection: socket.socket, address: str) -> str:
    try:
        connection.sendall(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer and len(answer) < _MOST_ANSWER_BYTES:
            data = connection.recv(_MOST_ANSWER_BYTES)
            if not data:
                break
            answer += data
    except OSError as error:
        return f"the proxy doesn't answer ({error.strerror or type(error).__name__})"
    status = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    if not status:
        return "the proxy's answer isn't HTTP; is it a CONNECT proxy?"
    if status[1] != b"200":
        return f"the proxy refused to connect to {address} (HTTP status {status[1].decode()})"
    return ""


def _handshake(connection: socket.socket, kit: MemberKit, host: str) -> str:
    context = ssl.create_default_context(cadata=kit.ca_pem.decode())
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    folder, names = Path(kit.folder), NAMES[kit.role]
    context.load_cert_chain(folder / names.certificate, folder / names.key)
    try:
        with context.wrap_socket(connection, server_hostname=host) as secure:
            secure.settimeout(_TIMEOUT_S)
            try:  # TLS 1.3: whether our certificate is accepted shows with the first bytes
                secure.recv(1)
            except TimeoutError:
                pass
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == 10:
            return "the server's certificate has expired; the coordinator must renew it"
        if error.verify_code == 9:
            return "the server's certificate isn't valid yet; check this machine's clock"
        if error.verify_code == 62:
            return f"the server's certificate is for another name than {host}"
        return (
            "the server's certificate is not of this federation's authority: another server "
            f"answers at {kit.description.address}, or something in between"
        )
    except ssl.SSLError as error:
        return f"the server refused this {kit.role}'s certificate, or TLS 1.3 ({error.reason})"
    except OSError as error:
        return f"the TLS handshake broke ({error.strerror or type(error).__name__})"
    return ""
