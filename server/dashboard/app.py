"""The read-only dashboard: a page, its data as JSON and as server-sent events, and metrics.

Nothing can be changed through it: only GET is answered. It has no login, so it listens on
this machine only unless the operator asks for more; a request whose Host isn't this server's is
refused, lest another site's page read it by DNS rebinding. Every answer forbids inline scripts,
framing and caching, and the page loads nothing from elsewhere.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import ipaddress
import json
import threading
from collections.abc import AsyncIterator, Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wardround.server.board import Board
from wardround.server.dashboard.metrics import CONTENT_TYPE, Metrics

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
PUSH_EVERY_S = 0.5
HEARTBEAT_S = 10.0
MOST_STREAMS = 32

_ASSETS = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/curves.js": ("curves.js", "text/javascript"),
    "/hospitals.js": ("hospitals.js", "text/javascript"),
    "/text.js": ("text.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "object-src 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


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


class Guard:
    """Refuses what isn't a read addressed to this server; puts the security headers on all."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], any_address: bool) -> None:
        self._app, self._hosts, self._any_address = app, hosts, any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request."""
        if scope["type"] != "http":  # no websockets, no lifespan
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await (self._refusal(scope) or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        given = [value for key, value in scope["headers"] if key == b"host"]
        if len(given) != 1 or not self._is_ours(given[0].decode("latin-1")):
            return PlainTextResponse("this server doesn't go by that name\n", status_code=421)
        if scope["method"] != "GET":
            allow = {"Allow": "GET"}
            return PlainTextResponse("this page is read-only\n", status_code=405, headers=allow)
        return None

    def _is_ours(self, host: str) -> bool:
        """The port isn't compared: it may be another one behind an SSH tunnel."""
        name = bare_host(host)
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._any_address


class Streams:
    """Server-sent events: first the whole picture, then what changed, at most twice a second.

    While nothing changes, a comment keeps proxies content and the event 'alive' tells the page.
    """

    def __init__(self, board: Board, stopping: threading.Event) -> None:
        self._board, self._stopping = board, stopping
        self.open = 0

    async def events(self) -> AsyncIterator[str]:
        """The text of one stream."""
        self.open += 1
        try:
            version, silent_s = 0, 0.0
            while not self._stopping.is_set():
                if self._board.version > version:
                    picture = self._board.snapshot(version)
                    yield event("whole" if version == 0 else "change", picture)
                    version, silent_s = picture["version"], 0.0
                elif silent_s >= HEARTBEAT_S:
                    silent_s = 0.0
                    yield ": still here\n" + event("alive", {"version": version})
                await asyncio.sleep(PUSH_EVERY_S)
                silent_s += PUSH_EVERY_S
        finally:
            self.open -= 1


def event(kind: str, data: dict[str, Any]) -> str:
    """One server-sent event; JSON has no line breaks, so one data line holds it."""
    return f"event: {kind}\ndata: {json.dumps(data, allow_nan=False)}\n\n"


def bare_host(host: str) -> str:
    """A Host header's name or address without its port, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()


def _serve_asset(app: FastAPI, path: str, file: str, media_type: str) -> None:
    text = (importlib.resources.files(__package__) / file).read_text("utf-8")

    @app.get(path)
    async def asset() -> Response:
        return Response(text, media_type=media_type)
