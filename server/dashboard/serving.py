"""Starts and stops the dashboard beside a run: uvicorn in a daemon thread, no signal handlers."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
import time
from dataclasses import dataclass, field

import uvicorn

from wardround.common.errors import ConfigError
from wardround.server.board import Board
from wardround.server.dashboard.app import LOOPBACK_HOSTS, create_dashboard
from wardround.server.dashboard.metrics import Metrics

_START_S, _STOP_S = 20.0, 5.0
_MOST_CONNECTIONS = 128
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.\-]+)):([0-9]{1,5})")


@dataclass
class Dashboard:
    """A dashboard that is being served. ``url`` is where a browser finds it."""

    url: str
    _server: uvicorn.Server = field(repr=False)
    _thread: threading.Thread = field(repr=False)
    _stopping: threading.Event = field(repr=False)

    def stop(self) -> None:
        """End open event streams and close the port; may be called twice."""
        self._stopping.set()
        self._server.should_exit = True
        self._thread.join(_STOP_S)


def serve_dashboard(
    board: Board,
    address: str = "127.0.0.1:8080",
    *,
    allow_remote: bool = False,
    metrics: Metrics | None = None,
) -> Dashboard:
    """Serve ``board`` at ``host:port`` (port 0: any free one) until ``stop`` or the process ends.

    Raises ConfigError for an address that is malformed, in use, or, without ``allow_remote``, not
    one of this machine's loopback addresses.
    """
    host, port = _split(address)
    listening = _listen(host, port, address, allow_remote)
    port = listening.getsockname()[1]
    bound = ipaddress.ip_address(listening.getsockname()[0])
    hosts, stopping = {*LOOPBACK_HOSTS, host.lower(), str(bound)}, threading.Event()
    if bound.is_unspecified:
        hosts.add(socket.gethostname().lower())
    app = create_dashboard(
        board,
        metrics or Metrics(board),
        hosts,
        any_address=bound.is_unspecified,
        stopping=stopping,
    )
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listening]}, name="dashboard", daemon=True
    )
    thread.start()
    deadline = time.monotonic() + _START_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise ConfigError(f"--dashboard {address}: it can't be started; try another port")
        time.sleep(0.01)
    shown = f"[{host}]" if ":" in host else host
    return Dashboard(f"http://{shown}:{port}/", server, thread, stopping)


def _split(address: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(address)
    if not found or int(found[3]) > 65535:
        raise ConfigError(f"--dashboard {address!r:.60}: give host:port, such as 127.0.0.1:8080")
    return found[1] or found[2], int(found[3])


def _listen(host: str, port: int, address: str, allow_remote: bool) -> socket.socket:
    """A listening socket on the first address that the host means."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        reason = error.strerror
        raise ConfigError(
            f"--dashboard {address}: {host} can't be resolved ({reason}); give an address of this "
            "machine, such as 127.0.0.1:8080"
        ) from None
    if not ipaddress.ip_address(str(where[0]).partition("%")[0]).is_loopback and not allow_remote:
        raise ConfigError(
            f"--dashboard {address}: others could reach it, and it has no login; use "
            "127.0.0.1, or add --dashboard-remote if a proxy in front asks for one"
        )
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
