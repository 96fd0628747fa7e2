"""Random campaigns against a network of real processes: studies of every sort (training, masked or
private or judged; statistics, a description, trees; a linkage, and a regression on its link) are
submitted, repeated, approved, rejected and aborted; servers, hospitals and what computes there are
killed, a standby takes over, a researcher is revoked, certificates are renewed, the server moves to
another address, its settings change between starts, disks fill up and permission is taken away at
both ends. Whatever is drawn, all of ``network_checks.py`` holds at the end.

One campaign runs with the suite, ``NETWORK_CAMPAIGNS`` of them by ``make chaos``, drawn from
``CHAOS_SEED``; a failure prints the command that repeats it, and what was done.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from tests.deployment.harness import Patch, Process, free_port, until
from tests.deployment.network import NotServed, StandingNetwork
from tests.deployment.network_checks import assert_network_sound
from tests.deployment.network_words import (
    ASKED,
    HOSPITALS,
    JUDGED,
    LINK,
    LINKED,
    SORTS,
    VERTICAL,
    Sort,
)
from tests.deployment.test_network_faults import QUICK, SLOW, Models
from wardround.common.study.states import OVER
from wardround.server.provision.kits import provision, renew, revoke

CAMPAIGNS = int(os.environ.get("NETWORK_CAMPAIGNS", "1"))
FIRST = int(os.environ.get("NETWORK_CAMPAIGN", "0"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
WITHIN_S = float(os.environ.get("CHAOS_PATIENCE", "150"))
STEPS = int(os.environ.get("NETWORK_STEPS", "6"))
MOST_STUDIES = STEPS // 2
"""`make chaos` takes 12 steps."""
PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.35, 0.6, 1.0)
PRIVATE: Sort = {"more": '[privacy]\nunit = "example"\nnoise_multiplier = 2.0'}
KINDS: dict[str, Sort] = {
    **SORTS,
    **ASKED,
    "asked": {"fewest": 2},
    "private": PRIVATE,
    "judged": {"secure": True, "more": JUDGED},
}
JOINT = "joint"
"""A linkage; once one is complete, a regression on its link."""
OPERATIONAL = (("at_once", "2", "1"), ("heartbeat_s", "0.4", "0.3"), ("lease_s", "2.5", "3.5"))
LASTING = (8, 13)
"""How a process ends whose disk doesn't take what it writes."""
UNWRITABLE = {
    "server": (
        "wardround.server.rounds.commits:write_checkpoint",
        "wardround.server.results.package:write_atomically",
        "wardround.common.run.directory:write_atomically",
        "wardround.server.joint.driver:write_atomically",
    ),
    "hospital": (
        "wardround.common.results.staging:write_atomically",
        "wardround.client.results.receiver:write_left",
        "wardround.client.site.studies:write_private",
        "wardround.client.process.answers:write_atomically",
    ),
}
"""What meets a full disk (28), or one that may not be written (13)."""
LOST = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")
"""Nobody leads just now."""


class Campaign:
    """Each move is something that people or machines do; between them the network runs."""

    def __init__(self, number: int) -> None:
        self.random, self.steps = random.Random(f"{SEED} {number}"), list[str]()
        self.folder = Path(tempfile.mkdtemp(prefix="network-"))
        self.made = StandingNetwork(self.folder / "network")
        self.made.start_server("first", QUICK)
        for name in HOSPITALS:
            self.made.start_client(name, SLOW)
        self.members = ["anna", "bert"]
        self.kills, self.limited = 0, set[str]()
        self.submit()

    def act(self) -> None:
        """Something, at some moment."""
        time.sleep(self.random.choice(PAUSES_S))
        self.random.choice(MOVES)(self)

    def note(self, *what: object) -> None:
        self.steps.append(" ".join(map(str, what)))

    def keep_up(self) -> None:
        """Start what was killed, or ended by a disk; nothing else may have ended, and one server is
        enough."""
        for name, process in {**self.made.servers, **self.made.clients}.items():
            self.check_end(name, process)
        if not any(one.running for one in self.made.servers.values()):
            self.made.start_server("first", QUICK)
        for name, client in self.made.clients.items():
            if not client.running:
                self.made.start_client(name, SLOW)

    def check_end(self, name: str, process: Process, *more: int) -> None:
        """That a process runs, was killed, or was ended by the disk that it was started on."""
        lasting = LASTING if name in self.limited else ()
        allowed = (None, -signal.SIGKILL, *more, *lasting)
        assert process.code in allowed, f"{name}: {process.code}\n{process.tail()}"

    # --- researchers ----------------------------------------------------------------------------
    def submit(self) -> None:
        """A study of some kind."""
        kind = self.random.choice(sorted([*KINDS, JOINT, JOINT]))
        who, number = self.random.choice(self.members), len(self.made.sent)
        if number >= MOST_STUDIES:
            return
        if kind == JOINT:
            study = self.made.study_of(self.joint(number), who)
        else:
            study = self.made.study(f"{kind}-{number}", who, **KINDS[kind])
        self.note("submit", study.name, who)
        self.keep_up()
        self.made.submit(study)

    def joint(self, number: int) -> str:
        """Settings of a linkage, or of a regression on one that is complete."""
        with self.made.store() as store:
            done = [row.name for row in store.list() if row.state == "complete"]
        links = [name for name in done if name.startswith("joint-linkage")]
        if links:
            asked = VERTICAL.format(link=links[0])
            return LINKED.format(name=f"joint-vertical-{number}", more=asked)
        users = ", ".join(f'"joint-vertical-{later}"' for later in range(MOST_STUDIES))
        return LINKED.format(name=f"joint-linkage-{number}", more=LINK.format(users=users))

    def some_study(self) -> str:
        return self.random.choice(list(self.made.sent))

    def abort(self) -> None:
        id = self.some_study()
        if self.made.sent[id].researcher not in self.members:
            return
        self.note("abort", self.made.sent[id].name)
        with self.tolerated():
            self.made.abort(id)

    def rerun(self) -> None:
        """The same once more, if it is over."""
        id = self.some_study()
        with self.made.store() as store:
            over = store.get(id).state in OVER
        repeats = {one.repeat for one in self.made.sent.values() if one.name == self.name(id)}
        if not over or len(repeats) > 2 or self.made.sent[id].researcher not in self.members:
            return
        self.note("rerun", self.name(id))
        self.keep_up()
        self.made.rerun(id, repeat=max(repeats) + 1)

    def name(self, id: str) -> str:
        return self.made.sent[id].name

    @contextlib.contextmanager
    def tolerated(self):  # type: ignore[no-untyped-def]
        """It may be over, or nobody may lead."""
        try:
            yield
        except NotServed as error:
            assert error.code in (*LOST, "FAILED_PRECONDITION"), error

    def revoke(self) -> None:
        if len(self.members) > 1 and self.random.random() < 0.4:
            self.note("revoke bert")
            self.members.remove("bert")
            revoke(self.made.config, "bert")

    # --- hospitals ------------------------------------------------------------------------------
    def decide(self) -> None:
        """A person approves, rejects, or withdraws from what goes on."""
        name, id, yes = self.random.choice(HOSPITALS), self.some_study(), self.random.random() < 0.6
        if self.made.decide(name, id, yes):
            self.note(name, "approves" if yes else "rejects", self.name(id))

    # --- machines -------------------------------------------------------------------------------
    def kill_server(self) -> None:
        which, gone_s = self.random.choice(("first", "second")), self.random.choice(PAUSES_S)
        process = self.made.servers.get(which)
        if process is None or not process.running:
            return
        self.limited.discard(which)
        self.note("kill server", which, gone_s)
        process.kill()
        self.kills += 1
        time.sleep(gone_s)
        if self.random.random() < 0.7:
            self.made.start_server(which, QUICK)

    def standby(self) -> None:
        for which in ("first", "second"):
            process = self.made.servers.get(which)
            if process is None or not process.running:
                self.note("start server", which)
                self.made.start_server(which, QUICK)

    def freeze_server(self) -> None:
        """For longer than its lease."""
        for which, process in self.made.servers.items():
            if process.running and self.random.random() < 0.5:
                self.note("freeze server", which)
                process.signal(signal.SIGSTOP)
                time.sleep(1.4)
                process.signal(signal.SIGCONT)
                return

    def kill_client(self) -> None:
        name, gone_s = self.random.choice(HOSPITALS), self.random.choice(PAUSES_S)
        self.note("kill", name, gone_s)
        self.made.clients[name].kill()
        self.kills += 1
        time.sleep(gone_s)
        self.made.start_client(name, SLOW)

    def kill_child(self) -> None:
        name = self.random.choice(HOSPITALS)
        for child in self.made.children(name):
            self.note("kill a child of", name)
            self.kills += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    # --- what people do to the machines ---------------------------------------------------------
    def stop(self, name: str) -> None:
        """SIGTERM, as a service manager does it; it ends cleanly, or had hardly begun."""
        process = {**self.made.servers, **self.made.clients}[name]
        process.signal(signal.SIGTERM)
        if process.wait() != -signal.SIGTERM or process.text:
            self.check_end(name, process, 0, 130)
        self.limited.discard(name)

    def stop_servers(self) -> None:
        for which in [*self.made.servers]:
            self.stop(which)
            del self.made.servers[which]

    def renew(self) -> None:
        """Of a server it is taken up while it runs; a hospital is started with it."""
        name = self.random.choice(("server", *HOSPITALS))
        self.note("renew", name)
        renew(self.made.config, name)
        if name != "server":
            self.stop(name)
            self.made.start_client(name, SLOW)

    def another_address(self) -> None:
        """Provisioned while a server leads, so that hospitals hear of it; then the servers are
        started again."""
        if not any(one.running for one in self.made.servers.values()):
            return
        self.keep_up()
        connected = [f"connected to localhost:{self.made.port}"]
        for name, client in self.made.clients.items():
            until(lambda client=client: connected[0] in client.text, f"{name} is connected")
        port = free_port()
        self.note("another address", port)
        self.made.move(port)
        time.sleep(1.5)
        self.stop_servers()
        self.made.start_server("first", QUICK)

    def change_settings(self) -> None:
        """And start the servers again; sometimes it is provisioned, so that hospitals get it."""
        (key, one, other), again = self.random.choice(OPERATIONAL), self.random.random() < 0.5
        value = other if f"\n{key} = {one}\n" in self.made.file.read_text() else one
        self.note(key, "=", value, "and provisioned" if again else "")
        self.made.edit(f"\n{key} = {other if value == one else one}\n", f"\n{key} = {value}\n")
        if again:
            provision(self.made.config)
        self.stop_servers()
        self.made.start_server("first", QUICK)

    def unwritable(self) -> None:
        """A disk is full, or permission is taken away, twice; at most the process ends by it."""
        error, end = self.random.choice((13, 28)), self.random.choice(sorted(UNWRITABLE))
        place, after = self.random.choice(UNWRITABLE[end]), self.random.choice((0, 1, 3))
        fault: Patch = (
            "fail_writes", {"place": place, "count": 2, "after": after, "error": error}
        )  # fmt: skip
        name = self.random.choice(HOSPITALS) if end == "hospital" else end
        self.note("errno", error, "at", name, place.rpartition(".")[2], "after", after)
        if end == "server":
            self.stop_servers()
            self.made.start_server("first", [*QUICK, fault])
            self.limited.add("first")
        else:
            self.stop(name)
            self.made.start_client(name, [*SLOW, fault])
            self.limited.add(name)

    # --- the end --------------------------------------------------------------------------------
    def finish(self) -> None:
        """All faults end, people approve what waits for them; then every study must end."""
        asked = 0.0

        def over() -> bool:
            nonlocal asked
            self.keep_up()
            if time.monotonic() - asked > 1:
                asked = time.monotonic()
                for id in self.made.sent:
                    for name in HOSPITALS:
                        self.made.consent(name, id)
            return self.made.is_delivered(*self.made.sent)

        try:
            until(over, "the end of all studies", WITHIN_S)
        except AssertionError as error:
            rows = [self.made.row(id) for id in self.made.sent]
            raise AssertionError(f"{error}\n{rows}\n{self.made.tails()}") from None


MOVES = (
    *(Campaign.submit,) * 4,
    Campaign.abort,
    Campaign.rerun,
    Campaign.revoke,
    *(Campaign.decide,) * 3,
    *(Campaign.kill_server,) * 2,
    Campaign.standby,
    Campaign.freeze_server,
    *(Campaign.kill_client,) * 2,
    Campaign.kill_child,
    Campaign.renew,
    Campaign.another_address,
    Campaign.change_settings,
    *(Campaign.unwritable,) * 2,
)


@pytest.mark.parametrize("number", range(FIRST, FIRST + CAMPAIGNS))
def test_a_campaign(number: int, undisturbed_studies: Models) -> None:
    campaign = Campaign(number)
    try:
        for _ in range(STEPS):
            campaign.act()
        campaign.finish()
        assert_network_sound(campaign.made, undisturbed_studies)
        with campaign.made.store() as store:
            ends = [f"{row.name}: {row.state}" for row in store.list()]
        print(number, campaign.kills, "kills;", campaign.steps, ends)
    except BaseException as error:
        if kept := os.environ.get("CHAOS_KEEP"):
            shutil.copytree(campaign.folder, Path(kept) / campaign.folder.name)
        drawn = f"CHAOS_SEED={SEED} NETWORK_STEPS={STEPS} NETWORK_CAMPAIGN={number}"
        again = f"{drawn} pytest {Path(__file__).name}"
        raise AssertionError(f"{again}\n{campaign.steps}\n{error}") from error
    finally:
        campaign.made.close()
        shutil.rmtree(campaign.folder, ignore_errors=True)
