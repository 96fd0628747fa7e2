"""Answers that come piece by piece: how many at once, and what is left of them."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from threading import Event
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI

from wardround.client.serving.desk import MOST_STREAMS, Desk

SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "method": "POST",
    "path": "/talk",
    "raw_path": b"/talk",
    "root_path": "",
    "query_string": b"",
    "headers": [(b"content-type", b"application/json")],
}


def endless(body: bytes, stop: Event) -> Generator[bytes, None, None]:
    while not stop.is_set():
        yield b"a"


class Reader:
    """Asks, takes the head, and reads no further; goes when it is told."""

    def __init__(self, app: Any) -> None:
        self.status, self._asked, self._goes = 0, False, asyncio.Event()
        self.over = asyncio.create_task(app(dict(SCOPE), self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._asked:
            await self._goes.wait()
            return {"type": "http.disconnect"}
        self._asked = True
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message.get("more_body"):
            await self._goes.wait()

    async def head(self) -> int:
        """The status, once it is there."""
        while not self.status:
            await asyncio.sleep(0.001)
        return self.status

    async def go(self) -> None:
        """Leave."""
        self._goes.set()
        await self.over


def test_readers_that_never_read_dont_fill_the_memory() -> None:
    """Each stream holds what its model has computed of it; who leaves gives it back."""
    app = FastAPI()
    desk = Desk(SimpleNamespace(is_over=lambda: False))  # type: ignore[arg-type]
    desk.route_events(app, "/talk", lambda body: b"{}", endless, "text/event-stream")

    async def main() -> None:
        readers = [Reader(app) for _ in range(MOST_STREAMS)]
        assert {await one.head() for one in readers} == {200}
        assert await Reader(app).head() == 503
        await readers[0].go()
        last = Reader(app)
        assert await last.head() == 200
        assert await Reader(app).head() == 503
        for one in [*readers[1:], last]:
            await one.go()

    asyncio.run(asyncio.wait_for(main(), 30))
