"""From the table of events to the audit log: each event is a line there, exactly once.

The line is written first, then the event is noted as audited. Between the two a crash leaves a
line whose event isn't noted, so the newest number that the log has is looked up when the log is
opened. A line names the database's mark too: another database counts from 1 again.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from wardround.common.audit.lines import told
from wardround.common.audit.log import AuditLog
from wardround.common.durable.whole import whole
from wardround.server.studies.rows import Event
from wardround.server.studies.store import StudyStore

EVENT = "study"
"""The audit line: database, number, study, kind, old, new, who, reason, at (its time)."""


class Outbox:
    """The events of a store on their way to the audit log of the server that leads.

    Threads may share it. Raises ConfigError if the log tells of events that the database doesn't
    have.

    Attributes
    ----------
    replaced : the log tells of studies of other databases, and of none of this one
    """

    def __init__(self, store: StudyStore, log: AuditLog) -> None:
        self._store, self._log, self._mutex = store, log, threading.Lock()
        newest = newest_told(log.path)
        self._written = newest.get(store.database, 0)
        self.replaced = self._written == 0 and bool(newest)
        store.audited(self._written)

    def send(self) -> int:
        """Bring what is new to the log; how many events that were.

        Raises AuditError, DatabaseAway; called again it goes on where it was.
        """
        sent = 0
        with self._mutex:
            while found := self._store.unaudited():
                new = [event for event in found if event.number > self._written]
                if new:  # else a line was written, and the database gave no answer
                    with whole():
                        self._log.append_many([(EVENT, self._fields(event)) for event in new])
                        self._written = new[-1].number
                self._store.audited(found[-1].number)
                sent += len(new)
        return sent

    def _fields(self, event: Event) -> dict[str, Any]:
        return {
            "database": self._store.database,
            "number": event.number,
            "study": event.study,
            "kind": event.kind,
            "old": event.old,
            "new": event.new,
            "who": event.who,
            "reason": event.reason,
            "at": round(event.time, 3),
        }


def newest_told(path: Path) -> dict[str, int]:
    """The newest event of each database that an audit log has lines of."""
    newest: dict[str, int] = {}
    for line in told(path, EVENT):
        name, number = line.get("database"), line.get("number")
        if isinstance(name, str) and type(number) is int:
            newest[name] = max(number, newest.get(name, 0))
    return newest
