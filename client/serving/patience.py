"""How long a connection may take to ask: a request's head must be whole in ``HEAD_S``.

uvicorn waits for ever for the first head, so that few idle connections kept everybody else out.
"""

from __future__ import annotations

import asyncio
from typing import Any

HEAD_S = 10.0


def patient_protocol(head_s: float = HEAD_S) -> type[asyncio.Protocol]:
    """uvicorn's protocol, that closes a connection whose head doesn't come."""
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    class Patient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._asked():
                self._stop()
            elif self._timer is None:
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _asked(self) -> bool:
            """Whether a request is being answered."""
            return self.cycle is not None and not self.cycle.response_complete

        def _wait(self) -> None:
            self._timer = asyncio.get_running_loop().call_later(head_s, self._over)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _over(self) -> None:
            self._timer = None
            if not self._asked():
                self.transport.close()

    return Patient
