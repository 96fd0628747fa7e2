"""Starting and stopping a hospital's process: lock, kill switch, ledger, data, doctor."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from tests.joined import join
from tests.provisioning import federation
from wardround.client.privacy.ledger import Ledger
from wardround.client.privacy.sizes import announced_sizes
from wardround.client.process.doctor import examine
from wardround.client.process.main import HospitalProcess
from wardround.client.site.enroll import accept
from wardround.client.site.kit import Kit
from wardround.client.site.plan_checks import planned_epsilon
from wardround.client.site.stop import stop_hospital
from wardround.common.config.load import load_config
from wardround.common.config.task import make_task
from wardround.common.durable.lock import lock_holder, take_lock
from wardround.common.errors import (
    DataError,
    PolicyRefused,
    PrivacyRefused,
    ProvisionError,
    TransportError,
)
from wardround.common.protocol import names as m
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision
from wardround.server.reception.manifest import preparation_manifest
from wardround.server.transport.events import ServerEvents
from wardround.server.transport.grid import HospitalGrid
from wardround.server.transport.hall import Hall

PRIVATE = """
[training]
batch_size = 16
[privacy]
unit = "example"
noise = "local"
noise_multiplier = 1.0
clipping_norm = 1.0
"""
HOLD = (
    "import sys, time, signal\nfrom pathlib import Path\n"
    "from wardround.common.durable.lock import take_lock\n"
    "if sys.argv[2] == 'stubborn': signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "lock = take_lock(Path(sys.argv[1]))\nprint('held', flush=True)\ntime.sleep(60)\n"
)


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    config = federation(tmp_path, hospitals=("north", "south", "east"))
    return provision.provision(config, now=now_utc()).kits[0]


@contextmanager
def holding(path: Path, how: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds a lock."""
    command = [sys.executable, "-c", HOLD, str(path), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_start_is_refused_while_the_first_one_lives(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holding(path) as process:
        assert lock_holder(path) == process.pid
        with pytest.raises(TransportError, match=rf"already running \(process {process.pid}\)"):
            take_lock(path)
    assert lock_holder(path) is None
    take_lock(path).close()


def test_the_process_opens_the_kit_once_and_not_twice(
    kit: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = HospitalProcess(Kit.open(kit), None)
    assert "on the task's public example data, on no patient" in caplog.text
    hospital = process.own.place.work.hospital
    assert hospital.sizes()["train"] > 0 and not hospital.simulated
    with pytest.raises(TransportError, match="already running"):
        HospitalProcess(Kit.open(kit), None)
    process.close()
    HospitalProcess(Kit.open(kit), None).close()


def test_a_description_that_was_brought_is_taken_up_at_the_next_connection(
    kit: Path, tmp_path: Path
) -> None:
    """The server has moved while the hospital was away; its process still dials."""
    process = HospitalProcess(Kit.open(kit), None)
    old = process.kit.description
    process.dialling()
    assert process.kit.description == old
    handed_over = tmp_path / "handed-over"
    shutil.copytree(kit, handed_over)
    config = federation(tmp_path, hospitals=("north", "south", "east"))
    path = config.folder / "federation.toml"
    path.write_text(path.read_text() + "address = 'moved.example:9443'\n")
    provision.provision(load_config(path), now=now_utc())
    shutil.copy(handed_over / "federation.signed", kit / "federation.signed")
    process.dialling()
    assert process.kit.description == old
    accept(tmp_path / "provision" / "server" / "federation.signed", kit)
    process.dialling()
    assert process.kit.description.address == "moved.example:9443"
    (kit / "federation.signed").write_text("not any more")
    process.dialling()
    assert process.kit.description.address == "moved.example:9443"
    process.close()


def test_what_had_come_is_answered_after_a_break_but_not_to_another_server(
    kit: Path, tmp_path: Path
) -> None:
    """A server asks the same process of a hospital once, however often the connection breaks."""
    process = HospitalProcess(Kit.open(kit), None)
    grid = HospitalGrid("run", Hall(5.0, 1 << 20, tmp_path, ServerEvents()))
    link = grid.link("north")

    def connect(server: str) -> Callable[[], None]:
        settle = join(link, process.connection)
        process.connected(server)
        return settle

    def ask(number: int) -> str:
        content = RecordDict({"c": ConfigRecord({"q": number})})
        (message_id,) = grid.push_messages([Message(content, link.node_id, m.TRAIN)])
        return message_id

    settle = connect("5" * 32)
    link.admitted = True
    ids = [ask(1), ask(2)]
    settle()
    assert not link.line.mailbox.waiting()  # both have come as a whole, and neither is begun
    settle = connect("5" * 32)
    process.own.responder.stop()
    process.own.responder.run()
    settle()
    assert len(list(grid.pull_messages(ids))) == 2
    ask(3)
    settle()
    connect("6" * 32)
    process.own.responder.stop()
    process.own.responder.run()
    assert not any(start.reply_to for start in process.connection.mailbox.waiting())
    process.close()


def test_a_ledger_is_made_at_the_first_start_only(kit: Path) -> None:
    HospitalProcess(Kit.open(kit), None).close()
    ledger = kit / "state" / "ledger.sqlite"
    Ledger.open(ledger, "north").close()
    ledger.unlink()
    HospitalProcess(Kit.open(kit), None).close()
    assert not ledger.exists()  # it never begins anew by itself: private training is refused
    with pytest.raises(PrivacyRefused):
        Ledger.open(ledger, "north")


def test_a_mistake_in_the_data_is_told_at_the_start(kit: Path, tmp_path: Path) -> None:
    shard = tmp_path / "shard.csv"
    shard.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="shard.csv"):
        HospitalProcess(Kit.open(kit), shard)
    HospitalProcess(Kit.open(kit), None).close()  # and holds no lock afterwards


@pytest.mark.parametrize(
    ("how", "ended_by"), [("", -signal.SIGTERM), ("stubborn", -signal.SIGKILL)]
)
def test_the_kill_switch_ends_the_process_within_a_second(kit: Path, how, ended_by) -> None:
    (kit / "state").mkdir(mode=0o700)
    with holding(kit / "state" / "lock", how) as process:
        line = stop_hospital(kit, undo=False)
        assert process.wait(5) == ended_by
    assert ("killed" if how else "stopped") in line


def test_a_stopped_hospital_starts_only_after_undo(kit: Path) -> None:
    assert "was not running" in stop_hospital(kit, undo=False)
    with pytest.raises(TransportError, match="was stopped .* --undo"):
        HospitalProcess(Kit.open(kit), None)
    stop_hospital(kit, undo=True)
    HospitalProcess(Kit.open(kit), None).close()


def test_the_kill_switch_wants_a_kit(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError, match="not a start-up kit"):
        stop_hospital(tmp_path, undo=False)


def test_the_doctor_says_what_is_wrong_and_goes_on(kit: Path, tmp_path: Path) -> None:
    shard = tmp_path / "wrong.csv"
    shard.write_text("a,b\n1,2\n")
    found = {one.what: one for one in examine(kit, shard)}
    assert found["kit"].state == "ok" and "north" in found["kit"].text
    assert found["server"].state == "error" and "refused the connection" in found["server"].text
    assert found["data"].state == "error" and "wrong.csv" in found["data"].text
    assert found["policy"].state == "ok"
    assert found["description"].state == "ok" and "valid for 29 days" in found["description"].text
    (kit / "client.key").chmod(0o644)
    (only,) = examine(kit, None)
    assert only.state == "error" and "client.key" in only.text


def test_what_a_plan_may_cost_is_of_the_announced_units(tmp_path: Path) -> None:
    """A refusal says epsilon, of as many rounds as the server likes: of the true number of units it
    told that number, which is announced with noise only."""
    config = federation(tmp_path / "private", hospitals=("north", "south", "east"))
    path = config.folder / "federation.toml"
    path.write_text(path.read_text() + PRIVATE)
    config = load_config(path)
    own = provision.provision(config, now=now_utc()).kits[0]
    (own / "site.toml").write_text("max_epsilon_per_run = 0.001\n")
    process = HospitalProcess(Kit.open(own), None)
    process.witness.countersigned()
    server = provision.load_server_folder(config)
    manifest = preparation_manifest(config, make_task(config), server.description, "run-1")
    signed = manifest.signed(server.identity)
    with pytest.raises(PolicyRefused, match="allows epsilon 0.001, the run plans ") as refused:
        process.own.rules.admit(RecordDict({"manifest": ConfigRecord({m.MESSAGE: signed})}))
    hospital = process.own.place.work.hospital
    announced = announced_sizes(hospital)["train"]
    planned = planned_epsilon(manifest, hospital.config, announced)
    assert str(refused.value).split("plans ")[1].startswith(f"{planned:.4g}")
    process.close()
