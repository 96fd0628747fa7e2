"""host:port as people write it: a name or an IPv4 address, or an IPv6 address in brackets."""

from __future__ import annotations

import ipaddress
import re

ADDRESS = r"(?:[A-Za-z0-9.\-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}"
"""Its form; whether what stands in brackets is an address, ``split_address`` knows."""
_FORM = re.compile(r"(?:\[([^\]\s]*)\]|([^:\[\]\s]*)):([0-9]{1,5})")


def split_address(text: str) -> tuple[str, int]:
    """Host, without brackets and an IPv6 address in its one canonical form, and port.

    An empty host means every interface. Raises ValueError with what is wrong.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError("write host:port, an IPv6 address in brackets: [2001:db8::1]:8443")
    host, port = found[2] or "", int(found[3])
    if found[1] is not None:
        try:
            host = str(ipaddress.IPv6Address(found[1]))
        except ValueError:
            raise ValueError(f"'[{found[1]:.60}]' is no IPv6 address") from None
        if "%" in host:
            raise ValueError("an address with a zone means something on one machine only")
    if not 0 <= port <= 65535:
        raise ValueError("the port must be at most 65535")
    return host, port


def join_address(host: str, port: int | str) -> str:
    """What ``split_address`` takes apart."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine, whatever its resolver says."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def bare_host(host: str) -> str:
    """A Host header's name or address without its port, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()


def goes_by(host: str, names: frozenset[str], any_address: bool) -> bool:
    """Whether a Host header is one of these names, or, where these will do, any IP address: a name
    that was bound anew to this machine is neither. The port isn't compared: it may be another one
    behind an SSH tunnel."""
    name = bare_host(host)
    if name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return any_address
