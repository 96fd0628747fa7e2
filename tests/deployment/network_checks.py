"""What must hold of a network after whatever happened to it, read from the disks of both ends."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
from safetensors.numpy import load

from tests.deployment.network import StandingNetwork
from tests.deployment.network_words import HOSPITALS, PUBLISHED
from tests.server.studies.databases import check_events
from wardround.client.privacy.ledger import Ledger
from wardround.client.site.approval import Approvals
from wardround.client.site.kit import Kit
from wardround.common.audit.against import compare_logs
from wardround.common.audit.compare import compare_told
from wardround.common.audit.verify import check_log, verify_log
from wardround.common.manifest.planned import planned_rounds
from wardround.common.protocol import names as m
from wardround.common.study.states import OVER
from wardround.server.studies.store import StudyStore

Line = dict[str, Any]
MASKED = (m.HELLO, m.GROUP, m.KEYS, m.UNMASK, m.LAYOUT)
WORK = (m.STATISTICS, m.TRAIN, m.EVALUATE, m.SUMS, m.LETTERS, *MASKED)
"""What is answered by an accepted plan only."""


def assert_network_sound(made: StandingNetwork, models: dict[str, bytes]) -> None:
    """All that is said below, of a network whose studies are all over and delivered.

    models : files of undisturbed studies, by how the study's name begins
    """
    made.stop()  # a log that is still written to can't be held against its heads
    with made.store() as store:
        check_states(made, store)
        check_server_log(made, store)
        for row in store.list():
            if row.state == "complete" and made.config_of(row.id).procedure.trains:
                check_rounds(made, row.id)
                check_model(made, row.id, models)
        check_published(made, store)
    check_chains(made)
    for name in HOSPITALS:
        check_hospital(made, name)
    check_sums(made)
    check_ends(made)
    check_logs(made)


def check_states(made: StandingNetwork, store: StudyStore) -> None:
    """Each study is over, once; the database's events are without a gap."""
    check_events(store)
    rows = {row.id: row for row in store.list()}
    assert rows.keys() == made.sent.keys(), "a study was lost, or made"
    for row in rows.values():
        ends = [one for one in store.events(row.id) if one.kind == "state" and one.new in OVER]
        assert [one.new for one in ends] == [row.state], f"{row.name}: {ends}"
    assert not store.deliveries(), "something is still owed"


def check_server_log(made: StandingNetwork, store: StudyStore) -> None:
    """Each event of the database is in the audit log, once, in its order and with its words."""
    told = [line for line in made.audit("server") if line["event"] == "study"]
    events = sorted((one for id in made.sent for one in store.events(id)), key=lambda x: x.number)
    keys = ("number", "study", "kind", "old", "new", "who", "reason")
    written = [tuple(line[key] for key in keys) for line in told]
    assert written == [tuple(getattr(one, key) for key in keys) for one in events]


def check_rounds(made: StandingNetwork, id: str) -> None:
    """Rounds once each; every update counted once; never below the fewest."""
    rows, config = made.rounds(id), made.config_of(id)
    numbers = [row["round"] for row in rows]
    assert numbers == list(range(1, config.federation.rounds + 1)), f"rounds {numbers}"
    for row in rows:
        counted = Counter(row["accepted"])
        assert set(counted.values()) <= {1}, f"an update was counted twice: {row}"
        assert len(counted) >= config.federation.min_clients, f"below the fewest: {row}"
        assert set(counted) <= set(made.sent[id].hospitals), f"one that isn't asked: {row}"


def check_model(made: StandingNetwork, id: str, models: dict[str, bytes]) -> None:
    """The undisturbed one: equal bytes, and with secure aggregation, whose rounding is another in
    each attempt, equal to its quantisation."""
    study, expected = made.sent[id], models.get(made.sent[id].name.rpartition("-")[0])
    if expected is None:
        return
    if not made.config_of(id).secure_aggregation.enabled:
        assert made.model(id) == expected, study.name
        return
    left, right = load(made.model(id)), load(expected)
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_allclose(value, right[name], atol=1e-5, err_msg=study.name)


def check_published(made: StandingNetwork, store: StudyStore) -> None:
    """What else was asked has one answer, however often it is asked and whatever happens: its file
    has the same bytes at all who were asked, in all studies of its kind; and what hospitals were
    told of one that isn't complete is nothing."""
    found = dict[str, set[bytes]]()
    for row in store.list():
        kind = row.name.rpartition("-")[0]
        for name in row.hospitals if kind in PUBLISHED else ():
            path = made.kit(name) / "results" / made.sent[row.id].run / PUBLISHED[kind]
            assert path.exists() == (row.state == "complete"), f"{name}: {path} of {row}"
            if path.exists():
                found.setdefault(kind, set()).add(path.read_bytes())
    for kind, answers in found.items():
        assert len(answers) == 1, f"{kind}: {len(answers)} answers to one question"


def check_chains(made: StandingNetwork) -> None:
    """All logs verify, by themselves and each hospital's against the server's; hospitals were told
    the same."""
    reports = {}
    for party in ("server", *HOSPITALS):
        path = made.audit_path(party)
        assert not (problems := verify_log(path, path.with_name("audit.heads"))), (party, problems)
        reports[party] = check_log(path)
    for name in HOSPITALS:
        unlike, _ = compare_logs(reports[name], reports["server"])
        assert not unlike, f"{name}: {unlike}"
    told = compare_told([reports[name] for name in HOSPITALS])
    assert not told.differences, told.differences


# --- hospitals ------------------------------------------------------------------------------------
def check_hospital(made: StandingNetwork, name: str) -> None:
    """Of a study that it isn't asked for it has heard nothing; for one that is over, or that it
    hasn't accepted, nothing left."""
    runs = {study.run: id for id, study in made.sent.items()}
    accepted, over = set[str](), set[str]()
    for line in made.audit(name):
        study = line.get("study") or runs.get(line.get("run", ""), "")
        assert not study or name in made.sent[study].hospitals, f"{name} heard of {line}"
        match line["event"]:
            case "manifest":
                accepted.add(study)
            case "study" if line["state"] in OVER:
                assert study not in over, f"{name}: it is over twice: {line}"
                over.add(study)
            case "sent" if line["kind"] in WORK:
                assert study in accepted, f"{name} hasn't accepted: {line}"
                assert study not in over, f"{name}: it was over: {line}"
    for id, study in made.sent.items():
        if name in study.hospitals:
            check_approvals(made, name, id)
    check_charged(made, name)


def check_charged(made: StandingNetwork, name: str) -> None:
    """No private update left that the hospital's ledger doesn't have."""
    private = {id for id in made.sent if made.config_of(id).privacy.enabled}
    sent = {
        line["request"]
        for line in made.audit(name)
        if line["event"] == "sent" and line["kind"] == m.TRAIN and line["study"] in private
    }
    with Ledger.open(made.kit(name) / "state" / "ledger.sqlite", name) as ledger:
        assert len(list(ledger.entries())) >= len(sent)


def check_approvals(made: StandingNetwork, name: str, id: str) -> None:
    """The plan that a hospital took part by is the server's, of exactly this study's settings; one
    that a person decided on stands under the hospital's signature; keys of what is over are gone.
    """
    folder = made.kit(name) / "state" / "studies" / id
    if not folder.is_dir():
        return
    approvals = Approvals(folder, Kit.open(made.kit(name)).identity)
    plans = [one.manifest for one in approvals.decisions("approved")] + approvals.in_force()
    lines = [one for one in made.audit(name) if one.get("run") == made.sent[id].run]
    mine = [one for one in lines if one["event"] == "manifest"]
    for plan in plans:
        study = made.sent[id]
        assert (plan.study, plan.run) == (id, study.run), f"{name}: of another study: {plan}"
        assert plan.rounds == planned_rounds(made.config_of(id))
        assert plan.secure_aggregation == made.config_of(id).secure_aggregation
    out = [
        one["kind"] for one in made.audit(name) if (one["event"], one.get("study")) == ("sent", id)
    ]
    sent = set(out) - {m.MANIFEST, m.STUDY_ENDED}
    for plan in approvals.in_force() if sent else ():  # else it may have ended before the line
        assert plan.digest().hex() in {one["manifest"] for one in mine}, f"{name}: {plan}"
    if study_asks(made, id):
        said = [one for one in lines if one["event"] == "approval" and one["accepted"]]
        first = {one["manifest"] for one in mine if one["stage"] == 1}
        assert first <= {one["manifest"] for one in said}, f"{name}: nobody approved"
    assert (folder / "over.json").exists(), f"{name}: {id} isn't over there"
    assert not (folder / "store").exists(), f"{name}: keys of {id} are there"
    assert not list(folder.glob("answers/*")), f"{name}: answers of {id} are there"


def study_asks(made: StandingNetwork, id: str) -> bool:
    """Whether a person decides on it."""
    return made.sent[id].name.startswith("asked-")


def check_sums(made: StandingNetwork) -> None:
    """One survivor set for each sum that was opened."""
    opened: dict[tuple[Any, ...], set[tuple[str, ...]]] = {}
    for name in HOSPITALS:
        told = {line["request"]: line["told"] for line in made.audit(name)
                if line["event"] == "received" and line["kind"] == m.UNMASK}  # fmt: skip
        for line in made.audit(name):
            if line["event"] == "sent" and (words := told.get(line["request"])):
                place = (words["run"], words["group"], words["aggregation"])
                opened.setdefault(place, set()).add(tuple(words["survivors"]))
    different = {place: found for place, found in opened.items() if len(found) > 1}
    assert not different, f"two survivor sets: {different}"


def check_ends(made: StandingNetwork) -> None:
    """Every hospital that is asked, and has heard of a study, knows how it ended; one that took
    part in a complete one has its model."""
    with made.store() as store:
        rows = store.list()
    for row in rows:
        took = {name for one in made.rounds(row.id) for name in one["accepted"]}
        for name in row.hospitals:
            place = made.kit(name) / "results" / made.sent[row.id].run
            if row.state == "complete" and name in took:
                assert json.loads((place / "ended.json").read_text())["state"] == "complete"
                assert (place / "model" / "model.safetensors").read_bytes() == made.model(row.id)
            else:
                assert not (place / "model").exists(), f"{name} has results of {row}"


def check_logs(made: StandingNetwork) -> None:
    """Nobody ever sees a traceback."""
    for log in made.folder.glob("*.log"):
        text = log.read_text(errors="replace")
        assert "Traceback" not in text, f"{log.name}: {text[text.index('Traceback') :][:3000]}"
