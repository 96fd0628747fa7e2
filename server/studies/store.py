"""``StudyStore``: the studies of a network, in a database that several servers may share.

Invariants: each change compares state and fence and sets the new ones in one transaction, with its
event; a state follows another only where ``may_follow`` says so; what is refused has written
nothing. Every write takes ``lead``, the fence of the network's lease, where only the server that
leads may make it. After DatabaseAway the same call may be made again: it counts once.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from wardround.common.errors import StudyUnknown
from wardround.common.study.states import State
from wardround.server.studies import course, leases
from wardround.server.studies.changes import COLUMNS, Change, asked, line, read_row, read_rows
from wardround.server.studies.connecting import WRITES, Place, connect
from wardround.server.studies.rows import (
    Decision,
    Delivery,
    Event,
    NewStudy,
    StudyRow,
    What,
    Word,
)
from wardround.server.studies.schema import bring_up
from wardround.server.studies.tables import clock, decisions, deliveries, events, network, studies

Rows = list[StudyRow]  # `list` is a method below
Events = list[Event]
Decisions = list[Decision]
Deliveries = list[Delivery]
MOST_EVENTS = 1000
_TURN_S = 10.0


class StudyStore:
    """An open database of studies: use it as a context manager or close it. Threads may share it;
    processes open it each.

    name : of the database in messages, without a password
    database : its own mark, made with it: numbers of events mean something together with it

    Every method raises DatabaseAway where the database gives no answer.
    """

    def __init__(self, place: Place, engine: sa.Engine) -> None:
        self.name, self._place, self._engine = place.name, place, engine
        # SQLite has one writer: threads of this process take turns here, and not by its polling
        self._turn = threading.Lock() if engine.dialect.name == "sqlite" else None
        self.database = ""

    @classmethod
    def open(cls, database: str | Path) -> StudyStore:
        """Open a database, and make or bring up its tables.

        database : a file of SQLite, or a URL ('postgresql+psycopg://USER@HOST/NAME')

        Raises ConfigError, which names ``network.database``, where it can't be one or was written
        by a newer wardround; DatabaseAway where it gives no answer.
        """
        place = Place(database)
        store = cls(place, connect(place))
        try:
            with store._transaction() as connection:
                bring_up(connection, place)
            with store._reading() as connection:
                store.database = connection.execute(sa.select(network.c.database)).scalar_one()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Let go of its connections."""
        self._engine.dispose()

    def __enter__(self) -> StudyStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- transactions -------------------------------------------------------------------------
    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._place.translated(), self._taking_turns(), self._engine.connect() as connection:
            with connection.execution_options(**{WRITES: True}).begin():
                yield connection

    @contextmanager
    def _taking_turns(self) -> Iterator[None]:
        if self._turn is None:
            yield
        elif not self._turn.acquire(timeout=_TURN_S):
            raise self._place.away("other threads of this server wait for it")
        else:
            try:
                yield
            finally:
                self._turn.release()

    @contextmanager
    def _changing(self, lead: int | None = None) -> Iterator[Change]:
        with self._transaction() as connection:
            change = Change(connection, lead)
            yield change
            change.finish()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """One moment of the database, however many statements."""
        with self._place.translated(), self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            with connection.begin():
                yield connection

    def now(self) -> float:
        """Unix seconds of the database's clock."""
        with self._reading() as connection:
            return float(connection.execute(sa.select(clock())).scalar_one())

    # --- leases -------------------------------------------------------------------------------
    def lead(self, owner: str, lease_s: float) -> int | None:
        """The network's lease for ``owner``: its fence, or None if another server holds it.

        owner : of one life of one process; asked again by the same one, it gets a new fence
        """
        with self._changing() as change:
            return leases.lead(change, owner, lease_s)

    def keep_lead(self, owner: str, fence: int, lease_s: float) -> bool:
        """Prolong the network's lease; False if it has passed to another. 0 seconds let go."""
        with self._changing() as change:
            return leases.keep_lead(change, owner, fence, lease_s)

    def claim(
        self, owner: str, lease_s: float, at_once: int, *, lead: int | None = None
    ) -> StudyRow | None:
        """The next study to be run: one that a silent server left, else the first queued. It is
        running then, with a new fence and a lease. None if there is none, or if ``at_once`` are
        in hand, whoever has them."""
        with self._changing(lead) as change:
            return leases.claim(change, owner, lease_s, at_once)

    def renew(self, id: str, fence: int, lease_s: float, *, lead: int | None = None) -> bool:
        """Prolong a running study's lease; False if it is over or another has claimed it, so that
        its run must stop. 0 seconds let go: it can be claimed at once."""
        with self._changing(lead) as change:
            return leases.renew(change, id, fence, lease_s)

    # --- studies ------------------------------------------------------------------------------
    def submit(self, new: NewStudy, who: str, *, lead: int | None = None) -> bool:
        """Keep a study; False if it is there already, and stays as it is.

        who : hands it in
        """
        with self._changing(lead) as change:
            connection = change.connection
            known = sa.select(studies.c.id).where(studies.c.id == new.id)
            if connection.execute(known).first() is not None:
                return False
            connection.execute(
                studies.insert().values(
                    id=new.id,
                    number=change.next_number,
                    name=new.name,
                    researcher=new.researcher,
                    body=new.body,
                    ends=new.ends,
                    state="submitted",
                    fence=0,
                    owner="",
                    lease_until=0.0,
                    turn=0,
                    reason="",
                    submitted=clock(),
                    changed=clock(),
                )
            )
            rows = [
                {"study": new.id, "hospital": hospital, "place": place}
                for place, hospital in enumerate(new.hospitals)
            ]
            connection.execute(
                decisions.insert().values(word="waiting", reason="", time=clock()), rows
            )
            change.event(new.id, "state", "", "submitted", who)
            return True

    def get(self, id: str) -> StudyRow:
        """Where a study stands. Raises StudyUnknown."""
        with self._reading() as connection:
            return read_row(connection, id)

    def body(self, id: str) -> bytes:
        """The signed study, as it was submitted. Raises StudyUnknown."""
        with self._reading() as connection:
            query = sa.select(studies.c.body).where(studies.c.id == asked(id))
            if (found := connection.execute(query).first()) is None:
                raise StudyUnknown("no such study", who=f"'{line(id, 64)}'")
            return bytes(found.body)

    def list(
        self,
        states: Collection[State] = (),
        researcher: str = "",
        hospital: str = "",
        newest: int | None = None,
    ) -> Rows:
        """Studies in the order of their submission.

        states : only in these; ``researcher``: only this one's; ``hospital``: only those that it is
            wanted in; ``newest``: only so many, the last
        """
        query = sa.select(*COLUMNS)
        if states:
            query = query.where(studies.c.state.in_(sorted(states)))
        if researcher:
            query = query.where(studies.c.researcher == asked(researcher))
        if hospital:
            wanted = sa.select(decisions.c.study).where(decisions.c.hospital == asked(hospital))
            query = query.where(studies.c.id.in_(wanted))
        query = query.order_by(studies.c.number.desc()).limit(newest)
        with self._reading() as connection:
            return read_rows(connection, query)[::-1]

    def find(self, text: str, researcher: str = "", most: int = 100) -> Rows:
        """Studies whose id begins with ``text``, or whose name it is, in the order of their
        submission; at most so many, the newest."""
        text = asked(text)
        query = sa.select(*COLUMNS).where(
            studies.c.id.startswith(text, autoescape=True) | (studies.c.name == text)
        )
        if researcher:
            query = query.where(studies.c.researcher == asked(researcher))
        with self._reading() as connection:
            newest = query.order_by(studies.c.number.desc()).limit(most)
            return read_rows(connection, newest)[::-1]

    def change(
        self,
        id: str,
        to: State,
        *,
        expect: State | Collection[State],
        fence: int,
        who: str,
        reason: str = "",
        results: Collection[str] = (),
        lead: int | None = None,
    ) -> StudyRow:
        """Bring a study from one of ``expect`` to ``to``, if that is still what it is.

        fence : of the row that the decision was made by
        results : where it is over: the hospitals that are owed its results. Each hospital that is
            wanted is owed the notice, if they were asked at all (so not from 'submitted')

        A repeat of the last change, with the same words, is answered and changes nothing. Only
        ``claim`` makes a study run. Raises Overtaken if state or fence are others by now,
        StudyRefused if no study goes that way, StudyUnknown.
        """
        expected = (expect,) if isinstance(expect, str) else tuple(expect)
        with self._changing(lead) as change:
            return course.move(change, id, to, expected, fence, who, reason, results)

    # --- hospitals ----------------------------------------------------------------------------
    def decide(
        self, id: str, hospital: str, word: Word, reason: str = "", *, lead: int | None = None
    ) -> bool:
        """Note what a hospital says to a study; False if that is what it said last.

        Raises StudyUnknown for one that isn't wanted (it learns nothing), Overtaken if the study
        is over.
        """
        with self._changing(lead) as change:
            return course.decide(change, id, hospital, word, reason)

    def decisions(self, id: str) -> Decisions:
        """What each hospital that is wanted has said, in the order of the signed study."""
        kept = decisions.c
        query = sa.select(kept.hospital, kept.word, kept.reason, kept.time).where(
            kept.study == asked(id)
        )
        with self._reading() as connection:
            rows = connection.execute(query.order_by(kept.place)).mappings()
            return [Decision(**row) for row in rows]

    def deliver(self, id: str, hospital: str, what: What, *, lead: int | None = None) -> bool:
        """Note that a hospital has what it was owed; False if that is noted. Raises StudyUnknown
        if nothing of the kind is owed."""
        with self._changing(lead) as change:
            return course.deliver(change, id, hospital, what)

    def deliveries(self, hospital: str = "", id: str = "", done: bool = False) -> Deliveries:
        """What is owed, or (``done``) was delivered: to this hospital, of this study, or of all;
        oldest study first, a study's results before its notice."""
        query = sa.select(deliveries).join(studies).where(deliveries.c.done == done)
        if hospital:
            query = query.where(deliveries.c.hospital == asked(hospital))
        if id:
            query = query.where(deliveries.c.study == asked(id))
        query = query.order_by(
            studies.c.number, deliveries.c.hospital, deliveries.c.what == "ended"
        )
        with self._reading() as connection:
            return [Delivery(**row) for row in connection.execute(query).mappings()]

    # --- events -------------------------------------------------------------------------------
    def events(self, id: str, after: int = 0) -> Events:
        """What happened to a study after event number ``after``, at most ``MOST_EVENTS``."""
        return self._events(events.c.study == asked(id), events.c.number > after)

    def unaudited(self) -> Events:
        """The oldest events that the audit log doesn't have yet, at most ``MOST_EVENTS``."""
        noted = sa.select(network.c.audited).scalar_subquery()
        return self._events(events.c.number > noted)

    def _events(self, *where: sa.ColumnElement[bool]) -> Events:
        query = sa.select(events).where(*where).order_by(events.c.number).limit(MOST_EVENTS)
        with self._reading() as connection:
            return [Event(**row) for row in connection.execute(query).mappings()]

    def audited(self, number: int) -> None:
        """Note that the audit log has all events up to this one.

        Raises ConfigError if there was no such event: the database was set back.
        """
        with self._changing() as change:
            if number > change.network.events:
                raise self._place.broken(
                    f"was set back: it has {change.network.events} events, and the audit log tells "
                    f"of event {number}",
                    "bring the newest database back",
                )
            if number > change.network.audited:
                change.connection.execute(network.update().values(audited=number))
