"""The board as server-sent events."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

from wardround.server.display.board import Board

PUSH_EVERY_S = 0.5
HEARTBEAT_S = 10.0


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
