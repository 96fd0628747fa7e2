"""One hospital's process in several studies of a network, which compute in real child processes."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.client.process.network import SITE, Network, StudyRounds
from wardround.client.process.child import DIED, Children
from wardround.client.process.doctor import examine
from wardround.client.process.studies import Studies
from wardround.client.site import studies as kept
from wardround.client.site.approval import Approvals
from wardround.client.site.failures import Failures
from wardround.common.config.load import load_config
from wardround.common.errors import PolicyRefused, WardroundError
from wardround.common.process.main import app
from wardround.common.protocol import names as m
from wardround.common.protocol.describe import DescribeReply, DescribeRequest
from wardround.common.protocol.errors import Code
from wardround.common.protocol.results import StudyEnded
from wardround.common.study.study import Submission
from wardround.common.transport.frames import Start
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision

NORTH = ("north",)
ASK = DescribeRequest().to_records()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path)
    yield network
    network.close()


def events(network: Network, name: str = "north") -> list[dict[str, Any]]:
    path = network.kits[name] / "state" / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def waits(rounds: StudyRounds, name: str = "north") -> str:
    """What a hospital says instead of accepting the plan."""
    with pytest.raises(WardroundError) as refused:
        rounds.show(rounds.manifest(), [name])
    return str(refused.value)


def files(network: Network, rounds: StudyRounds, name: str = "north") -> set[str]:
    folder = network.studies(name).folders.folder(rounds.study)
    return {one.name for one in folder.iterdir()} if folder.exists() else set()


def test_side_by_side_and_with_children_that_end_between_requests_the_models_are_the_same(
    network: Network,
) -> None:
    """Nothing of one study is in another's model, and nothing that counts is in a child alone:
    SCAFFOLD's control variates come back from the disk."""
    more = "[strategy]\nname = 'scaffold'\n"
    studies = [
        network.study("sepsis", hospitals=("north", "south"), more=more),
        network.study("age", researcher="bert", hospitals=("north", "south"), target="old"),
    ]
    first = network.running(studies[0])

    def end_children() -> None:
        for work in network.studies("north").works.values():
            work.place.end()

    first.between = end_children
    alone = [first.train(), network.running(studies[1]).train()]
    assert alone[0] != alone[1]
    network.close()
    for name in network.kits:
        folders = network.kits[name] / "state" / "studies"
        for one in folders.glob("*/*/*"):
            one.unlink()  # the same kits, which never saw these studies
        network.start(name)
    with ThreadPoolExecutor(2) as pool:
        runs = [network.running(one, "-again") for one in studies]
        assert [one.result() for one in [pool.submit(run.train) for run in runs]] == alone
    process = network.processes["north"]
    assert {work.place.process_id for work in process.studies.works.values()} - {None, os.getpid()}


def test_a_new_study_is_asked_about_and_no_decision_touches_another_one(tmp_path: Path) -> None:
    network = Network(tmp_path, "require_secure_aggregation = false\n")
    one, other = (network.running(network.study(name, hospitals=NORTH)) for name in "ab")
    for rounds in (one, other):
        assert f"waits for approval: run `wardround client approve KIT {rounds.study[:12]}`" in (
            waits(rounds)
        )
        assert rounds.refusal is Code.WAITING
    kit, folders = network.processes["north"].kit, network.studies("north").folders
    approvals = {x: Approvals(folders.folder(x.study), kit.identity) for x in (one, other)}
    (plan,) = approvals[one].pending()
    approvals[one].approve(plan.digest())
    one.show(one.manifest())
    assert "waits for approval" in waits(other)
    (plan,) = approvals[other].pending()
    approvals[other].reject(plan.digest(), "too few of our patients")
    assert "too few of our patients (a person's decision)" in waits(other)
    assert other.refusal is Code.REJECTED
    network.studies("north").note_decisions()
    assert not one.ask("north", ASK, m.DESCRIBE).has_error()
    said = [x for x in events(network) if x["event"] == "approval"]
    assert [x["accepted"] for x in said] == [True, False]
    network.close()


def test_a_person_sees_who_asks_what_and_what_is_new_and_names_a_study(tmp_path: Path) -> None:
    network = Network(tmp_path, "require_secure_aggregation = false\n")
    kit = str(network.kits["north"])

    def client(*words: str, says: str = "") -> str:
        done = CliRunner().invoke(app, ["client", *words], input=says)
        return done.output + str(done.exception or "")

    assert "no study was shown" in client("studies", kit)
    first = network.running(network.study("sepsis", hospitals=NORTH))
    more = "[training]\nlr = 0.2\nbatch_size = 8\nlocal_epochs = 2\nmomentum = 0.1\n"
    more += "[data]\nvalidation_fraction = 0.1\n[strategy]\nweighting = 'uniform'\n"
    pair = ("north", "south")
    second = network.running(network.study("sepsis", hospitals=pair, rounds=5, more=more))
    other = network.running(network.study("age", "bert", NORTH, target="old"))
    for rounds in (first, second, other):
        waits(rounds)
    assert client("studies", kit).count("waits for approval") == 3
    assert "2 studies are called 'sepsis'" in client("approve", kit, "sepsis")
    assert "--yes: plans of 3 studies wait; name the one" in client("approve", kit, "--yes")
    assert client("studies", kit).count("waits for approval") == 3
    shown = client("approve", kit, first.study[:12], says="y\n")
    for text in ("asked by            anna, of north", "target              ill", "lactate"):
        assert (text in shown) == (text != "lactate")
    assert "computed here on    what the client was started with (--data)\n" in shown
    for text in (
        first.signed.study.purpose,
        "numeric: first, second",
        "patient_id: patient",
    ):
        assert text in shown
    assert "What leaves this hospital:" in shown and "New since" not in shown
    shown = client("approve", kit, second.study[:12], says="n\n")
    assert f"New since the plan of run '{first.signed.study.run}'" in shown
    assert "plan: rounds was 2, is 5" in shown and "training.lr was 0.05, is 0.2" in shown
    assert "of the same hospitals but for south: its sums" in " ".join(shown.split())
    assert 'strategy.weighting was "auto", is "uniform"' in shown  # however many others there are
    assert "nothing decided" in shown
    assert "rejected: of run 'age-" in client("reject", kit, "age", "not this question")
    said = client("studies", kit)
    assert "rejected by" in said and "not this question" in said
    assert said.count("waits for approval") == 1 and said.count("approved by") == 1
    assert "not this question" in waits(other) and "waits for approval" in waits(second)
    first.show(first.manifest())
    assert client("studies", kit).count("takes part") == 1
    north = network.studies("north")
    north.end(first.study, north.over("aborted", "a typo"))  # its name is the other's again
    assert second.study[:12] in client("reject", kit, "sepsis", "not again")
    assert "over: aborted (a typo)" in client("studies", kit)
    network.close()


def test_a_decision_on_nothing_is_no_success(tmp_path: Path) -> None:
    """``approve --yes`` right after ``study submit``, before the client was shown the plan."""
    network = Network(tmp_path, "require_secure_aggregation = false\n")
    kit = str(network.kits["north"])

    def client(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["client", *words])
        error = done.exception
        code = error.exit_code if isinstance(error, WardroundError) else done.exit_code
        return code, done.output + str(error or "")

    early = "no plan waits for approval; nothing was decided: a plan can be decided on once"
    for option in (["--yes"], ["--reject", "no"]):
        code, said = client("approve", kit, *option)
        assert code == PolicyRefused.exit_code and early in said
    assert client("approve", kit) == (0, f"{kit}: no plan waits for approval\n")  # only looked
    rounds = network.running(network.study("sepsis", hospitals=NORTH))
    waits(rounds)
    assert "approved" in client("approve", kit, "sepsis", "--yes")[1]
    code, said = client("approve", kit, "sepsis", "--yes")
    assert code == 0 and "no plan waits for approval; study sepsis" in said
    assert "approved by" in said and client("approve", kit, "sepsis")[0] == 0
    assert client("reject", kit, "sepsis", "no")[0] == 0
    code, said = client("reject", kit, "sepsis", "again")
    assert code == 0 and "was rejected" in said
    north = network.studies("north")
    north.end(rounds.study, north.over("aborted", "a typo"))
    code, said = client("approve", kit, rounds.study[:12], "--yes")
    assert code == PolicyRefused.exit_code and "over: aborted (a typo)" in said
    network.close()


def test_waiting_costs_no_child(tmp_path: Path) -> None:
    """A plan is shown every few seconds for days: the data are read once, and then when it is
    approved."""
    network = Network(tmp_path, "require_secure_aggregation = false\n")
    rounds = network.running(network.study(hospitals=NORTH))
    waits(rounds)
    place = network.studies("north").works[rounds.study].place
    place.end()
    waits(rounds)
    assert place.process_id is None
    path = network.kits["north"] / "site.toml"
    path.write_text(path.read_text() + "max_rounds = 1\n")  # the rules are others
    assert "max_rounds: this hospital allows 1 rounds, the run plans 2" in waits(rounds)
    network.close()


def test_a_child_that_is_killed_at_work_fails_its_request_alone(network: Network) -> None:
    rounds = network.running(network.study(hospitals=NORTH))
    rounds.show(rounds.manifest())
    child = network.studies("north").works[rounds.study].place.process_id
    os.kill(child, signal.SIGSTOP)  # so that it is surely at work when it is killed
    timer = threading.Timer(0.3, os.kill, (child, signal.SIGKILL))
    timer.start()
    reply = rounds.ask("north", ASK, m.DESCRIBE)
    timer.join()
    assert reply.has_error() and reply.error.reason == DIED
    assert Failures(network.kits["north"] / "state").count() == 1
    reply = network.running(rounds.signed, "-later").ask("north", ASK, m.DESCRIBE)
    assert DescribeReply.from_records(reply.content).hospital == "north"
    assert network.studies("north").works[rounds.study].place.process_id != child


def test_more_studies_than_children_take_turns(tmp_path: Path) -> None:
    network = Network(tmp_path, SITE + "studies_at_once = 1\n")
    pair = [network.running(network.study(name, hospitals=NORTH)) for name in "ab"]
    for rounds in pair:
        rounds.show(rounds.manifest())
    alive = [work.place.is_alive for work in network.studies("north").works.values()]
    assert alive == [False, True]
    assert not pair[0].ask("north", ASK, m.DESCRIBE).has_error()
    alive = [work.place.is_alive for work in network.studies("north").works.values()]
    assert alive == [True, False]
    network.close()


def test_one_that_finds_all_others_at_work_waits_for_its_turn() -> None:
    class Fake:
        is_alive, ended = True, False

        def end(self) -> None:
            self.ended = True

    children, first, second, order = Children(1), Fake(), Fake(), list[str]()

    def work() -> None:
        with children.room(second):  # type: ignore[arg-type]
            order.append("second")

    with children.room(first):  # type: ignore[arg-type]
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive() and not first.ended
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"] and first.ended and not second.ended


# --- the end --------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["aborted", "by its clock"])
def test_a_study_that_is_over_answers_nothing_and_its_keys_are_burnt(
    network: Network, how: str
) -> None:
    rounds = network.running(network.study(hospitals=NORTH))
    other = network.running(network.study("other", hospitals=NORTH))
    for one in (rounds, other):
        one.show(one.manifest())
    studies = network.studies("north")
    place = studies.works[rounds.study].place
    assert "store" in files(network, rounds)
    if how == "aborted":
        rounds.end("aborted", "by its researcher")
        rounds.end("aborted", "said twice")
        said = "aborted (by its researcher)"
    else:
        network.clock[0] += timedelta(days=91)
        reply = rounds.ask("north", ASK, m.DESCRIBE)
        assert Code(reply.error.code) is Code.OVER and "nothing is computed" in reply.error.reason
        studies.note_decisions()
        network.clock[0] -= timedelta(days=91)  # what is over stays so
        said = "expired"
    assert not place.is_alive and not {"store", "answers"} & files(network, rounds)
    if how == "aborted":
        assert not other.ask("north", ASK, m.DESCRIBE).has_error()
    for _ in range(2):
        assert said in waits(network.running(rounds.signed))
        reply = network.running(rounds.signed).ask("north", ASK, m.DESCRIBE)
        assert Code(reply.error.code) is Code.OVER
        network.processes["north"].close()
        network.start("north")
    ends = [x for x in events(network) if x["event"] == "study" and x["study"] == rounds.study]
    assert [x["state"] for x in ends] == ["shown", said.partition(" ")[0]]


def test_what_is_open_is_taken_up_at_a_start(network: Network) -> None:
    rounds = network.running(network.study(hospitals=NORTH))
    rounds.show(rounds.manifest())
    network.processes["north"].close()
    network.start("north")
    assert list(network.studies("north").works) == [rounds.study]
    reply = rounds.ask("north", ASK, m.DESCRIBE)
    assert "no run manifest was accepted" in reply.error.reason  # in this process, not yet
    rounds = network.running(rounds.signed)
    rounds.show(rounds.manifest())
    assert not rounds.ask("north", ASK, m.DESCRIBE).has_error()


# --- what isn't taken -----------------------------------------------------------------------------
def forged(network: Network, rounds: StudyRounds, how: str) -> str:
    """Show something else than the study's own plan; what north says."""
    signed, plan = rounds.signed, rounds.manifest()
    submission = signed.submission
    other = network.study("other", researcher="bert", hospitals=NORTH)
    if how == "researcher":
        rounds.signed = dataclasses.replace(
            signed, submission=Submission(submission.study, other.submission.signature)
        )
    elif how == "server":
        rounds.signed = dataclasses.replace(signed, signature=other.signature)
    elif how == "study":
        rounds.signed = other
    elif how == "rounds":
        plan = plan.model_copy(update={"rounds": 3})
    elif how == "run":
        plan = plan.model_copy(update={"run": "sepsis"})
    elif how == "roster":
        plan = plan.model_copy(update={"roster": ("north", "south")})
    else:
        plan = plan.model_copy(update={how: "0" * 64})
    with pytest.raises(WardroundError) as refused:
        rounds.show(plan, NORTH)
    return str(refused.value)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("researcher", "isn't signed by 'anna'"),
        ("server", "isn't signed by the server"),
        ("study", "another study came with the plan"),
        ("run", "whose run is 'sepsis-"),
        ("roster", "the run's roster is north, south, this hospital's north"),
        ("rounds", "the run's rounds is 3, this hospital's 2"),
        ("descriptor", "the run's settings' digest is 0000"),
        ("task_sha256", "the run's task's SHA-256 is 0000"),
    ],
)
def test_a_plan_that_is_not_what_both_signed_is_refused(
    tmp_path_factory: pytest.TempPathFactory, shared: Network, how: str, said: str
) -> None:
    rounds = shared.running(shared.study(hospitals=NORTH))
    assert said in forged(shared, rounds, how)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """For tests that leave nothing accepted."""
    network = Network(tmp_path_factory.mktemp("shared"))
    yield network
    network.close()


def test_a_hospital_that_is_not_asked_keeps_nothing(shared: Network) -> None:
    rounds = shared.running(shared.study("for-north", hospitals=NORTH))
    assert "this hospital isn't asked in the study" in waits(rounds, "south")
    assert files(shared, rounds, "south") == set()


def test_a_message_is_about_a_study_that_was_shown(shared: Network) -> None:
    never = shared.running(shared.study("never", hospitals=NORTH))
    reply = never.ask("north", ASK, m.DESCRIBE)
    assert "no run manifest was accepted" in reply.error.reason
    process = shared.processes["north"]
    assert process.wanted(Start(number=1, id="a" * 64, kind="request", type=m.MANIFEST)) == ""
    answer = process.connection.mailbox.waiting()[-1]
    assert "a request is about one of its studies" in answer.reason


def test_a_server_fills_no_disk_with_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST_OPEN", 2)
    network = Network(tmp_path, "require_secure_aggregation = false\n")
    each = [network.running(network.study(name, hospitals=NORTH)) for name in "abc"]
    assert "waits for approval" in waits(each[0]) and "waits for approval" in waits(each[1])
    assert "has 2 studies that aren't over, and takes no more" in waits(each[2])
    each[0].end("aborted")
    assert "waits for approval" in waits(network.running(each[2].signed))
    network.close()


def test_a_study_ends_in_one_of_four_ways(shared: Network) -> None:
    """The word is shown to people, so it is none of the server's own."""
    rounds = shared.running(shared.study("odd-end", hospitals=NORTH))
    rounds.show(rounds.manifest())
    ended = StudyEnded(rounds.study, "\x1b[2Jcomplete", "").to_records()
    reply = rounds.ask("north", ended, m.STUDY_ENDED)
    assert reply.error.reason == "a study doesn't end as '[2Jcomplete'"
    assert not rounds.ask("north", ASK, m.DESCRIBE).has_error()


def test_a_study_without_data_says_which_table_to_write(tmp_path: Path) -> None:
    network = Network(tmp_path, SITE, data=False)
    rounds = network.running(network.study(hospitals=NORTH))
    assert '[studies."sepsis"] with data = "NAME"' in waits(rounds)
    rows = f"[data.icu]\npath = '{tmp_path / 'north.csv'}'\n[studies.'sep*']\ndata = 'icu'\n"
    (network.kits["north"] / "site.toml").write_text(SITE + rows)
    rounds.show(rounds.manifest())
    assert not rounds.ask("north", ASK, m.DESCRIBE).has_error()
    found = {one.what: one.text for one in examine(network.kits["north"], None)}
    assert found["data.icu"].endswith("north.csv: is there") and "40 rows" in found["study sepsis"]
    found = {one.what: one.state for one in examine(network.kits["north"], tmp_path / "none.csv")}
    assert found["data"] == "error"
    (line,) = (x for x in events(network) if x["event"] == "data")
    assert line["rows"] == 40
    network.close()


def test_studies_have_no_place_in_a_federation_that_is_one(tmp_path: Path) -> None:
    from tests.provisioning import federation
    from wardround.client.process.main import HospitalProcess
    from wardround.client.site.kit import Kit
    from wardround.server.provision import kits as provision

    config = federation(tmp_path, hospitals=("north", "south", "east"))
    process = HospitalProcess(Kit.open(provision.provision(config, now=now_utc()).kits[0]), None)
    start = Start(number=1, id="a" * 64, kind="request", type=m.MANIFEST, study="b" * 64)
    assert isinstance(process.studies, Studies) and process.wanted(start) == ""
    (answer,) = process.connection.mailbox.waiting()
    assert "this federation has no studies" in answer.reason and answer.study == "b" * 64
    process.close()


def test_a_researcher_who_was_revoked_asks_nothing_any_more(network: Network) -> None:
    """Whatever the server does: the hospital's own description says who is a member."""
    signed = network.study(hospitals=("east", "north"), name="revoked")
    running = network.running(signed)
    running.show(running.manifest())
    rules = network.studies("north").works[signed.study.id].rules
    rules.may_begin(m.DESCRIBE, None)
    config = load_config(network.folder / "network.toml")
    # within the second of the one before, a description has a new version
    done = provision.revoke(config, "anna", now_utc() + timedelta(seconds=2))
    data = (done.folder / "server" / "federation.signed").read_bytes()
    before = network.processes["north"].kit.description
    network.processes["north"].described(data)
    after = network.processes["north"].kit.description
    assert after.digest() == before.digest(), "no other plan is disturbed"
    with pytest.raises(PolicyRefused, match="no member"):
        rules.may_begin(m.DESCRIBE, None)
    assert isinstance(rules.note_decisions(), PolicyRefused)
    with pytest.raises(WardroundError, match="north: 'anna', who asks the study, is no member"):
        running.show(running.manifest(), to=["north"])


def test_the_server_is_told_at_once_that_a_person_has_decided(tmp_path: Path) -> None:
    """Else it would ask in some minutes. Nothing but that is said."""
    network = Network(tmp_path, site="require_secure_aggregation = false\n")
    try:
        rounds, told = network.running(network.study(hospitals=("north", "south"))), []
        rounds.on_again = told.append
        assert "waits for approval" in waits(rounds)
        studies = network.studies("north")
        studies.note_decisions()
        network.settle["north"]()
        assert told == []
        (plan,) = Approvals(
            studies.folders.folder(rounds.study), network.processes["north"].kit.identity
        ).pending()
        Approvals(
            studies.folders.folder(rounds.study), network.processes["north"].kit.identity
        ).approve(plan.digest())
        studies.note_decisions()
        network.settle["north"]()
        assert told == ["north"]
        rounds.show(rounds.manifest(), NORTH)
        studies.note_decisions()
        network.settle["north"]()
        assert told == ["north"], "said once"
    finally:
        network.close()
