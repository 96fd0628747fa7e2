"""Files that this user may not use: each command says so in a line, and the kill switch works."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.provisioning import federation
from wardround.client.process.main import HospitalProcess
from wardround.client.site.kit import Kit
from wardround.client.site.stop import stop_hospital
from wardround.common.durable.private import private_folder
from wardround.common.errors import ProvisionError
from wardround.common.process.main import main
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision

NOBODY = 65534
LATER = (
    "encodings.ascii",
    "encodings.idna",
    "wardround.client.site.consent",
    "wardround.client.process.doctor",
    "wardround.common.audit.against",
    "wardround.common.audit.restart",
    "wardround.common.audit.verify",
    "wardround.server.display.board",
    "wardround.server.process.main",
    "wardround.server.process.doctor",
    "wardround.simulations.privacy.show",
)
"""What the commands import when they are called."""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")

HOLD = (
    "import sys, time\nfrom pathlib import Path\n"
    "from wardround.client.site.stop import is_stopped\n"
    "from wardround.common.durable.lock import take_lock\n"
    "lock = take_lock(Path(sys.argv[1]) / 'lock')\nprint('held', flush=True)\n"
    "while not is_stopped(Path(sys.argv[1])) or 'frozen' in sys.argv: time.sleep(0.1)\n"
)


@pytest.fixture
def kit() -> Iterator[Path]:
    """A hospital's kit that every user can get to."""
    for module in LATER:
        importlib.import_module(module)  # the interpreter's files may be closed to others, too
    with tempfile.TemporaryDirectory() as name:  # pytest's own are closed to other users
        folder = Path(name)
        folder.chmod(0o755)
        config = federation(folder, hospitals=("north", "south", "east"))
        shutil.copytree(provision.provision(config, now=now_utc()).kits[0], folder / "kit")
        yield folder / "kit"


@contextmanager
def nobody() -> Iterator[None]:
    """Without root's rights."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def give(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)


@contextmanager
def running(kit: Path, *how: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of root's that holds the kit's lock and looks for the mark."""
    private_folder(kit / "state")
    command = [sys.executable, "-c", HOLD, str(kit / "state"), *how]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def not_ours(pid: int, number: int) -> None:
    """What ``os.kill`` does to another user's process; here the real user stays root."""
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def said(monkeypatch, capsys, *arguments: object) -> tuple[int, str]:
    """Exit code and words of a command without root's rights."""
    monkeypatch.setattr(sys, "argv", ["wardround", *map(str, arguments)])
    with nobody(), pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    return int(ended.value.code or 0), " ".join((told.out + told.err).split())


def test_every_command_says_whose_the_files_are(kit: Path, monkeypatch, capsys) -> None:
    HospitalProcess(Kit.open(kit), None).close()
    state, toml = kit / "state", kit.parent / "federation.toml"
    kit.chmod(0o700)
    for command in (
        ["client", kit, "--example-data"],
        ["client", "approve", kit, "--reject", "no"],
        ["client", "stop", kit],
        ["client", "stop", kit, "--undo"],
        ["client", "enroll", "north", kit],
        ["doctor", kit],
        ["audit", "verify", state / "audit.jsonl"],
        ["audit", "show", state / "audit.jsonl"],
        ["audit", "restart", state / "audit.jsonl"],
        ["privacy", "show", state / "ledger.sqlite"],
        ["server", toml],
        ["provision", toml],
        ["provision", toml, "--list"],
        ["doctor", toml],
    ):
        code, words = said(monkeypatch, capsys, *command)
        assert code in ((1,) if command[0] == "doctor" else (10, 13)), command
        assert "belongs to user 'root'" in words and "chown" in words, (command, words)


def test_what_root_starts_first_its_owner_goes_on_with(kit: Path) -> None:
    give(kit)
    HospitalProcess(Kit.open(kit), None).close()
    Kit.open(kit)
    owners = {path.stat().st_uid for path in (kit / "state").rglob("*")}
    assert owners == {NOBODY}
    with nobody():
        HospitalProcess(Kit.open(kit), None).close()


def test_the_kill_switch_ends_another_users_client_by_the_mark(kit: Path) -> None:
    give(kit)
    with running(kit) as process, nobody():
        assert "stopped; it won't start" in stop_hospital(kit, False, not_ours)
        assert process.wait(5) == 0


def test_the_kill_switch_says_why_it_could_not(kit: Path) -> None:
    give(kit)
    with running(kit, "frozen") as process:
        with nobody(), pytest.raises(ProvisionError, match=rf"mark is set; process {process.pid} "):
            stop_hospital(kit, False, not_ours)
        os.chown(kit / "state" / "lock", 0, 0)
        with nobody(), pytest.raises(ProvisionError, match="mark is set; whether .* can't be seen"):
            stop_hospital(kit, undo=False)
    (kit / "state" / "stopped").unlink()
    os.chown(kit / "state", 0, 0)
    (kit / "state").chmod(0o755)
    (kit / "state" / "lock").chmod(0o644)
    with nobody(), pytest.raises(ProvisionError, match="was not running, but it may be started"):
        stop_hospital(kit, undo=False)
    with running(kit) as process:
        stop_hospital(kit, undo=False)
        assert process.wait(5) == -signal.SIGTERM
