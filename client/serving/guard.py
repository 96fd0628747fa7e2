"""What every request passes before anything reads it: to us, by whom, how large, how long.

A pure layer of ASGI, so that it holds for paths that don't exist, too. It tells in one sentence
what is wrong, and knows nothing of models.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wardround.client.serving.door import Door
from wardround.common.address import goes_by

log = logging.getLogger("wardround.serve")
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
OPEN = frozenset({"/health"})
"""Paths that are answered without a token: they tell nothing but that there is somebody."""


@dataclass(frozen=True)
class Limits:
    """How much of anything there may be.

    body_bytes : of one request
    rows : of one request
    waiting : requests that are being read or wait for the model
    body_s : until a body must be whole
    answer_s : until it must be answered, and the answer taken
    """

    body_bytes: int = 16 << 20
    rows: int = 100_000
    waiting: int = 64
    body_s: float = 20.0
    answer_s: float = 120.0


class Guard:
    """Refuses, or passes on with the body read.

    hosts : names it may be asked for under, in small letters
    any_address : any IP address will do, too (a rebound name is never one)
    told : of each request that is over: the route's path ('' for none), status, seconds
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: frozenset[str],
        any_address: bool,
        door: Door,
        limits: Limits,
        told: Callable[[str, int, float], None],
    ) -> None:
        self._app, self._hosts, self._any_address = app, hosts, any_address
        self._door, self._limits, self._told = door, limits, told
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request."""
        if scope["type"] != "http":  # no websockets, no lifespan
            return
        began, status = time.perf_counter(), 500

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        try:
            await self._answer(scope, receive, guarded)
        finally:
            self._told(_path_of(scope), status, time.perf_counter() - began)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if refusal := self._refusal(scope):
            await refusal(scope, receive, send)
            return
        if self._inside >= self._limits.waiting and scope["path"] not in OPEN:
            await _says(503, "too many requests at once; try again", {"Retry-After": "1"})(
                scope, receive, send
            )
            return
        self._inside += 1
        try:
            body = await self._body(scope, receive)
            if isinstance(body, JSONResponse):
                await body(scope, receive, send)
                return
            async with asyncio.timeout(self._limits.answer_s):
                await self._app(scope, _given(body, receive), send)
        except TimeoutError:
            log.warning("a request took too long, or its answer wasn't taken")
        finally:
            self._inside -= 1

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = scope["headers"]
        given = [value for key, value in headers if key == b"host"]
        named = given[0].decode("latin-1") if len(given) == 1 else ""
        if not named or not goes_by(named, self._hosts, self._any_address):
            return _says(421, "this server doesn't go by that name")
        if any(key == b"origin" for key, _ in headers):
            return _says(403, "web pages of others aren't answered")
        if scope["path"] not in OPEN and not self._door.lets_in(headers):
            asks = {"WWW-Authenticate": "Bearer"}
            return _says(401, "give the token: Authorization: Bearer TOKEN", asks)
        return None

    async def _body(self, scope: Scope, receive: Receive) -> bytes | JSONResponse:
        most = self._limits.body_bytes
        large = _says(413, f"the body has over {most} bytes; ask in parts")
        lengths = [value for key, value in scope["headers"] if key == b"content-length"]
        if lengths and lengths[0].isdigit() and (len(lengths[0]) > 18 or int(lengths[0]) > most):
            return large
        pieces, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_s):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return _says(400, "the request ended in its middle")
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    if size > most:
                        return large
                    if not message.get("more_body", False):
                        return b"".join(pieces)
        except TimeoutError:
            return _says(408, "the body didn't come in time", {"Connection": "close"})


def _given(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """The body as one message; then what the connection says."""
    given = False

    async def read() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return read


def _path_of(scope: Scope) -> str:
    """The route's own path; '' where no route answered."""
    return str(getattr(scope.get("route"), "path", ""))


def _says(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": reason}, status, headers)
