"""What hospitals are owed when a study is over: that it is, and the results if they took part.

Owed and delivered is the database's to say, so that a hospital that was away gets it when it comes
back, from whichever server leads then. One thread for each hospital that is owed something.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator

from wardround.common.errors import StudyRefused, StudyUnknown, WardroundError
from wardround.common.flower.hosting import Message
from wardround.common.protocol.results import StudyEnded, StudyFile, StudyReply
from wardround.common.results.package import list_digest
from wardround.server.network.stored import asked
from wardround.server.network.study_run import Premises, run_folder
from wardround.server.results.deliver import deliveries, ended
from wardround.server.results.package import FOLDER, package_of
from wardround.server.studies.rights import Caller, shown_reason
from wardround.server.studies.rows import Delivery, StudyRow
from wardround.server.studies.store import StudyStore
from wardround.server.transport.grid import HospitalGrid
from wardround.server.transport.links import Link

log = logging.getLogger("wardround.server")

_ANSWER_WITHIN_S = 120.0
_AGAIN_S = 30.0


class Deliverer:
    """Brings what is owed to hospitals that are connected.

    Parameters
    ----------
    lead : the fence that this server leads under
    most_bytes : of a message
    """

    def __init__(self, premises: Premises, store: StudyStore, lead: int, most_bytes: int) -> None:
        self._premises, self._store, self._lead = premises, store, lead
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._told: dict[tuple[str, str], str] = {}
        self._links: dict[str, Link] = {}
        self._stopped = False

    def look(self) -> None:
        """Begin with every hospital that is connected and owed something. Raises DatabaseAway."""
        connected = set(self._premises.port.hall.connected())
        if not connected:
            return
        owed: dict[str, list[Delivery]] = defaultdict(list)
        for one in self._store.deliveries():
            if one.hospital in connected:
                owed[one.hospital].append(one)
        for hospital, those in owed.items():
            with self._lock:
                early = time.monotonic() < self._not_before.get(hospital, 0.0)
                if self._stopped or early or hospital in self._busy:
                    continue
                self._busy.add(hospital)
            threading.Thread(target=self._bring, args=(hospital, those), daemon=True).start()

    def connected(self, hospital: str) -> None:
        """A hospital is back: what it couldn't take before, it may take now; and what it was being
        brought, its next process is brought."""
        with self._lock:
            self._not_before.pop(hospital, None)
            link = self._links.get(hospital)
        if link is not None:
            link.admitted = True

    def stop(self) -> None:
        """Begin with nobody any more."""
        with self._lock:
            self._stopped = True

    def _bring(self, hospital: str, owed: list[Delivery]) -> None:
        try:
            for id in dict.fromkeys(one.study for one in owed):
                if self._stopped:
                    return
                what = {one.what for one in owed if one.study == id}
                try:
                    self._one(hospital, id, "results" in what)
                except (WardroundError, OSError) as error:
                    self._later(hospital, id, str(error))
        finally:
            with self._lock:
                self._busy.discard(hospital)

    def _later(self, hospital: str, id: str, why: str) -> None:
        with self._lock:
            self._not_before[hospital] = time.monotonic() + _AGAIN_S
        if self._told.get((hospital, id)) != why:
            self._told[hospital, id] = why
            log.warning("the end of study %s isn't brought to %s yet: %s", id[:12], hospital, why)

    def _one(self, hospital: str, id: str, results: bool) -> None:
        row = self._store.get(id)
        study, digest = asked(self._store, row), ""
        if hospital not in study.hospitals:
            raise StudyRefused(
                "the database has it that another hospital is owed it than was asked"
            )
        run = study.run
        grid = HospitalGrid(run, self._premises.port.hall, id)
        link = grid.link(hospital)
        link.admitted = True  # it takes part in nothing any more: it is told the end
        with self._lock:
            self._links[hospital] = link
        try:
            for message in self._messages(row, Caller("hospital", hospital), results):
                if isinstance(message, StudyEnded) and message.files:
                    digest = list_digest(message.files)
                request = Message(message.to_records(), link.node_id, message.type)
                for reply in grid.send_and_receive([request], timeout=_ANSWER_WITHIN_S):
                    if reply.has_error():
                        raise WardroundError(reply.error.reason or "it gave no reason")
                    StudyReply.from_records(reply.content)
                    break
                else:
                    raise WardroundError("it didn't answer")
        finally:
            with self._lock:
                del self._links[hospital]
            grid.close()
        self._premises.port.diary.brought(hospital, id, run, row.state, digest)
        for what in ("results", "ended") if results else ("ended",):
            try:
                self._store.deliver(id, hospital, what, lead=self._lead)
            except StudyUnknown:
                continue

    def _messages(
        self, row: StudyRow, to: Caller, results: bool
    ) -> Iterator[StudyFile | StudyEnded]:
        if results:
            folder = run_folder(self._premises.runs, row) / FOLDER
            package = package_of(folder, self._premises.identity.public)
            yield from deliveries(folder, package, self._most_bytes)
        else:
            yield ended(row.id, row.state, shown_reason(to, row.state, row.reason))
