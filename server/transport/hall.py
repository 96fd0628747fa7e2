"""All hospitals' connections to a server, whatever is asked over them.

A ``Hall`` has one ``Line`` for each hospital. Grids (``grid.py``), one for each study, ask over it.
"""

from __future__ import annotations

import threading
from pathlib import Path

from wardround.common.transport.frames import Start
from wardround.server.transport.events import ServerEvents
from wardround.server.transport.line import Line


class Hall:
    """The connections of a server.

    Parameters
    ----------
    lease_s : a hospital that was silent so long is away
    most_bytes : of a message, and of all that one hospital is sending
    spool : folder for what comes
    most_spool_bytes : of all answers that are here, or are coming; None: any number

    Attributes
    ----------
    changed : guards lines and links; notified when a reply is here, or a hospital comes or goes
    """

    def __init__(
        self,
        lease_s: float,
        most_bytes: int,
        spool: Path,
        events: ServerEvents,
        most_spool_bytes: int | None = None,
    ) -> None:
        self.lease_s, self.events = lease_s, events
        self.changed = threading.Condition()
        self.lines: dict[str, Line] = {}
        self._most_bytes, self._spool = most_bytes, spool
        self._most_spool_bytes = most_spool_bytes

    def line(self, name: str) -> Line:
        """The line of a hospital, made when it is first needed."""
        with self.changed:
            if name not in self.lines:
                self.lines[name] = Line(
                    name, self._most_bytes, self._spool, self.changed, self.events, self._full
                )
            return self.lines[name]

    def connected(self) -> list[str]:
        """Names of the hospitals that have a connection."""
        with self.changed:
            return sorted(name for name, line in self.lines.items() if line.connected)

    def sweep(self) -> None:
        """Drop what came in part of answers that nobody waits for any more: of hospitals that have
        left, were revoked, or were too slow. Called again and again, by the server's watch."""
        for line in list(self.lines.values()):
            line.mailbox.sweep()

    def give_up_silent(self) -> None:
        """Answer for hospitals that are away: what they were asked gets an error, and whoever waits
        goes on. Called again and again, by the server's watch."""
        for line in list(self.lines.values()):
            if not line.connected and line.silent_s() > self.lease_s:
                line.fail_all(
                    f"the connection is lost, and not back within server.lease_s = {self.lease_s:g}"
                )

    def _full(self, line: Line, start: Start) -> str:
        """Why the spool has no room for an answer of this hospital; '' if it has."""
        if self._most_spool_bytes is None:
            return ""
        others = sum(x.spooled_bytes() for x in list(self.lines.values()) if x is not line)
        if others + line.spooled_bytes(start.id) + start.size_bytes <= self._most_spool_bytes:
            return ""
        return (
            "the server's spool is full (server.max_spool_mb = "
            f"{self._most_spool_bytes >> 20}: answers that are here or coming)"
        )
