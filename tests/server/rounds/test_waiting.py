"""Whom the server waits for before a run begins, or goes on: enough hospitals that train."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from wardround.common.errors import RoundFailed
from wardround.server.gathering.host import Host
from wardround.server.members.member import Member
from wardround.server.observer import Observer
from wardround.server.reception.attendance import Attendance
from wardround.server.rounds.setup import gather_members
from wardround.server.transport.events import ServerEvents
from wardround.server.transport.grid import HospitalGrid
from wardround.server.transport.hall import Hall


def sizes(train: int) -> dict[str, int]:
    return {"train": train, "validation": 0, "test": 5}


def test_one_that_only_evaluates_is_not_counted_on(settings, tmp_path: Path) -> None:
    lines: list[str] = []
    grid = HospitalGrid("run", Hall(5.0, 1 << 20, tmp_path, ServerEvents()))
    for name in "abc":
        link = grid.link(name)
        link.line.begin(name * 32, "here")
        link.admitted = True
    config = settings("[federation]\nmin_clients = 3\n")
    attendance = Attendance(config, grid, dict.fromkeys("abcd", b""), lines.append)
    attendance.wait(everyone=False)
    assert not lines, "nobody knows yet who trains"
    attendance.note_members([Member("a", 1, sizes(9)), Member("b", 2, sizes(0))])
    waiting = threading.Thread(target=attendance.wait, args=(False,), daemon=True)
    waiting.start()
    waiting.join(0.6)
    assert waiting.is_alive()
    (line,) = lines
    assert re.fullmatch(
        r"waiting for hospitals since 20\d\d-\d\d-\d\d \d\d:\d\d: 3 of 4 are ready; missing: d; "
        "in evaluations only: b; a round needs 3",
        line,
    )
    grid.link("b").line.begin("9" * 32, "a process with other data")
    grid.link("b").admitted = True
    waiting.join(5)
    assert not waiting.is_alive()
    grid.link("c").admitted, grid.link("c").refusal = False, "max_rounds"
    assert attendance.away() == {
        "c": "it refused the run: max_rounds",
        "d": "it was not connected",
    }


def test_a_roster_that_can_never_be_enough_says_so_while_it_waits(settings, tmp_path: Path) -> None:
    """Between machines more may be admitted; nobody has to guess what for."""
    lines: list[str] = []
    grid = HospitalGrid("run", Hall(5.0, 1 << 20, tmp_path, ServerEvents()))
    masks = "[secure_aggregation]\nenabled = true\nmin_cohort = 3\n"
    config = settings(f"{masks}[federation]\nmin_clients = 2\n")
    roster = dict.fromkeys("ab", b"")
    waiting = threading.Thread(
        target=Attendance(config, grid, roster, lines.append).wait, args=(False,), daemon=True
    )
    for name in "ab":
        grid.link(name).line.begin(name * 32, "here")
        grid.link(name).admitted = True
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    assert lines[0].endswith(
        "2 of 2 are ready; a round needs 3, more than there are: admit more with "
        "wardround provision"
    )
    roster["c"] = b""
    grid.link("c").line.begin("c" * 32, "here")
    grid.link("c").admitted = True
    waiting.join(5)
    assert not waiting.is_alive()


def test_a_first_one_that_only_evaluates_costs_no_attempt(
    settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is known only once it was asked; the server then waits for another one."""
    text = "[federation]\nmin_clients = 3\nround_attempts = 1\n"
    for coming, expected in (([4], 4), ([], 0)):
        nodes, told = [1, 2, 3], list[int]()

        def describe(grid: object, ids: list[int], *_: object) -> tuple[list[Member], list[str]]:
            return [Member(f"h{x}", x, sizes(0 if x == 2 else 9)) for x in ids], []

        monkeypatch.setattr("wardround.server.rounds.setup.describe", describe)
        host = Host(
            wait_ready=lambda everyone, nodes=nodes, coming=coming: nodes.extend(coming),  # type: ignore[misc]
            on_members=lambda members, told=told: told.append(len(members)),  # type: ignore[misc]
        )
        grid = SimpleNamespace(get_node_ids=lambda nodes=nodes: list(nodes))
        if not expected:
            with pytest.raises(RoundFailed, match="2 of 3 hospitals can train, 1 in evaluations"):
                gather_members(grid, settings(text), Observer(), host)  # type: ignore[arg-type]
            continue
        found, _ = gather_members(grid, settings(text), Observer(), host)  # type: ignore[arg-type]
        assert len(found) == expected and told == [3, 4]
