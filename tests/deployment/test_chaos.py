"""Random faults against a small federation of real processes; whatever happens, this must hold:

a round commits at most once; each update counts once; one survivor set per round, never both kinds
of share; never below the smallest cohort; a run that nobody could miss a round of ends with the
undisturbed model; privacy is charged before a private update leaves; nothing hangs without a typed
reason; both ends' audit logs verify.

One campaign runs with the suite, the long one by ``make chaos``. Campaigns of
``CHAOS_CAMPAIGNS`` are drawn by Hypothesis from ``CHAOS_SEED``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.deployment.checks import assert_same_model, assert_sound
from tests.deployment.harness import Federation, Patch, federation, until

CAMPAIGNS = int(os.environ.get("CHAOS_CAMPAIGNS", "1"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
NAMES = ("a", "b", "c", "d")
MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "secure": {"secure": True},
    "plain, three are enough": {"min_clients": 3},
    "secure, three are enough": {"secure": True, "min_clients": 3},
    "private, three are enough": {
        "min_clients": 3,
        "extra": '[privacy]\nunit = "example"\nnoise_multiplier = 2.0\n',
    },
}
STRICT = ("plain", "secure")
ROUNDS = 5
WITHIN_S = float(os.environ.get("CHAOS_PATIENCE", "150"))
hospitals = st.sampled_from(NAMES)
seconds = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.35, 0.6, 1.0, 2.0])
_undisturbed: dict[bool, Federation] = {}


def undisturbed(secure: bool) -> Federation:
    """The run of a strict mode that nothing disturbs."""
    if secure not in _undisturbed:
        folder = Path(tempfile.mkdtemp(prefix="undisturbed-"))
        with federation(folder, names=NAMES, rounds=ROUNDS, secure=secure) as made:
            made.start()
            made.finish()
        _undisturbed[secure] = made
    return _undisturbed[secure]


class Campaign(RuleBasedStateMachine):
    """Rules are faults; between them the federation runs."""

    @initialize(mode=st.sampled_from(sorted(MODES)))
    def begin(self, mode: str) -> None:
        self.mode, self.steps = mode, [mode]
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        options = MODES[mode]
        self.made = Federation(
            self.folder / "federation", names=NAMES, rounds=ROUNDS, lease_s=1.5, **options
        )
        self.frozen: set[str] = set()
        self.kills = 0
        self.made.start(self.patches("server"), {name: self.patches(name) for name in NAMES})

    def patches(self, who: str) -> list[Patch]:
        """Rounds take long enough to be hit; hospitals write down what they opened."""
        if who == "server":
            return [
                (
                    "slow",
                    {
                        "place": "wardround.server.rounds.commits:write_checkpoint",
                        "seconds": 0.1,
                    },
                )
            ]
        slow: Patch = (
            "slow",
            {"place": "wardround.client.process.responder:Responder._run_app", "seconds": 0.03},
        )
        return [slow, ("record_unmasking", {"file": str(self.folder / f"{who}.unmasked")})]

    def note(self, *what: object) -> None:
        self.steps.append(" ".join(map(str, what)))

    def start_again(self, who: str) -> None:
        """Whatever has ended; an end that isn't our kill must have a typed reason."""
        made = self.made
        process = made.server if who == "server" else made.clients[who]
        assert process is not None
        if process.running:
            return
        code = process.code
        if who == "server" and code == 0:  # it has finished since it was last looked at
            return
        typed = code == -signal.SIGKILL or (who == "server" and code == 6)
        assert typed, f"{who} ended with {code} after {self.steps}\n{made.tails()}"
        if who == "server":
            made.start_server(patches=self.patches(who))
        else:
            made.start_client(who, self.patches(who))

    @property
    def over(self) -> bool:
        return self.made.server is not None and self.made.server.code == 0

    # --- faults --------------------------------------------------------------------------------
    @rule(pause_s=seconds)
    def run_on(self, pause_s: float) -> None:
        self.note("run on", pause_s)
        time.sleep(pause_s)

    @rule(who=st.sampled_from(("server", *NAMES)), pause_s=seconds, gone_s=seconds)
    def kill(self, who: str, pause_s: float, gone_s: float) -> None:
        if self.over:  # not a precondition: what is drawn mustn't depend on the clock
            return
        self.note("kill", who, pause_s, gone_s)
        time.sleep(pause_s)
        process = self.made.server if who == "server" else self.made.clients[who]
        assert process is not None
        process.kill()
        self.kills += 1
        time.sleep(gone_s)
        if not (who == "server" and self.over):
            self.start_again(who)

    @precondition(lambda self: len(self.frozen) < 2)
    @rule(who=hospitals, pause_s=seconds)
    def freeze(self, who: str, pause_s: float) -> None:
        self.note("freeze", who, pause_s)
        time.sleep(pause_s)
        self.made.clients[who].signal(signal.SIGSTOP)
        self.frozen.add(who)

    @precondition(lambda self: self.frozen)
    @rule(pause_s=seconds)
    def thaw(self, pause_s: float) -> None:
        time.sleep(pause_s)
        self.note("thaw", pause_s)
        for who in self.frozen:
            self.made.clients[who].signal(signal.SIGCONT)
        self.frozen.clear()

    @rule(who=hospitals, pause_s=seconds)
    def reset(self, who: str, pause_s: float) -> None:
        self.note("reset", who, pause_s)
        time.sleep(pause_s)
        self.made.proxies[who].reset()

    @rule(who=hospitals, count=st.integers(1, 40_000), pause_s=seconds)
    def cut(self, who: str, count: int, pause_s: float) -> None:
        self.note("cut", who, count, pause_s)
        time.sleep(pause_s)
        self.made.proxies[who].cut_after = count

    @rule(who=hospitals, fault=st.sampled_from(["refuse", "black_hole"]), pause_s=seconds)
    def break_network(self, who: str, fault: str, pause_s: float) -> None:
        self.note(fault, who, pause_s)
        time.sleep(pause_s)
        setattr(self.made.proxies[who], fault, True)
        if fault == "refuse":
            self.made.proxies[who].reset()

    @rule(who=hospitals, rate=st.sampled_from([20_000, 200_000]))
    def slow_down(self, who: str, rate: int) -> None:
        self.note("slow", who, rate)
        self.made.proxies[who].rate = rate

    @rule(pause_s=seconds)
    def heal(self, pause_s: float) -> None:
        time.sleep(pause_s)
        self.note("heal", pause_s)
        for proxy in self.made.proxies.values():
            proxy.heal()

    # --- what must hold ------------------------------------------------------------------------
    def teardown(self) -> None:
        if not hasattr(self, "made"):
            return
        self.error = ""
        try:
            self.finish()
            self.check()
        except BaseException as error:
            self.error = str(error)[:500]
            kept = os.environ.get("CHAOS_KEEP")
            if kept:
                shutil.copytree(self.folder, Path(kept) / self.folder.name)
            raise AssertionError(f"{self.steps}\n{error}") from error
        finally:
            self.made.close()
            shutil.rmtree(self.folder, ignore_errors=True)
            self.count()

    def finish(self) -> None:
        """All faults end; then the run must, too."""
        made = self.made
        for proxy in made.proxies.values():
            proxy.heal()
        for client in made.clients.values():
            client.signal(signal.SIGCONT)

        def complete() -> bool:
            if not self.over:
                for who in ("server", *NAMES):
                    self.start_again(who)
            return self.over

        try:
            until(complete, "the end of the run", WITHIN_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{made.tails()}") from None

    def check(self) -> None:
        made = self.made
        assert_sound(made, rounds=ROUNDS)
        if self.mode in STRICT:
            secure = self.mode == "secure"
            assert_same_model(made, undisturbed(secure), secure)
        self.check_survivors()
        for name in NAMES:
            self.check_charged(name)

    def check_survivors(self) -> None:
        """One survivor set for each sum, one answer of each hospital."""
        sets: dict[tuple[str, int], set[tuple[int, ...]]] = {}
        for name in NAMES:
            path, own = self.folder / f"{name}.unmasked", {}
            for line in path.read_text().splitlines() if path.exists() else []:
                opened = json.loads(line)
                place = (opened["group"], opened["index"])
                sets.setdefault(place, set()).add(tuple(opened["survivors"]))
                answer = own.setdefault(place, opened["shares"])
                assert answer == opened["shares"], f"{name} gave two answers for {place}"
        different = {place: found for place, found in sets.items() if len(found) > 1}
        assert not different, f"two survivor sets: {different}"

    def check_charged(self, name: str) -> None:
        """No private update left that the ledger doesn't have."""
        from wardround.client.privacy.ledger import Ledger

        if "private" not in self.mode:
            return
        sent = {
            line["request"]
            for line in self.made.audit(name)
            if line["event"] == "sent" and line["kind"] == "train" and not line.get("again")
        }
        with Ledger.open(self.made.kit(name) / "state" / "ledger.sqlite", name) as ledger:
            assert len(list(ledger.entries())) >= len(sent)

    def count(self) -> None:
        """For the long campaign: a line for each."""
        path = os.environ.get("CHAOS_LOG")
        if path:
            with open(path, "a", encoding="utf-8") as log:
                line = {"steps": self.steps, "kills": self.kills, "error": self.error}
                log.write(json.dumps(line | {"folder": self.folder.name}) + "\n")


TestChaos = seed(SEED)(Campaign.TestCase)
TestChaos.settings = settings(
    max_examples=CAMPAIGNS,
    stateful_step_count=10,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
