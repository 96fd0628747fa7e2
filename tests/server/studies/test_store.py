"""The store of studies: compare and set, leases, and what hospitals say and are owed."""

from __future__ import annotations

import inspect
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.server.studies.databases import (
    HOSPITALS,
    START,
    Clock,
    check_events,
    new_study,
    queued,
)
from wardround.common.errors import Overtaken, StudyRefused, StudyUnknown
from wardround.server.studies.rows import MOST_BODY_BYTES
from wardround.server.studies.store import StudyStore

pytestmark = pytest.mark.xdist_group("postgresql")


def test_a_study_is_kept_byte_for_byte_and_once(store: StudyStore) -> None:
    new = new_study(1, body=bytes(range(256)), hospitals=("zeta", "alpha"))
    assert store.submit(new, "anna")
    assert not store.submit(replace(new, body=b"another"), "berta"), "its id is its digest"
    row = store.get(new.id)
    assert store.body(new.id) == new.body
    assert row.hospitals == ("zeta", "alpha"), "in the order that was signed"
    assert (row.state, row.fence, row.number) == ("submitted", 0, 1)
    assert row.submitted == pytest.approx(START, abs=1e-3)
    assert [event.who for event in store.events(new.id)] == ["anna"]
    for ask in (store.get, store.body):
        with pytest.raises(StudyUnknown, match="'ffff"):
            ask("f" * 64)


def test_studies_are_found_by_state_person_hospital_name_and_id(store: StudyStore) -> None:
    for number, (researcher, hospitals) in enumerate(
        [("anna", ("north",)), ("berta", ("north", "south")), ("anna", ("south",))]
    ):
        store.submit(new_study(number, researcher=researcher, hospitals=hospitals), researcher)
    first, second, third = store.list()
    assert [row.name for row in (first, second, third)] == ["study-0", "study-1", "study-2"]
    store.change(second.id, "waiting", expect="submitted", fence=0, who="server")
    assert [row.name for row in store.list(states=["waiting"])] == ["study-1"]
    assert store.list(researcher="anna") == [first, third]
    assert [row.name for row in store.list(hospital="south")] == ["study-1", "study-2"]
    assert [row.name for row in store.list(newest=2)] == ["study-1", "study-2"]
    assert store.find(first.id[:12]) == [first] == store.find("study-0")
    assert store.find(first.id[:12], researcher="berta") == []
    assert store.find("%") == store.find("_") == [], "no pattern of the database's"


def test_a_late_owner_writes_nothing(store: StudyStore, clock: Clock) -> None:
    study = queued(store, 1)
    late = store.claim("A", 10, 1)
    assert late and (late.state, late.fence, late.owner) == ("running", 1, "A")
    clock.advance(9)
    assert store.claim("B", 10, 1) is None
    assert store.renew(study.id, 1, 10)
    clock.advance(9)
    assert store.claim("B", 10, 1) is None, "it was renewed"
    clock.advance(2)
    now = store.claim("B", 10, 1)
    assert now and (now.id, now.fence, now.owner) == (study.id, 2, "B")
    before = store.events(study.id)
    assert not store.renew(study.id, 1, 10)
    for state in ("complete", "failed"):
        with pytest.raises(Overtaken, match=r"fence 2.*no longer 'running' \(fence 1\)"):
            store.change(study.id, state, expect="running", fence=1, who="A")
    assert (store.events(study.id), store.get(study.id)) == (before, now)
    done = store.change(study.id, "complete", expect="running", fence=2, who="B")
    assert (done.state, done.owner, done.lease_until) == ("complete", "", 0.0)
    assert not store.renew(study.id, 2, 10), "over"
    check_events(store)


def test_a_lease_that_nobody_took_is_still_its_owners(store: StudyStore, clock: Clock) -> None:
    queued(store, 1)
    row = store.claim("A", 10, 1)
    fence = store.lead("A", 10)
    assert row and fence
    clock.advance(1000)
    assert store.renew(row.id, row.fence, 10) and store.keep_lead("A", fence, 10)
    assert store.claim("B", 10, 1) is None and store.lead("B", 10) is None


def test_the_databases_clock_decides_who_leads(store: StudyStore, clock: Clock) -> None:
    assert store.now() == pytest.approx(START, abs=1e-3)
    assert store.lead("A", 10) == 1
    clock.advance(9)
    assert store.lead("B", 10) is None
    assert store.keep_lead("A", 1, 10)
    clock.advance(9)
    assert store.lead("B", 10) is None
    clock.advance(2)
    assert store.lead("B", 10) == 2
    assert not store.keep_lead("A", 1, 10)
    assert store.lead("B", 10) == 3, "asked again, as its first answer was lost"
    assert store.keep_lead("B", 3, 0), "lets go"
    assert store.lead("A", 10) == 4


def test_who_leads_no_more_writes_nothing(store: StudyStore, clock: Clock) -> None:
    study = queued(store, 1)
    waiting = new_study(2)
    store.submit(waiting, "anna")
    over = queued(store, 3)
    store.change(over.id, "failed", expect="queued", fence=0, who="server")
    assert store.lead("A", 10) == 1
    running = store.claim("A", 100, 1, lead=1)
    assert running
    clock.advance(11)
    assert store.lead("B", 10) == 2
    writes = {
        "submit": lambda lead: store.submit(new_study(4), "anna", lead=lead),
        "change": lambda lead: store.change(
            waiting.id, "waiting", expect="submitted", fence=0, who="server", lead=lead
        ),
        "claim": lambda lead: store.claim("A", 10, 5, lead=lead),
        "renew": lambda lead: store.renew(running.id, running.fence, 10, lead=lead),
        "decide": lambda lead: store.decide(study.id, "north", "rejected", lead=lead),
        "deliver": lambda lead: store.deliver(over.id, "north", "ended", lead=lead),
    }
    guarded = inspect.getmembers(
        StudyStore,
        lambda one: inspect.isfunction(one) and "lead" in inspect.signature(one).parameters,
    )
    assert {name for name, _ in guarded if not name.startswith("_")} == set(writes)

    def everything() -> object:
        rows = store.list()
        return [(row, store.events(row.id), store.decisions(row.id)) for row in rows], (
            store.deliveries()
        )

    before = everything()
    for name, write in writes.items():
        with pytest.raises(Overtaken, match="another server leads"):
            write(1)
        assert everything() == before, name
    for name, write in writes.items():
        write(2)
        assert (everything() != before) == (name != "claim"), name
        before = everything()


def test_first_queued_first_run_what_was_left_before_it_and_no_more_at_once(
    store: StudyStore, clock: Clock
) -> None:
    for number in (1, 2, 3):
        store.submit(new_study(number), "anna")
        store.change(new_study(number).id, "waiting", expect="submitted", fence=0, who="server")
    for number in (3, 1, 2):
        store.change(new_study(number).id, "queued", expect="waiting", fence=0, who="server")
    assert [store.claim(owner, 10, 2) and owner for owner in "AB"] == ["A", "B"]
    assert {row.name: row.owner for row in store.list(states=["running"])} == {
        "study-3": "A",
        "study-1": "B",
    }
    assert store.claim("C", 10, 2) is None, "two are in hand"
    clock.advance(9)
    store.renew(new_study(1).id, 1, 10)
    clock.advance(2)
    left = store.claim("C", 10, 2)
    assert left and (left.name, left.fence) == ("study-3", 2)
    assert [event.reason for event in store.events(left.id)][-1] == "taken over"
    assert store.renew(left.id, 2, 0), "let go of"
    assert (again := store.claim("D", 10, 2)) and (again.name, again.fence) == ("study-3", 3)
    store.change(left.id, "complete", expect="running", fence=3, who="D")
    assert (last := store.claim("E", 10, 2)) and last.name == "study-2"
    check_events(store)


def test_the_same_change_again_is_made_once(store: StudyStore) -> None:
    """As after DatabaseAway, when nobody knows whether the first was made."""
    study = queued(store, 1)
    running = store.claim("A", 10, 1)
    assert running

    def end(
        state: str = "failed",
        who: str = "A",
        reason: str = "no\nmodel",
        expect: tuple[str, ...] = ("queued", "running"),
        fence: int = 1,
    ) -> object:
        return store.change(study.id, state, expect=expect, fence=fence, who=who, reason=reason)

    ended = end()
    events = store.events(study.id)
    assert end() == ended
    assert store.events(study.id) == events
    for other in (
        {"reason": "why"},
        {"who": "B"},
        {"state": "aborted"},
        {"expect": ("queued",)},
        {"fence": 0},
    ):
        with pytest.raises(Overtaken):
            end(**other)
    assert len(store.deliveries()) == len(HOSPITALS)


def test_what_no_study_does_is_refused(store: StudyStore) -> None:
    study = queued(store, 1)
    for state in ("submitted", "complete", "running"):
        with pytest.raises(StudyRefused, match=f"is 'queued', and can't become '{state}'"):
            store.change(study.id, state, expect="queued", fence=0, who="server")
    with pytest.raises(StudyRefused, match="no results for 'west'"):
        store.change(study.id, "failed", expect="queued", fence=0, who="server", results=["west"])
    assert len(store.events(study.id)) == 3
    for values, what in (
        ({"id": "A" * 64}, "64 hexadecimal"),
        ({"name": "a b"}, "can't be a name"),
        ({"researcher": "x" * 65}, "can't be a name"),
        ({"hospitals": ()}, "from 1 to"),
        ({"hospitals": ("north", "north")}, "each once"),
        ({"body": bytes(MOST_BODY_BYTES + 1)}, "are allowed"),
    ):
        with pytest.raises(StudyRefused, match=what):
            new_study(2, **values)


def test_hospitals_decide_while_there_is_something_to_decide(store: StudyStore) -> None:
    study = queued(store, 1)
    assert [one.word for one in store.decisions(study.id)] == ["waiting"] * 3
    assert store.decide(study.id, "south", "accepted")
    assert store.decide(study.id, "east", "rejected", "no\x00 such\ndata")
    assert not store.decide(study.id, "east", "rejected", "no\x00 such\ndata"), "said already"
    assert store.decide(study.id, "east", "accepted")
    assert [(one.hospital, one.word) for one in store.decisions(study.id)] == [
        ("north", "waiting"),
        ("south", "accepted"),
        ("east", "accepted"),
    ]
    assert [
        (event.who, event.old, event.new, event.reason)
        for event in store.events(study.id)
        if event.kind == "decision"
    ] == [
        ("south", "waiting", "accepted", ""),
        ("east", "waiting", "rejected", "no such data"),
        ("east", "rejected", "accepted", ""),
    ]
    for id, hospital in ((study.id, "west"), ("f" * 64, "north")):
        with pytest.raises(StudyUnknown, match="no such study"):
            store.decide(id, hospital, "accepted")
    store.change(study.id, "aborted", expect="queued", fence=0, who="anna")
    with pytest.raises(Overtaken, match="nothing to decide"):
        store.decide(study.id, "north", "accepted")
    assert not store.decide(study.id, "south", "accepted"), "what stands may be said again"


def test_the_end_owes_a_notice_to_all_and_results_to_those_who_took_part(
    store: StudyStore,
) -> None:
    unseen, study = new_study(1), queued(store, 2)
    store.submit(unseen, "anna")
    store.change(unseen.id, "aborted", expect="submitted", fence=0, who="anna")
    assert store.deliveries() == [], "nobody has heard of it"
    store.claim("A", 10, 1)
    store.change(
        study.id, "complete", expect="running", fence=1, who="A", results=["north", "east"]
    )
    owed = [(one.hospital, one.what) for one in store.deliveries(id=study.id)]
    assert owed == [
        ("east", "results"),
        ("east", "ended"),
        ("north", "results"),
        ("north", "ended"),
        ("south", "ended"),
    ]
    assert store.deliver(study.id, "north", "results")
    assert not store.deliver(study.id, "north", "results")
    assert [one.what for one in store.deliveries(hospital="north")] == ["ended"]
    assert [one.hospital for one in store.deliveries(done=True)] == ["north"]
    with pytest.raises(StudyUnknown, match="owes 'south' no results"):
        store.deliver(study.id, "south", "results")
    assert store.events(study.id)[-1].reason == "results"
    check_events(store)


def test_texts_from_outside_are_one_bounded_line(store: StudyStore) -> None:
    study = queued(store, 1)
    text = "\ud800\x00\x1b[31m'; DROP TABLE studies; --\n" + "é🏥" * 10**5
    row = store.change(study.id, "failed", expect="queued", fence=0, who=text, reason=text)
    assert row.reason.startswith("[31m'; DROP TABLE studies; -- é🏥") and len(row.reason) == 1000
    assert len(store.events(study.id)[-1].who) == 200
    assert store.events(study.id, after=store.events(study.id)[-2].number) == [
        store.events(study.id)[-1]
    ]


def test_no_text_is_more_than_one_that_nothing_is_called(store: StudyStore) -> None:
    """PostgreSQL refuses zero bytes, drivers what isn't Unicode: neither may end a server."""
    study = queued(store, 1)
    for text in ("a\x00b", "\ud800", " ", "\n", "x" * 10**6, "' OR '' = '", "%"):
        assert store.find(text) == store.list(researcher=text) == store.list(hospital=text) == []
        assert store.events(text) == store.decisions(text) == store.deliveries(text, text) == []
        assert not store.renew(text, 0, 1.0) and not store.keep_lead(text, 0, 1.0)
        for ask in (
            lambda: store.get(text),
            lambda: store.body(text),
            lambda: store.change(text, "failed", expect="queued", fence=0, who=text),
            lambda: store.decide(text, "north", "accepted"),
            lambda: store.decide(study.id, text, "accepted"),
            lambda: store.deliver(study.id, text, "ended"),
        ):
            with pytest.raises(StudyUnknown) as caught:
                ask()
            assert len(str(caught.value)) < 200


def test_the_real_clock_is_unix_time(database: str | Path) -> None:
    store = StudyStore.open(database)
    assert store.now() == pytest.approx(time.time(), abs=60)
    queued(store, 1)
    row = store.claim("A", 3600, 1)
    assert row and row.lease_until == pytest.approx(time.time() + 3600, abs=60)
    store.close()
