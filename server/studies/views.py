"""Studies as a caller is shown them: rows of the database as frames, with what its role may see."""

from __future__ import annotations

import json
from collections.abc import Sequence

from wardround.common.study import frames
from wardround.common.study.states import State
from wardround.server.studies.desk import Progress, StudyDesk
from wardround.server.studies.rights import Caller, shown_decisions, shown_events, shown_reason
from wardround.server.studies.rows import Decision, Event, StudyRow

_UNDECIDED: tuple[State, ...] = ("submitted", "waiting")
_BEFORE: tuple[State, ...] = (*_UNDECIDED, "queued")


class Views:
    """Makes frames of what a desk has."""

    def __init__(self, desk: StudyDesk) -> None:
        self._desk = desk

    def line(self, caller: Caller, row: StudyRow, listed: bool = False) -> frames.Line:
        """Where a study stands; ``listed``: among many, of which only those that run are asked how
        far they are."""
        waiting: tuple[str, ...] = ()
        if row.state in _UNDECIDED:
            said = shown_decisions(caller, self._desk.decisions(row.id))
            waiting = tuple(one.hospital for one in said if one.word == "waiting")
        none = row.state in _BEFORE or (listed and row.state != "running")
        done = Progress(0, 0) if none else self._desk.progress(row.id)
        return frames.Line(
            id=row.id,
            name=row.name,
            researcher=row.researcher,
            state=row.state,
            reason=shown_reason(caller, row.state, row.reason),
            hospitals=row.hospitals,
            waiting_for=waiting,
            round=done.round,
            rounds=done.rounds,
            submitted=row.submitted,
            changed=row.changed,
            ends=row.ends,
        )

    def study_body(self, id: str) -> bytes:
        """The canonical JSON of the study in what was signed."""
        return str(json.loads(self._desk.signed(id))["study"]).encode()

    @staticmethod
    def decision(one: Decision) -> frames.Decision:
        """What a hospital said."""
        return frames.Decision(
            hospital=one.hospital, word=one.word, reason=one.reason, time=one.time
        )

    @staticmethod
    def events(caller: Caller, events: Sequence[Event], before: int) -> tuple[frames.Event, ...]:
        """What happened, as this caller is shown it, and numbered by what it is shown: numbers of
        the database would tell how much happens in studies that it may not see.

        before : how many it was shown of the events before these
        """
        return tuple(
            frames.Event(
                number=number,
                time=one.time,
                kind=one.kind,
                old=one.old,
                new=one.new,
                who=one.who,
                reason=one.reason,
            )
            for number, one in enumerate(shown_events(caller, events), before + 1)
        )
