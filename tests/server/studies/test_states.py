"""Many random lives of studies against a model in plain Python: states, fences, leases, leaders.

The model knows what may happen; the store must do just that, refuse the rest with the right error,
and have written nothing where it refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from tests.server.studies.databases import HOSPITALS, Clock, check_events, empty, new_study
from wardround.common.errors import Overtaken, StudyRefused
from wardround.common.study.states import OVER, STATES, may_follow
from wardround.server.studies.store import StudyStore

pytestmark = pytest.mark.xdist_group("postgresql")
OWNERS = st.sampled_from("AB")


@dataclass
class Study:
    """What the model knows of one."""

    state: str = "submitted"
    fence: int = 0
    owner: str = ""
    until: float = 0.0
    turn: int = 0
    events: int = 1
    words: dict[str, str] = field(default_factory=lambda: dict.fromkeys(HOSPITALS, "waiting"))


class Lives(RuleBasedStateMachine):
    """Everything that servers, researchers and hospitals may do, in any order."""

    store: StudyStore
    database: str | Path
    clock: Clock

    @initialize()
    def begin(self) -> None:
        empty(self.store, self.database)
        self.studies: dict[str, Study] = {}
        self.now, self.turns = 0.0, 0
        self.leader, self.leads, self.leads_until = "", 0, 0.0

    @rule(number=st.integers(0, 3))
    def submit(self, number: int) -> None:
        new = new_study(number)
        assert self.store.submit(new, "anna") == (new.id not in self.studies)
        self.studies.setdefault(new.id, Study())

    @rule(seconds=st.sampled_from([1.0, 4.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.now += seconds

    @precondition(lambda self: self.studies)
    @rule(data=st.data(), to=st.sampled_from(STATES), stale=st.sampled_from([0, 0, 0, 1]))
    def change(self, data: Any, to: str, stale: int) -> None:
        id = data.draw(st.sampled_from(sorted(self.studies)))
        study = self.studies[id]
        expect = data.draw(st.sampled_from([study.state, study.state, *STATES]))
        lead = data.draw(st.sampled_from([None, None, self.leads, self.leads - 1]))
        fence = study.fence - stale
        events = self.store.events(id)

        def ask() -> Any:
            return self.store.change(
                id, to, expect=expect, fence=fence, who="server", reason=to, lead=lead
            )

        last = [event for event in events if event.kind != "decision"][-1]
        told = (last.kind, last.old, last.new, last.who) == ("state", expect, to, "server")
        if lead == self.leads - 1 or (
            (expect != study.state or stale) and not (told and not stale)
        ):
            with pytest.raises(Overtaken):
                ask()
        elif expect != study.state:
            assert ask().state == to, "the last change again"
        elif to == "running" or not may_follow(study.state, to):
            with pytest.raises(StudyRefused) as caught:
                ask()
            assert not isinstance(caught.value, Overtaken)
        else:
            assert ask().state == to
            study.state, study.owner, study.until = to, "", 0.0
            study.events += 1
            if to == "queued":
                self.turns += 1
                study.turn = self.turns
            return
        assert self.store.events(id) == events

    @rule(owner=OWNERS, at_once=st.sampled_from([1, 2]))
    def claim(self, owner: str, at_once: int) -> None:
        found = self.store.claim(owner, 5.5, at_once)
        running = {id: one for id, one in self.studies.items() if one.state == "running"}
        left = [(0, one.turn, id) for id, one in running.items() if one.until <= self.now]
        ready = [(1, one.turn, id) for id, one in self.studies.items() if one.state == "queued"]
        if len(running) - len(left) >= at_once or not left + ready:
            assert found is None
            return
        id = min(left + ready)[2]
        study = self.studies[id]
        study.state, study.owner, study.until = "running", owner, self.now + 5.5
        study.fence += 1
        study.events += 1
        assert found and (found.id, found.fence, found.owner) == (id, study.fence, owner)

    @precondition(lambda self: self.studies)
    @rule(data=st.data(), stale=st.booleans(), seconds=st.sampled_from([5.5, 0.0]))
    def renew(self, data: Any, stale: bool, seconds: float) -> None:
        id = data.draw(st.sampled_from(sorted(self.studies)))
        study = self.studies[id]
        mine = study.state == "running" and not stale
        assert self.store.renew(id, study.fence - stale, seconds) == mine
        if mine:
            study.until = self.now + seconds if seconds else 0.0

    @rule(owner=OWNERS)
    def lead(self, owner: str) -> None:
        free = self.leader in ("", owner) or self.leads_until <= self.now
        assert self.store.lead(owner, 5.5) == (self.leads + 1 if free else None)
        if free:
            self.leader, self.leads_until = owner, self.now + 5.5
            self.leads += 1

    @rule(owner=OWNERS, stale=st.booleans(), seconds=st.sampled_from([5.5, 5.5, 0.0]))
    def keep_lead(self, owner: str, stale: bool, seconds: float) -> None:
        mine = owner == self.leader and not stale
        assert self.store.keep_lead(owner, self.leads - stale, seconds) == mine
        if mine:
            self.leads_until = self.now + seconds if seconds else 0.0

    @precondition(lambda self: self.studies)
    @rule(
        data=st.data(),
        hospital=st.sampled_from(HOSPITALS),
        word=st.sampled_from(["waiting", "accepted", "rejected"]),
    )
    def decide(self, data: Any, hospital: str, word: Any) -> None:
        id = data.draw(st.sampled_from(sorted(self.studies)))
        study = self.studies[id]
        news = study.words[hospital] != word
        if news and study.state in OVER:
            with pytest.raises(Overtaken):
                self.store.decide(id, hospital, word)
            return
        assert self.store.decide(id, hospital, word) == news
        study.words[hospital] = word
        study.events += news

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        rows = {row.id: row for row in self.store.list()}
        assert list(rows) == list(self.studies), "in the order of submission"
        for id, study in self.studies.items():
            row = rows[id]
            shown = (row.state, row.fence, row.owner)
            assert shown == (study.state, study.fence, study.owner)

    def teardown(self) -> None:
        for id, study in self.studies.items():
            words = [(one.hospital, one.word) for one in self.store.decisions(id)]
            assert words == list(study.words.items())
            assert len(self.store.events(id)) == study.events
        check_events(self.store)


def test_any_life_is_as_the_model_says(
    store: StudyStore, database: str | Path, clock: Clock
) -> None:
    kept = {"store": store, "database": database, "clock": clock}
    machine = type("These", (Lives,), kept)
    run_machine(
        machine,
        settings=settings(
            max_examples=12 if isinstance(database, Path) else 6, stateful_step_count=40
        ),
    )
