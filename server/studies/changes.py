"""One change of the database of studies: a transaction, and the events that it leaves.

Every change locks the network's row first. So changes are made one after the other, an event's
number is in the order of commits, and whether the writer still leads is known until it ends.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from wardround.common.errors import Deposed, StudyUnknown
from wardround.common.study.states import State
from wardround.common.text import one_line
from wardround.server.studies.rows import MOST_REASON, MOST_WHO, Kind, StudyRow
from wardround.server.studies.tables import clock, decisions, events, network, studies

COLUMNS = [column for column in studies.columns if column.name not in ("body", "turn")]


def line(text: str, most: int = MOST_REASON) -> str:
    """A text as it is kept: one line, bounded, without what a database refuses."""
    return one_line(text, most) if text else ""


def asked(text: str) -> str:
    """A text to be looked for: itself, or one that nothing is called where no name, id or owner can
    be so, as databases refuse some of these."""
    return text if text.isprintable() and len(text) <= MOST_WHO else "?"


class Change:
    """A transaction under way, with the network's row locked.

    lead : the fence of the server that makes it, where it must lead; Deposed if another does
    """

    def __init__(self, connection: sa.Connection, lead: int | None) -> None:
        self.connection = connection
        self.network = connection.execute(sa.select(network).with_for_update()).one()
        self._events = int(self.network.events)
        if lead is not None and lead != self.network.fence:
            raise Deposed("another server leads by now", mend="ask again, and it answers")

    def event(self, study: str, kind: Kind, old: str, new: str, who: str, reason: str = "") -> int:
        """Note what is changed, and return its number."""
        self._events += 1
        row = {
            "number": self._events,
            "study": study,
            "kind": kind,
            "old": old,
            "new": new,
            "who": line(who, MOST_WHO),
            "reason": line(reason),
        }
        self.connection.execute(events.insert().values(**row, time=clock()))
        return self._events

    @property
    def next_number(self) -> int:
        """Of the event that comes next."""
        return self._events + 1

    def finish(self) -> None:
        """Count the events: the last step of the transaction."""
        if self._events != self.network.events:
            self.connection.execute(network.update().values(events=self._events))


def read_row(connection: sa.Connection, id: str) -> StudyRow:
    """A study. Raises StudyUnknown."""
    found = read_rows(connection, sa.select(*COLUMNS).where(studies.c.id == asked(id)))
    if not found:
        raise StudyUnknown("no such study", who=f"'{line(id, 64)}'")
    return found[0]


def read_rows(connection: sa.Connection, query: sa.Executable) -> list[StudyRow]:
    """The studies that a statement gives the ``COLUMNS`` of, in its order."""
    rows = connection.execute(query).mappings().all()
    wanted: dict[str, list[str]] = {row["id"]: [] for row in rows}
    for some in _parts(list(wanted)):
        of_these = sa.select(decisions.c.study, decisions.c.hospital)
        of_these = of_these.where(decisions.c.study.in_(some)).order_by(decisions.c.place)
        for study, hospital in connection.execute(of_these):
            wanted[study].append(hospital)
    return [StudyRow(**row, hospitals=tuple(wanted[row["id"]])) for row in rows]


def _parts(ids: Sequence[str], size: int = 500) -> list[Sequence[str]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def is_repeat(
    connection: sa.Connection, row: StudyRow, old: Collection[State], who: str, reason: str
) -> bool:
    """Whether the last change of state was this one: whoever asks again got no answer then."""
    query = sa.select(events).where(events.c.study == row.id, events.c.kind.in_(("state", "claim")))
    last = connection.execute(query.order_by(events.c.number.desc()).limit(1)).one()
    same = (last.new, last.who, last.reason) == (row.state, line(who, MOST_WHO), line(reason))
    return same and last.kind == "state" and last.old in old
