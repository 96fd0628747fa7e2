"""Trackers that watch a run (``[tracking]``): each has a thread of its own, and no round waits.

What they are told is on disk already: one that fell behind, or was away, reads the run directory.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from wardround.common.config.load import Config
from wardround.common.errors import WardroundError
from wardround.common.run.directory import RunDirectory
from wardround.common.run.tracking.track import Bringing, check_installed, settled
from wardround.common.settings.tracking import TrackerName
from wardround.server.members.member import Member
from wardround.server.observer import Observer, Phase

PATIENCE_S = 5.0
"""For each tracker, once the run has ended."""

_MOST_WAITING = 64


@contextmanager
def tracked(
    config: Config, run: RunDirectory, observer: Observer, patience_s: float = PATIENCE_S
) -> Iterator[Observer]:
    """An observer of the run for its trackers and for ``observer``; at the end it waits for them,
    ``patience_s`` each at most. Without trackers it is ``observer`` itself.

    config : whose ``[tracking]`` it is: of whoever runs the rounds

    Raises nothing of a tracker's: ``observer`` is warned once for each.
    """
    watchers = []
    for kind in config.tracking.to:
        try:
            check_installed(kind)  # here, not in its thread: worker processes are forked meanwhile
        except WardroundError as error:
            observer.warnings([f"tracking: {error}"])
            continue
        place = config.tracking_place(kind, run.path.resolve().parent)
        watchers.append(_Watcher(run, kind, place))
    if not watchers:
        yield observer
        return
    told = _Tracked(observer, watchers)
    try:
        yield told
    finally:
        for watcher in watchers:
            watcher.end()
        for watcher in watchers:
            watcher.join(patience_s)
        told.tell_failures()


class _Watcher:
    """One tracker of a run, in a thread that begins with the first round it is told of."""

    def __init__(self, run: RunDirectory, kind: TrackerName, uri: str) -> None:
        self.kind = kind
        self._run, self._uri = run, uri
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(_MOST_WAITING)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"tracker {kind}", daemon=True)
        self._begun, self._failed, self._warned = False, "", False
        self._open: Bringing | None = None
        self._held: list[dict[str, Any]] = []

    # --- the loop's thread ------------------------------------------------------------------------
    def told(self, row: dict[str, Any]) -> None:
        """A round is on disk. Where too many wait it is left to be read from there."""
        self._begin()
        with suppress(queue.Full):
            self._queue.put_nowait(row)

    def end(self) -> None:
        """The run has ended, for now or for good: bring what is missing, and stop."""
        self._begin()
        self._ending.set()
        with suppress(queue.Full):
            self._queue.put_nowait(None)

    def join(self, patience_s: float) -> None:
        """Wait for its thread; a tracker that hangs is left alone."""
        self._thread.join(patience_s)
        if self._thread.is_alive():
            self._failed = f"{self.kind} doesn't answer"

    def failure(self) -> str:
        """What people should know of it, once; '' if nothing."""
        if self._warned or not self._failed:
            return ""
        self._warned = True
        return (
            f"tracking: {self._failed}; the run goes on without it, and what it lacks then is "
            f"brought by `wardround report RUN --to {self.kind} --uri ...`"
        )

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._thread.start()

    # --- its own ----------------------------------------------------------------------------------
    def _work(self) -> None:
        while not self._ending.is_set():
            row = self._queue.get()
            if row is not None and not self._ending.is_set():
                self._try(row)
        self._try(None)
        if self._open is not None:
            self._close(self._open)

    def _try(self, row: dict[str, Any] | None) -> None:
        """A round, or the end. One that failed is tried again with the next, from the start."""
        try:
            if self._open is None:
                self._open = Bringing(self._run, self.kind, self._uri)
            if row is None:
                self._open.finish()
            else:
                self._bring(self._open, row)
        except WardroundError as error:
            self._fail(error.what or str(error))
        except Exception as error:  # whatever it is, the run is worth more
            self._fail(type(error).__name__)

    def _bring(self, to: Bringing, row: dict[str, Any]) -> None:
        now = row["round"]
        rows = [*(one for one in self._held if one["round"] < now), row]
        if [one["round"] for one in rows] != list(range(to.last + 1, now + 1)):
            rows = [one for one in self._run.rounds() if one["round"] <= now]
        ready = settled(rows)
        self._held = rows[len(ready) :]
        to.add(ready)

    def _fail(self, why: str) -> None:
        self._failed = f"{self.kind} {why}"
        to, self._open, self._held = self._open, None, []
        if to is not None:
            self._close(to)

    def _close(self, to: Bringing) -> None:
        try:
            to.close()
        except Exception as error:
            self._failed = f"{self.kind} can't be closed ({type(error).__name__})"


class _Tracked(Observer):
    """Tells another observer everything, and the trackers of rounds."""

    def __init__(self, forward: Observer, watchers: Sequence[_Watcher]) -> None:
        self._forward, self._watchers = forward, watchers

    def tell_failures(self) -> None:
        """Warn of trackers that failed since the last time."""
        if lines := [line for one in self._watchers if (line := one.failure())]:
            self._forward.warnings(lines)

    def round_committed(self, row: dict[str, Any]) -> None:
        self._forward.round_committed(row)
        self._tell(row)

    def round_evaluated(self, row: dict[str, Any]) -> None:
        self._forward.round_evaluated(row)
        self._tell(row)

    def _tell(self, row: dict[str, Any]) -> None:
        for one in self._watchers:
            one.told(row)
        self.tell_failures()

    def begins(self, lines: list[str]) -> None:
        self._forward.begins(lines)

    def phase(self, phase: Phase) -> None:
        self._forward.phase(phase)

    def progress(self, text: str) -> None:
        self._forward.progress(text)

    def members(self, members: list[Member], refused: list[dict[str, str]]) -> None:
        self._forward.members(members, refused)

    def population(self, clients: int, sizes: Mapping[str, int] | None) -> None:
        self._forward.population(clients, sizes)

    def warnings(self, lines: list[str]) -> None:
        self._forward.warnings(lines)

    def round_started(self, server_round: int, cohort: list[str], attempt: int) -> None:
        self._forward.round_started(server_round, cohort, attempt)

    def replied(self, hospital: str, step: str, reason: str | None) -> None:
        self._forward.replied(hospital, step, reason)

    def round_failed(self, server_round: int, attempt: int, reason: str) -> None:
        self._forward.round_failed(server_round, attempt, reason)
