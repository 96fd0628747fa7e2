"""What a page shows, as server-sent events: first the whole picture, then what changed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from wardround.server.dashboard.sign_in.roles import Visitor
from wardround.server.dashboard.views import (
    Sight,
    picture_for,
    sees_rounds,
    sight_of,
    study_for,
)
from wardround.server.display.board import Board
from wardround.server.display.studies import StudiesBoard

MOST_STREAMS, MOST_EACH = 32, 8
PUSH_EVERY_S = 0.5
HEARTBEAT_S = 10.0


class Source(Protocol):
    """What one stream tells; it remembers what it has told."""

    def news(self) -> tuple[str, dict[str, Any]] | None:
        """('whole', everything) at first, ('change', what is new) later, None if nothing is."""


class Streams:
    """Server-sent events, at most two a second each.

    While nothing changes, a comment keeps proxies content and the event 'alive' tells the page.
    """

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._open: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """How many there are."""
        return self._open.total()

    def full(self, name: str) -> bool:
        """Whether there are too many, or of one who is signed in as ``name``, who must not take
        all places."""
        return self.open >= MOST_STREAMS or (bool(name) and self._open[name] >= MOST_EACH)

    async def events(
        self, source: Source, still: Callable[[], bool], name: str = ""
    ) -> AsyncIterator[str]:
        """The text of one stream, which ends once ``still`` is false: who looks was signed out,
        or has another role now."""
        self._open[name] += 1
        try:
            silent_s = 0.0
            while not self._stopping.is_set() and still():
                if (news := source.news()) is not None:
                    silent_s = 0.0
                    yield event(*news)
                elif silent_s >= HEARTBEAT_S:
                    silent_s = 0.0
                    yield ": still here\n" + event("alive", {})
                await asyncio.sleep(PUSH_EVERY_S)
                silent_s += PUSH_EVERY_S
        finally:
            self._open[name] -= 1
            self._open += Counter()  # names without any are forgotten


class BoardSource:
    """A board, as somebody may see it."""

    def __init__(self, board: Board, visitor: Visitor, sight: Sight) -> None:
        self.board, self._visitor, self._sight, self._told = board, visitor, sight, 0

    def news(self) -> tuple[str, dict[str, Any]] | None:
        """What the board has that wasn't told."""
        if self.board.version <= self._told:
            return None
        kind = "change" if self._told else "whole"
        picture = self.board.snapshot(self._told)
        self._told = picture["version"]
        return kind, picture_for(self._visitor, self._sight, picture)


class ListSource:
    """A network's list of studies; for a coordinator with its connections."""

    def __init__(self, studies: StudiesBoard, visitor: Visitor) -> None:
        self._studies, self._visitor, self._told = studies, visitor, 0
        self._known: list[str] | None = None
        self._network = BoardSource(studies.network, visitor, "all") if visitor.sees_all else None

    def news(self) -> tuple[str, dict[str, Any]] | None:
        """The studies that changed, and which there are; of what this visitor may not see not even
        that something changed."""
        network = self._network.news() if self._network else None
        if self._studies.version <= self._told and network is None:
            return None
        picture = self._studies.snapshot(self._told)
        self._told = picture.pop("version")
        seen = self._seen(picture["studies"])
        known = [study for study in picture["known"] if self._may_see(study)]
        first, same = self._known is None, known == self._known and not seen
        self._known = known
        if same and network is None:
            return None
        told = {"studies": seen, "known": known, "connections": network[1] if network else None}
        return "whole" if first else "change", picture | told

    def _may_see(self, study: str) -> bool:
        line = self._studies.line(study)
        return line is not None and sight_of(self._visitor, line) is not None

    def _seen(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found = []
        for row in rows:
            line = self._studies.line(row["id"])
            if line is not None and sight_of(self._visitor, line):
                found.append(study_for(self._visitor, line, row))
        return found


class StudySource:
    """One study: its line and events, and the board of its rounds while it has one."""

    def __init__(self, studies: StudiesBoard, study: str, visitor: Visitor) -> None:
        self._studies, self._study, self._visitor = studies, study, visitor
        self._line: dict[str, Any] | None = None
        self._rounds: BoardSource | None = None

    def news(self) -> tuple[str, dict[str, Any]] | None:
        """The study and the sections of its board that are new; whole again with a new board."""
        line, shown = self._studies.line(self._study), self._studies.one(self._study)
        sight = sight_of(self._visitor, line) if line else None
        if line is None or shown is None or sight is None:
            return None
        shown = study_for(self._visitor, line, shown)
        first, told = self._line is None, self._line
        board = self._studies.board(self._study) if sees_rounds(self._visitor, line) else None
        if board is not (self._rounds.board if self._rounds else None):
            self._rounds = BoardSource(board, self._visitor, sight) if board else None
            first = True
        picture = self._rounds.news() if self._rounds else None
        if picture is None and shown == told and not first:
            return None
        self._line = shown
        head = {"now": self._studies.now()} | (picture[1] if picture else {})
        return "whole" if first else "change", head | {"study": shown}


def event(kind: str, data: dict[str, Any]) -> str:
    """One server-sent event; JSON has no line breaks, so one data line holds it."""
    return f"event: {kind}\ndata: {json.dumps(data, allow_nan=False)}\n\n"
