"""The read-only dashboard: pages, their data as JSON and as server-sent events, and metrics.

Nothing can be changed through it: only GET is answered, but for the forms to sign in and out. It
shows one federation's run (a ``Board``) or a network's studies (a ``StudiesBoard``). A request
whose Host isn't this server's is refused, lest another site's page read it by DNS rebinding. Every
answer forbids inline scripts, framing and caching, and a page loads nothing from elsewhere.
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
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.requests import Request

from wardround.common.errors import ConfigError
from wardround.common.settings.dashboard import DashboardTable
from wardround.server.dashboard.guard import Guard
from wardround.server.dashboard.listening import (
    LOOPBACK_HOSTS,
    check_certificate,
    hosts_of,
    listen,
    split,
)
from wardround.server.dashboard.metrics import CONTENT_TYPE, Metrics
from wardround.server.dashboard.sign_in.door import Door
from wardround.server.dashboard.sign_in.pages import POSTS, PUBLIC, Pages
from wardround.server.dashboard.sign_in.setup import SignIn
from wardround.server.dashboard.streams import (
    BoardSource,
    ListSource,
    Source,
    Streams,
    StudySource,
)
from wardround.server.dashboard.views import sight_in_run, sight_of
from wardround.server.display.board import Board
from wardround.server.display.studies import StudiesBoard

_START_S, _STOP_S = 20.0, 5.0
_MOST_CONNECTIONS = 128
_STUDY = re.compile(r"[0-9a-f]{64}")
_ASSETS = {
    "page.css": "text/css",
    "studies.css": "text/css",
    "page.js": "text/javascript",
    "curves.js": "text/javascript",
    "hospitals.js": "text/javascript",
    "studies.js": "text/javascript",
    "study.js": "text/javascript",
    "stream.js": "text/javascript",
    "text.js": "text/javascript",
    "icon.svg": "image/svg+xml",
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
    shown: Board | StudiesBoard,
    metrics: Metrics,
    hosts: Iterable[str] = LOOPBACK_HOSTS,
    *,
    any_address: bool = False,
    sign_in: SignIn | None = None,
    stopping: threading.Event | None = None,
) -> FastAPI:
    """The application.

    Parameters
    ----------
    hosts : names and addresses under which it may be asked for, in lower case, without port
    any_address : any IP address will do too (a rebound name is never one)
    sign_in : who is let in; None: everybody who reaches it
    stopping : once set, event streams end
    """
    app = FastAPI(title="Wardround", docs_url=None, redoc_url=None, openapi_url=None)
    streams = Streams(stopping or threading.Event())
    for file, media_type in _ASSETS.items():
        _serve_asset(app, file, media_type)
    if isinstance(shown, StudiesBoard):
        _serve_network(app, shown, streams)
    else:
        _serve_run(app, shown, streams)

    @app.get("/metrics")
    async def scrape() -> Response:
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    @app.get("/healthz")
    async def healthz() -> Response:
        return PlainTextResponse("ok\n")

    if sign_in:
        Pages(sign_in).add_to(app)
    else:
        _serve_nobody(app)
    public = frozenset({"/healthz", *(f"/{file}" for file in _ASSETS)}) | PUBLIC
    app.add_middleware(Door, sign_in=sign_in, public=public)
    posts = POSTS if sign_in else frozenset()
    app.add_middleware(Guard, hosts=frozenset(hosts), any_address=any_address, posts=posts)
    return app


def _serve_nobody(app: FastAPI) -> None:
    """Who is signed in, where nobody has to."""

    @app.get("/api/me")
    async def me() -> Response:
        return JSONResponse({"name": "", "roles": [], "form": ""})


def _serve_run(app: FastAPI, board: Board, streams: Streams) -> None:
    """The page of a federation's one run."""
    page = _text("page.html")

    def source(request: Request) -> BoardSource | None:
        visitor = request.scope["visitor"]
        sight = sight_in_run(visitor, board.hospitals())
        return BoardSource(board, visitor, sight) if sight else None

    @app.get("/")
    async def index() -> Response:
        return Response(page, media_type="text/html")

    @app.get("/api/state")
    async def state(request: Request) -> Response:
        return _told(source(request))

    @app.get("/api/events")
    async def events(request: Request) -> Response:
        return _streamed(request, source(request), streams)


def _serve_network(app: FastAPI, studies: StudiesBoard, streams: Streams) -> None:
    """The list of a network's studies, and a page of each."""
    index_page = _text("studies.html")
    # the study's page lies one folder below what it loads
    study_page = re.sub(r'((?:href|src)=")(?=[a-z])', r"\1../", _text("page.html"))

    def source(request: Request, study: str) -> StudySource | None:
        visitor, line = request.scope["visitor"], studies.line(study)
        return StudySource(studies, study, visitor) if line and sight_of(visitor, line) else None

    @app.get("/")
    async def index() -> Response:
        return Response(index_page, media_type="text/html")

    @app.get("/studies/{study}")
    async def page(study: str) -> Response:
        # the same for every study, known or not: what is on it is asked for by the page
        if not _STUDY.fullmatch(study):
            return PlainTextResponse("no such page\n", 404)
        return Response(study_page, media_type="text/html")

    @app.get("/api/state")
    async def state(request: Request) -> Response:
        return _told(ListSource(studies, request.scope["visitor"]))

    @app.get("/api/events")
    async def events(request: Request) -> Response:
        return _streamed(request, ListSource(studies, request.scope["visitor"]), streams)

    @app.get("/api/studies/{study}/state")
    async def study_state(request: Request, study: str) -> Response:
        return _told(source(request, study))

    @app.get("/api/studies/{study}/events")
    async def study_events(request: Request, study: str) -> Response:
        return _streamed(request, source(request, study), streams)


def _told(source: Source | None) -> Response:
    news = source.news() if source else None
    return JSONResponse(news[1]) if news else JSONResponse({"error": "nothing of that name"}, 404)


def _streamed(request: Request, source: Source | None, streams: Streams) -> Response:
    if source is None:
        return JSONResponse({"error": "nothing of that name"}, 404)
    name = request.scope["visitor"].name
    if streams.full(name):
        return PlainTextResponse("too many pages are open; close one\n", status_code=503)
    events = streams.events(source, request.scope["still"], name)
    return StreamingResponse(events, media_type="text/event-stream")


def serve_dashboard(
    shown: Board | StudiesBoard,
    address: str = "127.0.0.1:8080",
    *,
    settings: DashboardTable | None = None,
    sign_in: SignIn | None = None,
    open_to_all: bool = False,
    metrics: Metrics | None = None,
    also: Iterable[str] = (),
    folder: Path = Path(),
) -> Dashboard:
    """Serve ``shown`` at ``host:port`` (port 0: any free one) until ``stop`` or the process ends.

    settings : its URL and certificate
    sign_in : who is let in; without it everybody who reaches the address
    open_to_all : so that others than this machine may reach it without signing in
    also : names under which a proxy in front asks for it
    folder : that the certificate's files are meant from

    Raises ConfigError for an address that is malformed, in use, or that others could reach without
    signing in, or sign in at without TLS.
    """
    settings, (host, _) = settings or DashboardTable(), split(address)
    names, tls = list(also), bool(settings.certificate)
    if tls:
        check_certificate(folder / settings.certificate, folder / settings.key)
    listening = listen(address, names, sign_in, open_to_all)
    port = listening.getsockname()[1]
    bound, stopping = ipaddress.ip_address(listening.getsockname()[0]), threading.Event()
    app = create_dashboard(
        shown,
        metrics or Metrics(shown),
        hosts_of(host, bound, names, settings.url),
        any_address=bound.is_unspecified,
        sign_in=sign_in,
        stopping=stopping,
    )
    server = uvicorn.Server(_config(app, folder, settings))
    thread = _started(server, listening, address)
    at = f"[{host}]" if ":" in host else host
    return Dashboard(f"http{'s' * tls}://{at}:{port}/", server, thread, stopping)


def _config(app: FastAPI, folder: Path, settings: DashboardTable) -> uvicorn.Config:
    return uvicorn.Config(
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
        ssl_certfile=folder / settings.certificate if settings.certificate else None,
        ssl_keyfile=folder / settings.key if settings.key else None,
    )


def _started(server: uvicorn.Server, listening: socket.socket, address: str) -> threading.Thread:
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listening]}, name="dashboard", daemon=True
    )
    thread.start()
    deadline = time.monotonic() + _START_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise ConfigError(f"--dashboard {address}: it can't be started; try another port")
        time.sleep(0.01)
    return thread


def _text(file: str) -> str:
    return (importlib.resources.files(__package__) / file).read_text("utf-8")


def _serve_asset(app: FastAPI, file: str, media_type: str) -> None:
    text = _text(file)

    @app.get(f"/{file}")
    async def asset() -> Response:
        return Response(text, media_type=media_type)
