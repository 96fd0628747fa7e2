"""What the leading server does with its studies: real kits, signatures and database, no gRPC."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from wardround.common.audit.lines import told
from wardround.common.audit.log import AuditLog
from wardround.common.config.load import load_config, parse_config
from wardround.common.errors import DatabaseAway, Overtaken, RunDirectoryError, StudyRefused
from wardround.common.manifest.manifest import Manifest
from wardround.common.study.study import SignedStudy, Study
from wardround.common.trust.credentials import read_identity
from wardround.common.trust.pki import now_utc
from wardround.server.display.studies import StudiesBoard
from wardround.server.network.stored import asked
from wardround.server.network.studies import Studies
from wardround.server.network.study_run import Premises, StudyRun
from wardround.server.provision import kits as provision
from wardround.server.reception.port import Port
from wardround.server.studies.outbox import EVENT, Outbox
from wardround.server.studies.rights import Caller
from wardround.server.studies.store import StudyStore

NETWORK = """
[federation]
name = "trusts"
[server]
hospitals = ["north", "south", "east", "west"]
researchers = ["anna"]
[network]
"""
STUDY = """
[study]
name = "sepsis"
purpose = "Why?"
hospitals = ["north", "south", "east"]
{more}
[federation]
min_clients = 2
[secure_aggregation]
enabled = false
[task]
{task}
[task.columns]
target = "died"
numeric = ["lactate"]
"""
LINKED = """
[study]
name = "link"
purpose = "Who?"
hospitals = ["north", "south"]
wait_hours = 0.0
[task]
name = "linked"
[task.identifiers]
nhs = "nhs"
[task.parties.north]
[task.parties.south]
[procedure]
name = "linkage"
"""


def in_a_year() -> str:
    return (now_utc() + timedelta(days=365)).date().isoformat()


ANNA = Caller("researcher", "anna")


@dataclass
class Network:
    folder: Path
    store: StudyStore
    port: Port
    audit: AuditLog
    board: StudiesBoard
    studies: Studies
    premises: Premises

    def study(self, more: str = "", task: str = "", sha256: str = "") -> Study:
        config = parse_config(STUDY.format(more=more, task=task))
        members = self.port.description.now
        return Study.of(config, members, "anna", now=now_utc(), task_sha256=sha256)

    def submit(self, study: Study) -> StudyRun:
        identity = read_identity(self.folder / "provision/kits/anna/identity.key", "")
        assert self.studies.submit(ANNA, study.signed(identity))
        self.studies.look()
        return self.studies.runs[study.id]

    def state(self, study: Study) -> tuple[str, str]:
        row = self.store.get(study.id)
        return row.state, row.reason


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    (tmp_path / "network.toml").write_text(NETWORK)
    config = load_config(tmp_path / "network.toml")
    provision.provision(config)
    folder = provision.load_server_folder(config)
    store = StudyStore.open(tmp_path / "studies.sqlite")
    lead = store.lead("one", 60)
    assert lead is not None
    (tmp_path / "spool").mkdir()
    with AuditLog.open(folder.audit_path, "server", folder.identity) as audit:
        board = StudiesBoard("trusts")
        port = Port(config, folder, audit, tmp_path / "spool", board.network)
        premises = Premises(
            port=port,
            library=tmp_path / "library",
            runs=tmp_path / "runs",
            identity=folder.identity,
        )
        studies = Studies(
            premises,
            store,
            Outbox(store, audit),
            board,
            lead=lead,
            owner="one",
            at_once=1,
            lease_s=60,
        )
        yield Network(tmp_path, store, port, audit, board, studies, premises)
    store.close()


def test_a_study_waits_until_all_have_decided_and_enough_have_said_yes(network: Network) -> None:
    study = network.study()
    run = network.submit(study)
    assert network.state(study) == ("waiting", "")
    run.events.admitted("north")
    run.events.not_admitted("south", "we have no lactate", withdrew=False)
    network.studies.look()
    assert network.state(study)[0] == "waiting"
    line = network.board.line(study.id)
    assert line is not None and line.waiting_for() == ["east"]
    assert line.hospitals["south"].reason == "we have no lactate"
    run.begin = lambda board, ended: None  # type: ignore[method-assign]
    run.events.admitted("east")
    network.studies.look()
    assert network.state(study)[0] == "running"
    events = [(one.kind, one.old, one.new) for one in network.store.events(study.id)]
    assert events[-2:] == [("state", "waiting", "queued"), ("state", "queued", "running")]
    numbers = [line["number"] for line in told(network.audit.path, EVENT)]
    assert numbers == list(range(1, len(events) + 1))


def test_it_begins_with_the_fewest_once_the_others_were_waited_for(network: Network) -> None:
    study = network.study(more="wait_hours = 0.0")
    run = network.submit(study)
    run.begin = lambda board, ended: None  # type: ignore[method-assign]
    run.events.admitted("north")
    network.studies.look()
    assert network.state(study)[0] == "waiting", "one is fewer than the two that it needs"
    run.events.admitted("south")
    network.studies.look()
    assert network.state(study)[0] == "running"


def test_a_joint_study_of_two_begins_with_all_its_parties_and_no_fewer(network: Network) -> None:
    """Whatever masks or ``min_clients`` would want of a sum."""
    config = parse_config(LINKED)
    study = Study.of(config, network.port.description.now, "anna", now=now_utc())
    run = network.submit(study)
    run.begin = lambda board, ended: None  # type: ignore[method-assign]
    run.events.admitted("north")
    network.studies.look()
    assert network.state(study)[0] == "waiting"
    run.events.admitted("south")
    network.studies.look()
    assert network.state(study)[0] == "running"


def test_only_those_that_are_wanted_are_shown_it(network: Network) -> None:
    study = network.study()
    run = network.submit(study)
    for name in ("north", "west"):
        network.port.hall.line(name).begin("1" * 32, "here")
        network.studies.connected(name)
    assert sorted(run.grid.links) == ["north"]
    assert network.port.hall.line("west").studies == {}
    plan = (run.run.path / "plan.json").read_bytes()
    manifest = Manifest.from_body(plan)
    assert manifest.roster == ("east", "north", "south") and manifest.study == study.id
    assert manifest.run == study.run == run.run.path.name
    # a hospital that isn't wanted finds nothing when it asks for lists, either
    west = Caller("hospital", "west")
    assert list(network.studies.list(west, (), 10)) == []


def test_the_same_submission_is_one_study(network: Network) -> None:
    study = network.study()
    network.submit(study)
    identity = read_identity(network.folder / "provision/kits/anna/identity.key", "")
    assert not network.studies.submit(ANNA, study.signed(identity))
    signed = SignedStudy.read(network.studies.signed(study.id), network.port.description.now)
    assert signed.study == study
    assert len(network.store.list()) == 1


def test_what_the_library_lacks_is_told_by_its_key_and_keeps_nothing(network: Network) -> None:
    study = network.study(task='name = "own.py:Own"', sha256="0" * 64)
    identity = read_identity(network.folder / "provision/kits/anna/identity.key", "")
    with pytest.raises(StudyRefused, match="task.name: 'own.py' isn't in this server's library"):
        network.studies.submit(ANNA, study.signed(identity))
    (network.folder / "library").mkdir()
    with pytest.raises(StudyRefused, match="task.name: '..' isn't in this server's library"):
        network.studies.submit(ANNA, network.study(task='name = "..:Own"').signed(identity))
    (network.folder / "library/own.py").write_text("class Own: ...")
    with pytest.raises(StudyRefused, match="SHA-256"):
        network.studies.submit(ANNA, study.signed(identity))
    assert network.store.list() == [] and not (network.folder / "runs").exists()


def test_it_ends_at_its_date_and_with_its_researcher(network: Network) -> None:
    study, other = network.study(), network.study(more=f"ends = {in_a_year()}")
    runs = [network.submit(study), network.submit(other)]
    now = network.store.now
    network.store.now = lambda: now() + 100 * 86_400  # type: ignore[method-assign]
    network.studies.look()
    assert network.state(study) == ("expired", "its end date has passed")
    assert network.state(other)[0] == "waiting" and list(network.studies.runs) == [other.id]
    config = load_config(network.folder / "network.toml")
    provision.revoke(config, "anna")
    network.port.description.look_again()
    network.studies.look()
    assert network.state(other) == ("aborted", "'anna' is no member any more")
    for run in runs:
        with pytest.raises(StudyRefused):
            run.grid.check()
    owed = {(one.study, one.hospital, one.what) for one in network.store.deliveries()}
    assert owed == {
        (id, name, "ended") for id in (study.id, other.id) for name in ("east", "north", "south")
    }


def test_abort_ends_it_once_whatever_it_was_at(network: Network) -> None:
    study = network.study()
    run = network.submit(study)
    network.studies.abort(ANNA, study.id, "a mistake in the cohort")
    assert network.state(study) == ("aborted", "a mistake in the cohort")
    with pytest.raises(StudyRefused, match="over"):
        run.grid.check()
    with pytest.raises(Overtaken, match="'aborted' already"):
        network.studies.abort(ANNA, study.id, "again")
    network.studies.look()
    ends = [one for one in network.store.events(study.id) if one.new == "aborted"]
    assert [one.who for one in ends] == ["researcher anna"]


def test_the_board_of_a_run_that_ended_says_so_and_not_why(network: Network) -> None:
    """Its clock stands; the reason is the study's, which hospitals aren't shown."""
    study = network.study()
    run = network.submit(study)
    board, over = network.board.begin(study.id, run.facts()), threading.Event()
    assert board.snapshot()["run"]["ended"] is None
    run.grid.fail(StudyRefused("a mistake in the cohort"))
    run.begin(board, over.set)
    assert over.wait(60) and run.error is not None
    shown = board.snapshot()["run"]
    assert shown["status"] == "stopped" and shown["ended"] is not None


def test_whoever_leads_next_goes_on_with_what_stands_in_the_database(network: Network) -> None:
    study = network.study()
    run = network.submit(study)
    run.events.admitted("north")
    run.events.admitted("east")
    network.studies.stop(StudyRefused("it leads no longer"))
    fence = network.store.lead("one", 60)
    assert fence is not None
    with pytest.raises(Overtaken):  # the old one's fence
        network.studies.look()
    after = Studies(
        network.premises,
        network.store,
        Outbox(network.store, network.audit),
        network.board,
        lead=fence,
        owner="one",
        at_once=1,
        lease_s=60,
    )
    after.look()
    again = after.runs[study.id]
    assert again.run.path == run.run.path
    again.begin = lambda board, ended: None  # type: ignore[method-assign]
    again.events.not_admitted("south", "no", withdrew=False)
    after.look()
    assert network.state(study)[0] == "running"


def test_a_database_that_is_away_for_a_moment_ends_no_study(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = network.study()
    network.submit(study)
    network.studies.runs.pop(study.id).close()  # as after a change of leader

    def away(id: str) -> bytes:
        raise DatabaseAway("it gives no answer")

    monkeypatch.setattr(network.store, "body", away)
    with pytest.raises(DatabaseAway):
        network.studies.look()
    monkeypatch.undo()
    assert network.state(study)[0] == "waiting"
    network.studies.look()
    assert study.id in network.studies.runs


def test_a_run_whose_disk_failed_is_opened_anew_and_claimed_once_its_lease_has_ended(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StudyRun, "begin", lambda *_: None)
    study = network.study()
    run = network.submit(study)
    for name in study.hospitals:
        run.events.admitted(name)
    network.studies.look()
    network.studies.look()
    before = network.store.get(study.id)
    assert before.state == "running"
    monkeypatch.setattr(StudyRun, "begun", property(lambda self: self is run))
    run.error, run.over = RunDirectoryError("can't be written (No space left on device)"), True
    network.studies.look()
    again = network.studies.runs.get(study.id)
    assert again is not run, "it would be looked at, and its lease prolonged, for ever"
    lease = network.store.get(study.id).lease_until
    network.studies.look()
    after = network.store.get(study.id)
    assert (after.state, after.lease_until, after.fence) == ("running", lease, before.fence)
    assert network.store.renew(study.id, after.fence, 0)  # it is later
    network.studies.look()
    assert network.store.get(study.id).fence == before.fence + 1


@pytest.mark.parametrize(
    ("what", "statement"),
    [
        ("researcher", "UPDATE studies SET researcher = 'bert'"),
        ("hospitals", "UPDATE decisions SET hospital = 'west' WHERE hospital = 'east'"),
        ("name", "UPDATE studies SET name = '../sepsis'"),
        ("ends", "UPDATE studies SET ends = ends + 86400"),
        ("id", "UPDATE studies SET body = (SELECT body FROM studies ORDER BY number LIMIT 1)"),
    ],
)
def test_what_a_database_says_is_held_against_what_was_signed(
    network: Network, what: str, statement: str
) -> None:
    """Else whoever can write it, and has no key, takes the results of a study, or has one of before
    run as another's."""
    identity = read_identity(network.folder / "provision/kits/anna/identity.key", "")
    earlier, study = network.study(), network.study(more=f"ends = {in_a_year()}")
    for one in (earlier, study):
        network.studies.submit(ANNA, one.signed(identity))
    assert asked(network.store, network.store.get(study.id)) == study
    with sqlite3.connect(network.folder / "studies.sqlite") as database:
        database.execute(statement)
    with pytest.raises(StudyRefused, match=f"other {what} than were signed"):
        asked(network.store, network.store.get(study.id))
    network.studies.look()
    assert study.id not in network.studies.runs
    if what != "researcher":  # 'bert' is no member, so it is aborted
        assert "was altered" in network.state(study)[1]
    with sqlite3.connect(network.folder / "studies.sqlite") as database:
        database.execute("UPDATE studies SET state = 'complete'")
    with pytest.raises(StudyRefused, match=f"other {what} than were signed"):
        network.studies.results(study.id)
