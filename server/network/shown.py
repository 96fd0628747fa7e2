"""What a network's board is shown of the database: lines, events, and a board of each that runs."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from contextlib import suppress

from wardround.common.errors import WardroundError
from wardround.common.settings import TRAIN
from wardround.common.study.study import SignedStudy, Study
from wardround.server.display.board import Board
from wardround.server.display.studies import StudiesBoard
from wardround.server.display.study_lines import Said, StudyEvent, StudyLine
from wardround.server.network.study_run import StudyRun
from wardround.server.network.told import StudyLog, tell_event
from wardround.server.studies.rows import Event, StudyRow
from wardround.server.studies.store import StudyStore

_NEWEST, _MOST_KNOWN = 200, 1000


class Shown:
    """Feeds the board, event by event.

    Raises DatabaseAway; called again it goes on.
    """

    def __init__(self, store: StudyStore, board: StudiesBoard) -> None:
        self._store, self._board = store, board
        self._studies: dict[str, Study] = {}

    def all(self) -> None:
        """Show the newest studies as they are: once, when a server begins to lead or to wait."""
        for row in self._store.list(newest=_NEWEST):
            self._put(row)
            self._events(self._store.events(row.id))

    def new(self, events: Iterable[Event]) -> None:
        """Show what has happened."""
        events = list(events)
        rows = {id: self._store.get(id) for id in dict.fromkeys(one.study for one in events)}
        for row in rows.values():
            self._put(row)
        for event in events:
            tell_event(rows[event.study].name, event)
        self._events(events)

    def begin(self, run: StudyRun) -> Board:
        """The board that a study's rounds are told to."""
        self._put(self._store.get(run.study.id))
        name = f"{run.study.name} ({run.study.id[:12]})"
        told = StudyLog(name, run.config.federation.rounds, run.task.figure_table().primary)
        board = self._board.begin(run.study.id, run.facts(), forward=told)
        board.restore(run.run.rounds())
        return board

    def end(self, id: str) -> None:
        """A study's run is over."""
        self._board.end(id)

    def _events(self, events: Iterable[Event]) -> None:
        for one in events:
            said = StudyEvent(
                number=one.number,
                time=one.time,
                old=one.old,
                new=one.new,
                who=one.who,
                reason=one.reason,
                kind=one.kind,
            )
            self._board.event(one.study, said)

    def _put(self, row: StudyRow) -> None:
        study = self._study(row)
        said = {one.hospital: one for one in self._store.decisions(row.id)}
        self._board.put(
            StudyLine(
                id=row.id,
                name=row.name,
                owner=row.researcher,
                state=row.state,
                rounds=_rounds(study),
                purpose=study.purpose if study else "",
                hospitals={
                    name: Said(word=one.word, reason=one.reason) for name, one in said.items()
                },
                reason=row.reason,
                submitted=row.submitted,
                changed=row.changed,
                ends=study.ends if study else "",
            )
        )

    def _study(self, row: StudyRow) -> Study | None:
        """What was asked, for people; None of one that this version can't read."""
        if row.id not in self._studies:
            while len(self._studies) >= _MOST_KNOWN:
                del self._studies[next(iter(self._studies))]
            with suppress(WardroundError):
                self._studies[row.id] = SignedStudy.known(self._store.body(row.id))
        return self._studies.get(row.id)


def _rounds(study: Study | None) -> int:
    """As asked; 0 of what trains nothing."""
    settings = tomllib.loads(study.settings) if study else {}
    if settings.get("procedure", {}).get("name", TRAIN) != TRAIN:
        return 0
    rounds = settings.get("federation", {}).get("rounds", 0)
    return rounds if isinstance(rounds, int) else 0
