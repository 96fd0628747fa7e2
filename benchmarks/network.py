"""A standing network: many small studies through one server, and what that server takes.

    python -m benchmarks.network [--quick] [--json PATH]

Real processes over loopback TLS: a server, three hospitals of 120, 90 and 33 rows (their studies in
child processes, rules that say yes by themselves), one researcher with ten studies open at a time.
Each is a masked logistic regression of two rounds. On SQLite, then on PostgreSQL (a server of the
benchmark's own; without one its rows are left out, and that is said).

studies per minute    from the first submission to the end of the last study
limit                 one study of all these rounds on this network: its rounds a minute, by two
server memory         resident, MB, after the first study and after the last
failover              seconds from kill -9 of the leader to a round that the standby commits
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from benchmarks.report import Row, arguments, emit
from tests import postgres
from wardround.client.researcher.network import Network, StudyHandle
from wardround.common.errors import WardroundError
from wardround.common.study.states import State

HOSPITALS = {"north": 120, "south": 90, "east": 33}
STUDY = """
[study]
name = "study-{number}"
purpose = "The {number}th of many."
[federation]
rounds = {rounds}
seed = {number}
[task.columns]
target = "died"
numeric = ["age", "lactate"]
patient_id = "patient"
"""
OPEN: tuple[State, ...] = ("submitted", "waiting", "queued", "running")
OPEN_AT_ONCE = 10
SITE = 'approval = "always"\nfederations = ["bench"]\n'


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__ or "")
    studies = 10 if options.quick else 100
    rows = measure("SQLite", "", studies, options.quick)
    if postgres.programs() is None:
        print(f"without PostgreSQL: {postgres.BRING}", file=sys.stderr)
    else:
        with postgres.running(durable=True) as server:
            rows += measure("PostgreSQL", server.fresh(), studies, options.quick)
    emit("A standing network", rows, options.json)


def measure(name: str, database: str, studies: int, quick: bool) -> list[Row]:
    """The rows of one database."""
    with tempfile.TemporaryDirectory() as folder, network(Path(folder), database) as made:
        with made.asking() as asking:
            began = time.monotonic()
            handles: list[StudyHandle] = []
            first = 0.0
            while (left := len(asking.studies(*OPEN, most=1000))) or len(handles) < studies:
                if not first and len(handles) > left:
                    first = resident_mb(made.leader)
                for _ in range(min(OPEN_AT_ONCE - left, studies - len(handles))):
                    handles.append(asking.submit(made.study(len(handles), 2)))
                    time.sleep(0.15)  # the interface takes ten calls a second of one member
                time.sleep(0.2)
            seconds, last = time.monotonic() - began, resident_mb(made.leader)
            complete = {line.id for line in asking.studies("complete", most=1000)}
            assert complete == {one.id for one in handles}, "a study failed: see the log"
            alone = made.alone(asking, 2 * studies)
            rows = [
                Row(name, "studies per minute", 60 * studies / seconds, "higher", limit=alone),
                Row(name, "server memory after the last, MB", last, "lower", {"the first": first}),
            ]
            if not quick:
                rows.append(Row(name, "failover, s", made.failover(asking), "lower", limit=30.0))
            return rows


class Made:
    """A network's folder and processes."""

    def __init__(self, folder: Path, database: str, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self.kits = folder / "provision" / "kits"
        port = _free_port()
        (folder / "network.toml").write_text(
            f'[federation]\nname = "bench"\n[server]\naddress = "localhost:{port}"\n'
            f'hospitals = {list(HOSPITALS)}\nresearchers = ["anna"]\n'
            f'[network]\ndatabase = "{database}"\nmost_open = 1000\n'
        )
        self._wardround("provision", "network.toml").wait()
        generator = np.random.default_rng(1)
        for name, count in HOSPITALS.items():
            (self.kits / name / "site.toml").write_text(SITE)
            self._write_rows(name, count, generator)
        self.leader = self.server()
        for name in HOSPITALS:
            self._wardround("client", str(self.kits / name), "--data", f"{name}.csv")

    def _write_rows(self, name: str, count: int, generator: np.random.Generator) -> None:
        lines = ["patient,age,lactate,died"]
        for number in range(count):
            age, lactate = generator.integers(20, 95), generator.lognormal(0.5, 0.6)
            died = int(generator.random() < 1 / (1 + np.exp(2 - lactate)))
            lines.append(f"{name}{number},{age},{lactate:.3f},{died}")
        (self._folder / f"{name}.csv").write_text("\n".join(lines) + "\n")

    def server(self) -> subprocess.Popen[bytes]:
        """One more server of the network."""
        return self._wardround("server", "network.toml")

    def _wardround(self, *arguments: str) -> subprocess.Popen[bytes]:
        out = self._stack.enter_context(open(self._folder / "log", "ab"))
        process = subprocess.Popen(
            [sys.executable, "-m", "wardround", *arguments],
            cwd=self._folder,
            stdout=out,
            stderr=out,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        self._stack.callback(_end, process)
        return process

    def asking(self) -> Network:
        """The researcher, once the server listens."""
        while True:
            try:
                return Network(self.kits / "anna")
            except WardroundError:
                time.sleep(0.5)

    def study(self, number: int, rounds: int) -> Path:
        """A study's file."""
        path = self._folder / f"study-{number}.toml"
        path.write_text(STUDY.format(number=number, rounds=rounds))
        return path

    def alone(self, asking: Network, rounds: int) -> float:
        """How many two-round studies a minute there would be, if a study were its rounds alone."""
        handle = asking.submit(self.study(100_000, rounds))
        began = 0.0
        for update in handle.watch():
            if not began and update.line.state == "running":
                began = time.monotonic()
        return 60 * (rounds / 2) / (time.monotonic() - began)

    def failover(self, asking: Network) -> float:
        """Seconds until a study goes on at the standby, once its leader was killed."""
        self.server()
        handle = asking.submit(self.study(200_000, 1000))
        at = _round(asking, handle.id, 0)
        self.leader.send_signal(signal.SIGKILL)
        began = time.monotonic()
        self.leader.wait()
        _round(asking, handle.id, at)
        seconds = time.monotonic() - began
        asking.study(handle.id).abort("measured")
        return seconds


@contextmanager
def network(folder: Path, database: str) -> Iterator[Made]:
    """A network whose processes run until the end."""
    with ExitStack() as stack:
        yield Made(folder, database, stack)


def _round(asking: Network, id: str, after: int) -> int:
    """The round that a study is at, once that is past ``after``."""
    while True:
        try:
            if (line := asking.study(id).line).round > after:
                return line.round
        except WardroundError:  # its server was killed
            pass
        time.sleep(0.1)


def resident_mb(process: subprocess.Popen[bytes]) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
