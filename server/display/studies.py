"""The live picture of a network: its studies as a list, and a ``Board`` of each that runs.

For whoever feeds it (the network's server process):

    studies = StudiesBoard("trust-network")
    studies.network.describe_run(RunFacts(hospitals=names, titles=titles))
    studies.put(StudyLine(id=..., name=..., owner=..., state="waiting", hospitals={...}))
    studies.event(id, StudyEvent(number=..., time=..., old="submitted", new="waiting", who=...))
    board = studies.begin(id, RunFacts(run=study.run, rounds=..., hospitals=[...], hidden=...))
    ...                        # `board` observes that study's rounds; also its audit and bytes
    studies.end(id)            # the board stays for a while, as the last picture

``studies.network`` is a ``Board`` too: give it to what tells of connections, once for all studies.
What it hears of a hospital's connection reaches the boards of the studies that this hospital is in.
A standby server puts lines as well, without boards.

Thread-safe and bounded, as a ``Board`` is: the newest studies, of each the newest events, and the
boards of those that run and of the last few that ended. It only records; nothing reads decisions
from it, and nothing here knows who may see what (``server/dashboard/views.py`` does).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wardround.server.display.board import Board
from wardround.server.display.board_rows import RunFacts
from wardround.server.display.study_lines import StudyEvent, StudyLine
from wardround.server.observer import Observer

MOST_STUDIES, MOST_EVENTS, MOST_ENDED_BOARDS = 1000, 100, 8


@dataclass
class _Kept:
    """A study; ``version`` is the list's when it last changed."""

    line: StudyLine
    version: int
    events: deque[StudyEvent] = field(default_factory=lambda: deque(maxlen=MOST_EVENTS))
    board: Board | None = None
    hospitals: frozenset[str] = frozenset()
    running: bool = False
    round: int = 0


class StudiesBoard:
    """Watches a network's studies; the module's docstring shows how it is fed.

    Parameters
    ----------
    name : the network's
    clock : gives seconds since 1970
    """

    def __init__(self, name: str, *, clock: Callable[[], float] = time.time) -> None:
        self.name, self._clock = name, clock
        self._lock = threading.RLock()
        self._version = 1
        self._studies: dict[str, _Kept] = {}
        self._ended: deque[str] = deque()
        self.network: Board = _NetworkBoard(self, RunFacts(run=name), clock=clock)

    # --- what the server tells ------------------------------------------------------------------
    def put(self, line: StudyLine) -> None:
        """A study is new, or something of its line changed; the whole line, as it is now."""
        with self._lock:
            kept = self._studies.get(line.id)
            if kept is None:
                self._make_room()
                self._studies[line.id] = _Kept(line, self._next())
            elif kept.line != line:
                kept.line, kept.version = line, self._next()

    def event(self, study: str, event: StudyEvent) -> None:
        """Something happened to a study that was put; an event that is there is not doubled."""
        with self._lock:
            kept = self._studies.get(study)
            if kept and not any(one.number == event.number for one in kept.events):
                kept.events.append(event)
                kept.version = self._next()

    def begin(self, study: str, facts: RunFacts, forward: Observer | None = None) -> Board:
        """The board of a study that was put, for its run from here on: an ``Observer``.

        One that begins again (after a crash, or at another server) gets a new board.
        forward : as ``Board`` has it

        Raises KeyError for a study that was never put.
        """
        with self._lock:
            kept = self._studies[study]
            kept.board = _StudyBoard(self, study, facts, forward=forward, clock=self._clock)
            kept.hospitals, kept.running = frozenset(facts.hospitals), True
            kept.round = 0
            kept.version = self._next()
            if study in self._ended:
                self._ended.remove(study)
            for row in self.network.snapshot()["hospitals"]:
                if row["name"] in kept.hospitals and row["up"]:
                    kept.board.connected(row["name"], row["address"], row["version"])
            return kept.board

    def end(self, study: str) -> None:
        """A study's run is over, or was left to another server: its board is the last picture."""
        with self._lock:
            kept = self._studies.get(study)
            if kept is None or kept.board is None or not kept.running:
                return
            kept.running, kept.version = False, self._next()
            self._ended.append(study)
            while len(self._ended) > MOST_ENDED_BOARDS:
                if old := self._studies.get(self._ended.popleft()):
                    old.board, old.version = None, self._next()

    # --- what readers ask -----------------------------------------------------------------------
    @property
    def version(self) -> int:
        """Grows with every change of the list; a study's own board has its own."""
        return self._version

    def now(self) -> float:
        """The clock that all times here are of."""
        return self._clock()

    def line(self, study: str) -> StudyLine | None:
        """One study's line; None: no such study is known here."""
        with self._lock:
            kept = self._studies.get(study)
            return kept.line if kept else None

    def board(self, study: str) -> Board | None:
        """The board of a study that runs, or ended lately; None: it has none here."""
        with self._lock:
            kept = self._studies.get(study)
            return kept.board if kept else None

    def running(self) -> dict[str, Board]:
        """The boards of the studies that run here, by id."""
        with self._lock:
            return {
                study: kept.board
                for study, kept in self._studies.items()
                if kept.running and kept.board is not None
            }

    def states(self) -> dict[str, int]:
        """How many studies are in each state."""
        found: dict[str, int] = {}
        with self._lock:
            for kept in self._studies.values():
                found[kept.line.state] = found.get(kept.line.state, 0) + 1
        return found

    def snapshot(self, since: int = 0) -> dict[str, Any]:
        """The list, ready for JSON, as study objects with their events; with ``since`` a version,
        only those that changed after it. ``known`` are the ids of all, newest first."""
        with self._lock:
            changed = [one for one in self._studies.values() if one.version > since]
            newest = sorted(
                self._studies.values(), key=lambda k: (k.line.submitted, k.line.id), reverse=True
            )
            return {
                "version": self._version,
                "now": self._clock(),
                "network": self.name,
                "known": [one.line.id for one in newest],
                "studies": [self._shown(one) for one in changed],
            }

    def one(self, study: str) -> dict[str, Any] | None:
        """One study as ``snapshot`` has it; None: no such study is known here."""
        with self._lock:
            kept = self._studies.get(study)
            return self._shown(kept) if kept else None

    # --- inside ---------------------------------------------------------------------------------
    def boards_of(self, hospital: str) -> list[Board]:
        """The boards of the running studies that a hospital is in."""
        with self._lock:
            return [
                kept.board
                for kept in self._studies.values()
                if kept.running and kept.board is not None and hospital in kept.hospitals
            ]

    def at_round(self, study: str, server_round: int) -> None:
        """A study's board tells which round runs."""
        with self._lock:
            kept = self._studies.get(study)
            if kept and kept.round != server_round:
                kept.round, kept.version = server_round, self._next()

    def _shown(self, kept: _Kept) -> dict[str, Any]:
        events = [one.shown() for one in kept.events]
        live = {"live": kept.running, "board": kept.board is not None}
        return kept.line.shown(kept.round) | live | {"events": events}

    def _next(self) -> int:
        self._version += 1
        return self._version

    def _make_room(self) -> None:
        """Let the study go that has been over for longest, or, of none, that came first."""
        if len(self._studies) < MOST_STUDIES:
            return
        oldest = min(
            self._studies.values(), key=lambda k: (not k.line.over, k.running, k.line.changed)
        )
        del self._studies[oldest.line.id]


class _StudyBoard(Board):
    """Tells the list which round runs."""

    def __init__(self, studies: StudiesBoard, study: str, facts: RunFacts, **more: Any) -> None:
        super().__init__(facts, **more)
        self._studies, self._study = studies, study

    def restore(self, rows: Iterable[Mapping[str, Any]]) -> None:
        rows = list(rows)
        super().restore(rows)
        if rows:
            self._studies.at_round(self._study, int(rows[-1]["round"]))

    def round_started(self, server_round: int, cohort: list[str], attempt: int) -> None:
        super().round_started(server_round, cohort, attempt)
        self._studies.at_round(self._study, server_round)


class _NetworkBoard(Board):
    """The connections, told on to the studies that each hospital is in."""

    def __init__(self, studies: StudiesBoard, facts: RunFacts, **more: Any) -> None:
        super().__init__(facts, **more)
        self._studies = studies

    def connected(self, name: str, address: str, version: str) -> None:
        super().connected(name, address, version)
        for board in self._studies.boards_of(name):
            board.connected(name, address, version)

    def disconnected(self, name: str, reason: str) -> None:
        super().disconnected(name, reason)
        for board in self._studies.boards_of(name):
            board.disconnected(name, reason)

    def revoked(self, name: str) -> None:
        super().revoked(name)
        for board in self._studies.boards_of(name):
            board.revoked(name)

    def seen(self, name: str) -> None:
        super().seen(name)
        for board in self._studies.boards_of(name):
            board.seen(name)
