"""A life of weeks between machines, in seconds: what people do to a federation while a run lives.

Hospitals are added, revoked, renewed and depart in every phase; settings of both kinds change
between starts; data are replaced, disks fill up, permission is taken away, the server moves to
another address, consents are given, refused and withdrawn. Whatever is drawn: **a documented
operation never ends a run.** The one run of the beginning is completed, each round once, both ends'
audit logs verify, and nobody ever sees a traceback.

One life runs with the suite, ``LIVES`` of them by ``make chaos``, drawn from ``CHAOS_SEED``; a
failure prints the command that repeats it, and what was done.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.deployment.checks import assert_sound
from tests.deployment.harness import Federation, Patch, Process, free_port, until, write_csv
from wardround.common.config.load import load_config
from wardround.common.run.directory import RunDirectory
from wardround.server.provision.kits import provision, renew, revoke

LIVES, FIRST = int(os.environ.get("LIVES", "1")), int(os.environ.get("LIFE", "0"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
WITHIN_S = float(os.environ.get("CHAOS_PATIENCE", "150"))
NAMES = ("a", "b", "c", "d")
LATER = ("e", "f")
NEEDED = 3
STEPS = int(os.environ.get("LIFE_STEPS", "5"))
"""`make chaos` takes 9."""
ROUNDS = 7 + 2 * STEPS
LASTING = (8, 13)
"""How a server whose disk doesn't take what it writes ends."""
OPERATIONAL = (
    ("lease_s", "1.5", "2.5"),
    ("heartbeat_s", "0.4", "0.3"),
    ("round_timeout_s", "60", "45"),
    ("round_attempts", "2", "3"),
    ("retry_wait_s", "0.3", "0.1"),
    ("wait_s", "1.0", "2.0"),
)
SHAPING = (("seed", "1", "2"), ("lr", "0.1", "0.2"), ("rounds", str(ROUNDS), str(ROUNDS + 9)))
PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.35, 0.6)


class Life:
    """Each public method but the last ones is what people do; between them the federation runs."""

    def __init__(self, number: int) -> None:
        self.random = random.Random(f"{SEED} {number}")
        secure, asks = self.random.random() < 0.5, self.random.choice(("", *NAMES))
        self.steps = [f"secure {secure}, {asks or 'nobody'} asks a person"]
        self.folder = Path(tempfile.mkdtemp(prefix="life-"))
        self.made = Federation(
            self.folder / "federation",
            names=NAMES,
            rounds=ROUNDS,
            secure=secure,
            lease_s=1.5,
            wait_s=1.0,
            min_clients=NEEDED,
            attempts=2,
        )
        text = self.made.config.read_text().replace("rounds =", "seed = 1\nrounds =", 1)
        self.made.config.write_text(text)
        self.asks, self.members, self.away = asks, set(NAMES), set[str]()
        self.secure = secure
        self.limited = False
        if asks:
            site = self.made.kit(asks) / "site.toml"
            site.write_text('approval = "ask"\n' + site.read_text())
        self.made.start_server(patches=SLOW_SERVER)
        for name in NAMES:
            self.made.start_client(name, SLOW_CLIENT)

    def act(self) -> None:
        """Something that people do, at some moment."""
        time.sleep(self.random.choice(PAUSES_S))
        self.random.choice(MOVES)(self)

    def anyone(self) -> str:
        return self.random.choice((*NAMES, *LATER))

    # --- helpers -------------------------------------------------------------------------------
    def note(self, *what: object) -> None:
        self.steps.append(" ".join(map(str, what)))

    @property
    def over(self) -> bool:
        return self.made.server is not None and self.made.server.code == 0

    def config(self) -> Any:
        return load_config(self.made.config)

    def edit(self, change: Callable[[str], str]) -> None:
        self.made.config.write_text(change(self.made.config.read_text()))

    def setting(self, key: str, value: str) -> None:
        self.edit(lambda text: re.sub(rf"(?m)^{key} = .+$", f"{key} = {value}", text))

    def stop_server(self) -> None:
        """SIGTERM, as a service manager does it."""
        server = self.made.server
        assert server is not None
        server.signal(signal.SIGTERM)
        code = server.wait()
        # one that was started a moment ago may not have got to handle signals yet
        early = code == -signal.SIGTERM and not server.text
        allowed = (0, 130, *(LASTING if self.limited else ()))
        assert early or code in allowed, f"the server ended with {code}\n{server.tail()}"
        self.limited = False

    def keep_server(self) -> None:
        """Start it again if a disk has ended it; nothing else may have."""
        server = self.made.server
        assert server is not None
        if server.running or self.over:
            return
        assert self.limited and server.code in LASTING, f"{server.code}\n{self.made.tails()}"
        self.limited = False
        self.made.start_server(patches=SLOW_SERVER)

    def client(self, name: str) -> None:
        """Start a hospital's process, in place of the one that runs."""
        if name in self.made.clients:
            self.made.clients[name].kill()
        self.made.start_client(name, SLOW_CLIENT)
        self.away.discard(name)

    def command(self, *argv: str) -> Process:
        process = Process(list(argv), self.made.folder, self.folder / "command.log")
        assert process.wait() == 0, f"{argv}: {process.tail()}"
        return process

    def says(self, *option: str) -> None:
        """A person's decision; where the client wasn't shown a plan yet there is none to make."""
        argv = ["client", "approve", str(self.made.kit(self.asks)), *option]
        process = Process(argv, self.made.folder, self.folder / "command.log")
        code = process.wait()
        assert code == 0 or "nothing was decided" in process.text, f"{argv}: {process.tail()}"

    # --- membership ----------------------------------------------------------------------------
    def revoke(self) -> None:
        name = self.anyone()
        if self.over or name not in self.members or len(self.members) <= NEEDED:
            return
        self.note("revoke", name)
        revoke(self.config(), name)
        self.members.discard(name)

    def admit(self) -> None:
        """One more hospital, or one that was revoked: with new keys."""
        name = self.anyone()
        if self.over or name in self.members:
            return
        self.note("admit", name)
        if name in self.made.clients or name in NAMES:
            renew(self.config(), name, new_key=True)
        else:
            write_csv(self.made.folder / "hospitals" / f"{name}.csv", None, ord(name))
            self.edit(lambda text: text.replace("hospitals = [", f'hospitals = ["{name}", ', 1))
            self.made.add(name)
        self.members.add(name)
        self.client(name)

    def renew_certificate(self) -> None:
        name = self.random.choice(("server", *NAMES))
        if self.over or name not in {"server", *self.members}:
            return
        self.note("renew", name)
        renew(self.config(), name)
        if name != "server":
            self.client(name)

    def depart(self) -> None:
        name, how = self.anyone(), self.random.choice(("SIGTERM", "client stop"))
        if self.over or name not in self.members or name in self.away:
            return
        self.note(name, "departs by", how)
        if how == "SIGTERM":
            self.made.clients[name].signal(signal.SIGTERM)
        else:
            self.command("client", "stop", str(self.made.kit(name)))
        self.made.clients[name].wait()
        self.away.add(name)

    def come_back(self) -> None:
        for name in sorted(self.away & self.members):
            self.come(name)

    def come(self, name: str) -> None:
        self.note(name, "comes back")
        self.command("client", "stop", str(self.made.kit(name)), "--undo")
        self.client(name)

    # --- settings ------------------------------------------------------------------------------
    def change_what_may_change(self) -> None:
        """And start the server again; sometimes it is provisioned, so that hospitals get it."""
        again = self.random.random() < 0.5
        if self.over:
            return
        key, one, other = self.random.choice(OPERATIONAL)
        value = other if f"{key} = {one}\n" in self.made.config.read_text() else one
        self.note(key, "=", value, "and provisioned" if again else "")
        self.setting(key, value)
        if again:
            provision(self.config())
        self.stop_server()
        if not self.over:
            self.made.start_server(patches=SLOW_SERVER)

    def change_what_shapes_the_model(self) -> None:
        """It is refused, by key; put back, the run goes on."""
        if self.over:
            return
        key, one, other = self.random.choice(SHAPING)
        self.note("another", key)
        self.stop_server()
        if self.over:
            return
        self.setting(key, other)
        refused = self.made.start_server()
        code = refused.wait()
        said = f"{key} was {one}, is {other}"
        assert code in (2, 10) and said in refused.text, f"{code}, not '{said}'\n{refused.tail()}"
        self.setting(key, one)
        self.made.start_server(patches=SLOW_SERVER)

    def another_address(self) -> None:
        """Provisioned while the server still runs, so that hospitals hear of it."""
        if self.over:
            return
        port = free_port()
        self.note("another address", port)
        assert self.made.server is not None
        self.made.server.says("waiting for hospitals")  # it has read the old one
        before = self.made.port
        self.edit(lambda text: text.replace(f":{before}", f":{port}"))
        self.made.port = port
        provision(self.config())
        time.sleep(1.0)
        self.stop_server()
        if not self.over:
            self.made.start_server(patches=SLOW_SERVER)
        where = f"connected to localhost:{port}"
        for name in sorted(self.members - self.away):  # whoever was cut off: its kit says where
            client = self.made.clients[name]
            until(lambda client=client: where in client.text or self.over, f"{name} {where}", 30)

    # --- data, disks, consents ----------------------------------------------------------------
    def replace_data(self) -> None:
        name, number = self.random.choice(NAMES), self.random.randrange(10, 99)
        if self.over or name not in self.members or name in self.away:
            return
        self.note("other data of", name)
        write_csv(self.made.folder / "hospitals" / f"{name}.csv", None, number)
        self.client(name)

    def disk(self) -> None:
        """The server can't write a checkpoint, for want of room (28) or of permission (13)."""
        error = self.random.choice((13, 28))
        if self.over:
            return
        self.note("errno", error)
        self.stop_server()
        if not self.over:
            place = "wardround.server.rounds.commits:write_checkpoint"
            patch: Patch = ("fail_writes", {"place": place, "count": 1, "after": 1, "error": error})
            self.made.start_server(patches=[*SLOW_SERVER, patch])
            self.limited = True

    def decide(self) -> None:
        """A person at the hospital that asks approves, rejects, or withdraws."""
        decision = self.random.choice(("yes", "reject"))
        if self.over or self.asks not in self.members or self.asks in self.away:
            return
        self.note(self.asks, "says", decision)
        option = ["--yes"] if decision == "yes" else ["--reject", "not now"]
        self.says(*option)

    # --- the end ------------------------------------------------------------------------------
    def finish(self) -> None:
        """Everybody who is a member is there, and consents; then the run must come to its end."""
        for name in sorted(self.away & self.members):
            self.come(name)
        asked = time.monotonic()

        def complete() -> bool:
            nonlocal asked
            self.keep_server()
            if self.asks in self.members and not self.over and time.monotonic() - asked > 2:
                self.says("--yes")
                asked = time.monotonic()
            for name in self.members:
                client = self.made.clients[name]
                assert client.running or self.over, f"{name}: {client.code}\n{client.tail()}"
            return self.over

        try:
            until(complete, "the end of the run", WITHIN_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.made.tails()}") from None

    def check(self) -> None:
        made = self.made
        runs = [RunDirectory(path) for path in (made.folder / "runs").iterdir()]
        begun = [run.path.name for run in runs if run.summary().get("status")]
        assert len(begun) == 1, f"an operation ended the run: {begun}"
        assert_sound(made, rounds=ROUNDS)
        for log in (*made.folder.glob("*.log"), *self.folder.glob("*.log")):
            text = log.read_text(errors="replace")
            assert "Traceback" not in text, f"{log.name}: {text[text.index('Traceback') :][:3000]}"


SLOW_SERVER: list[Patch] = [
    ("slow", {"place": "wardround.server.rounds.commits:write_checkpoint", "seconds": 0.1})
]
SLOW_CLIENT: list[Patch] = [
    ("slow", {"place": "wardround.client.process.responder:Responder._run_app", "seconds": 0.02})
]

MOVES = (
    Life.revoke,
    Life.admit,
    Life.admit,
    Life.renew_certificate,
    Life.depart,
    Life.come_back,
    Life.change_what_may_change,
    Life.change_what_shapes_the_model,
    Life.another_address,
    Life.replace_data,
    Life.disk,
    Life.decide,
    Life.decide,
)


@pytest.mark.parametrize("number", range(FIRST, FIRST + LIVES))
def test_a_documented_operation_never_ends_a_run(number: int) -> None:
    life = Life(number)
    try:
        for _ in range(4 * STEPS):  # some can't be done just now
            if not life.over and len(life.steps) <= STEPS:
                life.act()
        life.finish()
        life.check()
    except BaseException as error:
        if kept := os.environ.get("CHAOS_KEEP"):
            shutil.copytree(life.folder, Path(kept) / life.folder.name)
        again = f"CHAOS_SEED={SEED} LIFE_STEPS={STEPS} LIFE={number} pytest {Path(__file__).name}"
        raise AssertionError(f"{again}\n{life.steps}\n{error}") from error
    finally:
        life.made.close()
        shutil.rmtree(life.folder, ignore_errors=True)
    print(life.steps, len(life.made.names), "hospitals")
