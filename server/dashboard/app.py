"""The read-only dashboard: a page, its data as JSON and as server-sent events, and metrics.

Nothing can be changed through it: only GET is answered. It has no login, so it listens on
this machine only unless the operator asks for more; a request whose Host isn't this server's is
refused, lest another site's page read it by DNS rebinding. Every answer forbids inline scripts,
framing and caching, and the page loads nothing from elsewhere.
"""

from __future__ import annotations

import importlib.resources
import ipaddress
import re
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from wardround.common.errors import ConfigError
from wardround.server.dashboard.guard import Guard
from wardround.server.dashboard.metrics import CONTENT_TYPE, Metrics
from wardround.server.dashboard.streams import Streams
from wardround.server.display.board import Board

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
MOST_STREAMS = 32
_START_S, _STOP_S = 20.0, 5.0
_MOST_CONNECTIONS = 128
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.\-]+)):([0-9]{1,5})")

_ASSETS = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/curves.js": ("curves.js", "text/javascript"),
    "/hospitals.js": ("hospitals.js", "text/javascript"),
    "/text.js": ("text.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


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


def create_dashboard(
    board: Board,
    metrics: Metrics,
    hosts: Iterable[str] = LOOPBACK_HOSTS,
    *,
    any_address: bool = False,
    stopping: threading.Event | None = None,
) -> FastAPI:
    """The application.

    Parameters
    ----------
    hosts : names and addresses under which it may be asked for, in lower case, without port
    any_address : any IP address will do too (a rebound name is never one)
    stopping : once set, event streams end
    """
    app = FastAPI(title="Wardround", docs_url=None, redoc_url=None, openapi_url=None)
    streams = Streams(board, stopping or threading.Event())
    for path, (file, media_type) in _ASSETS.items():
        _serve_asset(app, path, file, media_type)

    @app.get("/api/state")
    async def state() -> Response:
        return JSONResponse(board.snapshot())

    @app.get("/api/events")
    async def events() -> Response:
        if streams.open >= MOST_STREAMS:
            return PlainTextResponse("too many pages are open; close one\n", status_code=503)
        return StreamingResponse(streams.events(), media_type="text/event-stream")

    @app.get("/metrics")
    async def scrape() -> Response:
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    @app.get("/healthz")
    async def healthz() -> Response:
        return PlainTextResponse("ok\n")

    app.add_middleware(Guard, hosts=frozenset(hosts), any_address=any_address)
    return app


def serve_dashboard(
    board: Board,
    address: str = "127.0.0.1:8080",
    *,
    allow_remote: bool = False,
    metrics: Metrics | None = None,
    also: Iterable[str] = (),
) -> Dashboard:
    """Serve ``board`` at ``host:port`` (port 0: any free one) until ``stop`` or the process ends.

    also : names under which a proxy in front asks for it

    Raises ConfigError for an address that is malformed, in use, or, without ``allow_remote``, not
    one of this machine's loopback addresses.
    """
    host, port = _split(address)
    listening = _listen(host, port, address, allow_remote)
    port = listening.getsockname()[1]
    bound = ipaddress.ip_address(listening.getsockname()[0])
    hosts, stopping = _hosts(host, bound, also), threading.Event()
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


def _hosts(host: str, bound: _Address, also: Iterable[str]) -> set[str]:
    hosts = {*LOOPBACK_HOSTS, host.lower(), str(bound), *map(str.lower, also)}
    return hosts | {socket.gethostname().lower()} if bound.is_unspecified else hosts


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
    except (OSError, UnicodeError):  # the latter for a label that is too long
        raise ConfigError(
            f"--dashboard {address:.80}: the host can't be resolved; give an address of this "
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


def _serve_asset(app: FastAPI, path: str, file: str, media_type: str) -> None:
    text = (importlib.resources.files(__package__) / file).read_text("utf-8")

    @app.get(path)
    async def asset() -> Response:
        return Response(text, media_type=media_type)
