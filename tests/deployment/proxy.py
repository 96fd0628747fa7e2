"""A TCP proxy for faults: black hole, reset, slow link, cut after so many bytes, refusal.

With ``upstream`` it forwards everything there; without, it is an HTTP CONNECT proxy. One thread
serves all proxies of a test process. Faults are attributes that may be set at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

_T = TypeVar("_T")
_PIECE_BYTES = 16384


class _Loop:
    """The thread that all proxies share."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="proxies", daemon=True).start()


_shared: list[_Loop] = []


@dataclass
class FaultProxy:
    """Listens on a port of its own.

    refuse : reset whoever connects
    black_hole : take bytes of neither side; nothing is closed
    rate : bytes per second in each direction of a connection; 0 for no limit
    cut_after : reset when so many more bytes went up
    up, down : bytes that were passed on
    last_up : when bytes were last passed to the server (monotonic seconds)
    """

    upstream: int | None = None
    port: int = 0
    refuse: bool = False
    black_hole: bool = False
    rate: float = 0.0
    cut_after: int | None = None
    up: int = 0
    down: int = 0
    last_up: float = 0.0
    connections: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not _shared:
            _shared.append(_Loop())
        self._loop = _shared[0].loop
        self._server = self._call(self._listen())

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    @property
    def env(self) -> dict[str, str]:
        """Makes gRPC use this CONNECT proxy."""
        return {"https_proxy": f"http://127.0.0.1:{self.port}", "no_proxy": "", "NO_PROXY": ""}

    def reset(self) -> None:
        """Reset every connection that there is."""
        for writer in list(self._writers):
            self._loop.call_soon_threadsafe(_reset, writer)

    def heal(self) -> None:
        """No fault any more."""
        self.refuse = self.black_hole = False
        self.rate, self.cut_after = 0.0, None

    def close(self) -> None:
        """Stop to listen, end what there is."""
        self._loop.call_soon_threadsafe(self._server.close)
        self.heal()
        self.reset()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        other: asyncio.StreamWriter | None = None
        try:
            if self.refuse:
                return _reset(writer)
            port = self.upstream
            if port is None:
                head = await reader.readuntil(b"\r\n\r\n")
                port = int(head.split()[1].rpartition(b":")[2])
            try:
                other_reader, other = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                if self.upstream is None:
                    writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
                    await writer.drain()
                return
            self._writers.add(other)
            if self.upstream is None:
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            self.connections += 1
            await asyncio.gather(
                self._pass(reader, other, True, writer),
                self._pass(other_reader, writer, False, other),
            )
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            for one in (writer, other):
                if one is not None:
                    self._writers.discard(one)
                    with contextlib.suppress(OSError, RuntimeError):
                        one.close()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        is_up: bool,
        back: asyncio.StreamWriter,
    ) -> None:
        while data := await reader.read(_PIECE_BYTES):
            while self.black_hole:
                await asyncio.sleep(0.02)
            if self.rate:
                await asyncio.sleep(len(data) / self.rate)
            if is_up and self.cut_after is not None:
                self.cut_after -= len(data)
                if self.cut_after <= 0:
                    self.cut_after = None
                    _reset(writer)
                    return _reset(back)
            writer.write(data)
            await writer.drain()
            if is_up:
                self.up, self.last_up = self.up + len(data), time.monotonic()
            else:
                self.down += len(data)
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST rather than FIN."""
    found = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if writer.transport is not None:
        writer.transport.abort()
