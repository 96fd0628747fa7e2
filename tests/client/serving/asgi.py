"""Asks an ASGI application in this process, as an HTTP server would hand it a request."""

from __future__ import annotations

import asyncio
import json as plain_json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return plain_json.loads(self.content)


class Client:
    """One caller, of ``host``; its loop lives as long as it does."""

    def __init__(self, app: ASGIApp, host: str = "localhost") -> None:
        self._app, self._host = app, host
        self._runner = asyncio.Runner()

    def close(self) -> None:
        """The loop ends."""
        self._runner.close()

    def get(self, path: str, **more: Any) -> Answer:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> Answer:
        return self.request("POST", path, **more)

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | str | Iterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Sent in one piece, or in those that ``content`` gives."""
        given = {"host": self._host, **(headers or {})}
        if json is not None:
            content = plain_json.dumps(json).encode()
            given = {"content-type": "application/json", **given}
        content = content.encode() if isinstance(content, str) else content
        pieces = [content] if isinstance(content, bytes) else list(content)
        if len(pieces) == 1:
            given["content-length"] = str(len(pieces[0]))
        return self._runner.run(self._ask(method, path, pieces, given))

    async def _ask(
        self, method: str, path: str, pieces: list[bytes], headers: Mapping[str, str]
    ) -> Answer:
        name, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": name,
            "raw_path": name.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        waiting = list(pieces)
        sent: list[Message] = []

        async def receive() -> Message:
            if not waiting:  # the caller stays until it is answered
                await asyncio.Future()
            piece = waiting.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        start, *rest = sent
        found = {k.decode().lower(): v.decode() for k, v in start["headers"]}
        return Answer(start["status"], found, b"".join(one.get("body", b"") for one in rest))
