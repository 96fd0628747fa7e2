"""The commits of a run: how checkpoints, and the lines before them, come to the disk.

Between machines a round is on the disk before the next one begins. A simulation commits *lazily*:

- Files are whole and have their names before the next round's commit, so the process may die at any
  moment and loses the round that was running. The disk is asked to keep them (fsync) once a second
  at most, by a thread: a machine that loses its power may tear what is newer. The newest round that
  the disk has confirmed, and the best one by then, stay until a newer one is confirmed.
- A large state is written by the thread while the next round trains, but of a private run: one that
  died then has paid for a round after the one that it repeats, whose claims would tell of both. One
  commit is in flight, never two. ``wait`` comes before anything that follows from it: the next
  round's line, its commit, a look at a checkpoint. What the disk said is raised there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wardround.common.durable.files import sync
from wardround.common.flower.arrays import Arrays
from wardround.common.mapped import is_mapped
from wardround.common.run.directory import RunDirectory
from wardround.server.rounds.checkpoint import (
    FederationState,
    checkpoint_path,
    committed_rounds,
    prune,
    write_checkpoint,
)

SYNC_S = 1.0
"""So long a lazy run doesn't ask the disk again."""
IN_FLIGHT_BYTES = 1 << 20
"""A smaller state is written in less time than the next round could lend it."""

Rounds = frozenset[int]


class Commits:
    """The commits of one run, in its directory, which says whether they are lazy.

    in_flight : a large state may be written while the next round trains

    A context: at its end, also by an error, all that was committed is on the disk.
    """

    def __init__(self, run: RunDirectory, in_flight: bool = True) -> None:
        self._run, self._folder, self._in_flight = run, run.checkpoints, in_flight
        self._working: _Working | None = None
        self._best: int | None = None
        self._newest: Rounds = frozenset()  # what is needed to go on after the last commit
        self._confirmed: Rounds = frozenset()
        self._asked_at = 0.0

    def __enter__(self) -> Commits:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with suppress(*(() if kind is None else (OSError,))):  # the first error is what counts
            self.settle()

    def make(self, state: FederationState) -> None:
        """Commit a state, which may change afterwards. Raises OSError, as ``wait`` does."""
        if not self._run.lazily:
            write_checkpoint(self._folder, state)
            return
        self.wait()
        best = state.round if state.best_round is None else state.best_round
        needed = frozenset({state.round, best})
        if not self._confirmed or state.round in self._confirmed | self._asked:
            self._join()
            write_checkpoint(self._folder, state, False, committed_rounds(self._folder))
            self._sync(needed)
            self._confirmed = needed
        elif _is_small(state) or not self._in_flight:
            write_checkpoint(self._folder, state, False, self._confirmed | self._asked)
            if self._is_due():
                self._working = _Working(lambda: self._sync(needed), confirms=needed)
        else:
            self._join()
            own, keep, due = _own(state), self._confirmed, self._is_due()

            def work() -> None:
                write_checkpoint(self._folder, own, False, keep)
                if due:
                    self._sync(needed)

            self._working = _Working(work, confirms=needed if due else keep, writes=True)
        self._newest, self._best = needed, state.best_round

    def wait(self) -> None:
        """Until no commit is in flight. Raises OSError if it failed, or the disk didn't confirm."""
        if self._working is not None and (self._working.writes or self._working.over):
            self._join()

    def settle(self) -> None:
        """Bring all that was committed to the disk. Raises OSError as ``wait`` does."""
        self._join()
        if self._newest != self._confirmed:
            self._sync(self._newest)
            self._confirmed = self._newest
        if self._run.lazily and self._newest:
            prune(self._folder, self._best)

    @property
    def _asked(self) -> Rounds:
        """What the disk is being asked to keep."""
        return self._working.confirms if self._working else frozenset()

    def _is_due(self) -> bool:
        return self._working is None and time.monotonic() - self._asked_at >= SYNC_S

    def _join(self) -> None:
        working, self._working = self._working, None
        if working is not None:
            working.join()
            self._confirmed = working.confirms

    def _sync(self, rounds: Rounds) -> None:
        """Lines first: a checkpoint without its line would leave a gap for good."""
        self._run.sync_rounds()
        for number in sorted(rounds):
            path = checkpoint_path(self._folder, number)
            if (clients := path.with_suffix(".clients")).exists():
                sync(clients)
            sync(path)
        sync(self._folder)
        self._asked_at = time.monotonic()


class _Working:
    """A thread that commits, or asks the disk.

    confirms : the rounds that the disk has when it is over
    writes : it makes files that others look at
    """

    def __init__(self, work: Callable[[], None], *, confirms: Rounds, writes: bool = False) -> None:
        self.confirms, self.writes = confirms, writes
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="commit")
        self._thread.start()

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> None:
        """Until it is over. Raises what it met."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error


def _is_small(state: FederationState) -> bool:
    """Whether it is written at once: also what lies in files, of which there is to be no copy."""
    arrays = [*state.model.values(), *state.strategy_arrays.values()]
    small = sum(one.nbytes for one in arrays) < IN_FLIGHT_BYTES
    return small or any(is_mapped(one) for one in arrays)


def _own(state: FederationState) -> FederationState:
    """The state as it is now, whatever becomes of it."""
    return replace(
        state,
        model=_still(state.model),
        strategy_arrays=_still(state.strategy_arrays),
        accepted=dict(state.accepted),
    )


def _still(arrays: Arrays) -> Arrays:
    return {name: one if _is_fixed(one) else one.copy() for name, one in arrays.items()}


def _is_fixed(array: NDArray[np.generic]) -> bool:
    """Whether nobody can write to it: a view of bytes."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return type(base) is bytes
