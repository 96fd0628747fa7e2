"""Lazy commits: the process may die at any moment, the machine costs the last rounds at most, and
one commit at a time is in flight."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.run.directory import RunDirectory
from wardround.server.rounds import commits
from wardround.server.rounds.checkpoint import (
    FederationState,
    checkpoint_path,
    committed_rounds,
    newest_checkpoint,
    read_checkpoint,
)
from wardround.server.rounds.commits import Commits
from wardround.simulations.run.client_states import forget_torn

LARGE = commits.IN_FLIGHT_BYTES // 4 + 1


def state(number: int, best: int | None = None, numbers: int = 3) -> FederationState:
    return FederationState(
        number,
        {"w": np.full(numbers, number, np.float32)},
        {"count": np.array([4.0])},
        {"m": np.full(2, float(number))},
        {},
        {"a": number},
        best,
        best_value=0.5,
    )


def begun(folder: Path, lazily: bool = True) -> RunDirectory:
    RunDirectory.at(folder, "x = 1\n")
    return RunDirectory(folder, lazily)


def commit(run: RunDirectory, made: Commits, one: FederationState) -> None:
    """As the round loop does it."""
    made.wait()
    if one.round:
        run.append_round({"round": one.round})
    made.make(one)


class Disk:
    """What would be left of files if the machine died: of those that weren't synced as they are
    now, an empty one."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._synced: dict[tuple[int, int], bytes] = {}
        really = os.fsync

        def fsync(descriptor: int) -> None:
            really(descriptor)
            place = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            if place.is_file():
                about = place.stat()
                self._synced[about.st_dev, about.st_ino] = place.read_bytes()

        patch.setattr(os, "fsync", fsync)

    def end(self, folder: Path) -> None:
        for path in folder.rglob("*.*"):
            if path.is_file():
                about = path.stat()
                path.write_bytes(self._synced.get((about.st_dev, about.st_ino), b""))


@settings(max_examples=25, deadline=None)
@given(
    due=st.lists(st.booleans(), min_size=1, max_size=9),
    better=st.lists(st.booleans(), min_size=9, max_size=9),
    large=st.booleans(),
)
def test_the_end_of_the_machine_costs_what_wasnt_confirmed_and_no_more(
    tmp_path_factory: pytest.TempPathFactory, due: list[bool], better: list[bool], large: bool
) -> None:
    """Whichever rounds the disk is asked about, and whichever are the best ones: what is left goes
    on from the newest that it was asked about, with its line and its best model."""
    run = begun(tmp_path_factory.mktemp("run"))
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        made, best, asked = Commits(run), None, 0
        commit(run, made, state(0))
        for number, (ask, improves) in enumerate(zip(due, better, strict=False), start=1):
            patch.setattr(made, "_is_due", lambda ask=ask: ask)
            made._join()  # what the disk is asked, it has confirmed here
            best = number if improves else best
            commit(run, made, state(number, best, LARGE if large else 3))
            asked = number if ask else asked
        made._join()
        disk.end(run.path)
    forget_torn(run)
    found = newest_checkpoint(run.checkpoints)
    assert found is not None and found.round == asked == max(committed_rounds(run.checkpoints))
    assert {row["round"] for row in run.rounds()} >= set(range(1, asked + 1))
    if found.best_round is not None:
        assert read_checkpoint(checkpoint_path(run.checkpoints, found.best_round)).round > 0


def test_a_confirmed_round_stays_until_a_newer_one_is(tmp_path: Path, monkeypatch: Any) -> None:
    """Also while the disk is being asked, and at a start in another process."""
    run, asking, go_on = begun(tmp_path), threading.Event(), threading.Event()
    with Commits(run) as made:
        commit(run, made, state(0))
    made = Commits(run)
    monkeypatch.setattr(commits, "SYNC_S", 1e9)
    for number in range(1, 6):  # the first is confirmed at once
        commit(run, made, state(number))
    assert committed_rounds(run.checkpoints) == [1, 4, 5]
    really = commits.sync

    def slow(path: Path) -> None:
        asking.set()
        assert go_on.wait(30)
        really(path)

    monkeypatch.setattr(commits, "SYNC_S", 0.0)
    monkeypatch.setattr(commits, "sync", slow)
    commit(run, made, state(6))
    assert asking.wait(30)
    for number in range(7, 10):
        commit(run, made, state(number))
    assert committed_rounds(run.checkpoints) == [1, 6, 8, 9]
    go_on.set()
    made.settle()
    assert committed_rounds(run.checkpoints) == [8, 9]


def test_a_large_state_is_written_while_the_next_round_trains(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """What changes meanwhile isn't in it; the next commit waits for it."""
    run, go_on = begun(tmp_path), threading.Event()
    made, large = Commits(run), state(1, numbers=LARGE)
    commit(run, made, state(0))
    really: Callable[..., Path] = commits.write_checkpoint

    def slow(*args: Any) -> Path:
        assert go_on.wait(30)
        return really(*args)

    monkeypatch.setattr(commits, "write_checkpoint", slow)
    made.make(large)
    assert committed_rounds(run.checkpoints) == [0]
    large.model["w"][:] = large.strategy_arrays["m"][:] = -1.0
    large.accepted["b"] = 1
    threading.Timer(0.05, go_on.set).start()
    commit(run, made, state(2, numbers=LARGE))
    one = read_checkpoint(checkpoint_path(run.checkpoints, 1))
    assert one.model["w"].min() == one.strategy_arrays["m"].min() == 1.0 and one.accepted == {
        "a": 1
    }
    made.settle()
    assert committed_rounds(run.checkpoints) == [1, 2]


def test_a_private_round_is_kept_before_the_next_is_paid_for(tmp_path: Path) -> None:
    """A run that died while its first round was written had paid for the second, and told of both
    in the line of the first."""
    run = begun(tmp_path)
    made = Commits(run, in_flight=False)
    for number in range(3):
        commit(run, made, state(number, numbers=LARGE))
        assert number in committed_rounds(run.checkpoints)
        assert made._working is None or not made._working.writes
    made.settle()


@pytest.mark.parametrize("numbers", [3, LARGE], ids=["at once", "in flight"])
@pytest.mark.parametrize("what", ["write_checkpoint", "sync"])
def test_what_the_disk_says_is_told_by_the_next_commit(
    tmp_path: Path, monkeypatch: Any, numbers: int, what: str
) -> None:
    run = begun(tmp_path)
    made = Commits(run)
    commit(run, made, state(0))

    def full(*args: Any) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commits, "SYNC_S", 0.0)
    monkeypatch.setattr(commits, what, full)
    with pytest.raises(OSError, match="No space"), made:
        made.make(state(1, numbers=numbers))
        if made._working is not None:
            made._working._thread.join()
        made.wait()
    monkeypatch.undo()
    found = newest_checkpoint(run.checkpoints)
    assert found is not None and found.round == (0 if what == "write_checkpoint" else 1)


def test_a_deployed_run_is_on_the_disk_before_the_next_round(
    tmp_path: Path, monkeypatch: Any
) -> None:
    run = begun(tmp_path, lazily=False)
    disk, made = Disk(monkeypatch), Commits(run)
    for number in range(4):
        commit(run, made, state(number, numbers=LARGE))
    disk.end(tmp_path)
    found = newest_checkpoint(run.checkpoints)
    assert found is not None and found.round == 3 and len(run.rounds()) == 3
