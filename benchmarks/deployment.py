"""The real federation between processes on loopback, beside Flower's and a bare gRPC stream.

    python -m benchmarks.deployment [--quick] [--json PATH]

One server process and n hospital processes with mutual TLS; a model of d float32 parameters in
eight layers, of which every round changes every number at random (``deployment_task.py``); no
evaluation. In plain and with secure aggregation.

s per round      wall clock between two commits, median without the first round
server memory    most memory of the server's process(es) above what it has before the first round
flower           SuperLink and SuperNodes with TLS and node authentication, FedAvg, the same updates
flare            NVIDIA FLARE's processes, FedAvg in numpy, the same size (``make bench-peers``);
                 its memory isn't measured
bare stream      gRPC in chunks of 1 MiB with mutual TLS, added straight into one accumulator: the
                 model down and an update up. Nothing is checked, kept or committed
limit            the goals: seconds; three payloads and 150 MB, whatever the cohort
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.deployment_bare import bare_rounds
from benchmarks.deployment_flare import flare_rounds
from benchmarks.deployment_flower import flower_rounds
from benchmarks.deployment_processes import MemoryWatch, Processes, free_port
from benchmarks.deployment_task import LR
from benchmarks.report import Row, arguments, emit

WARDROUND = [sys.executable, "-m", "wardround.common.process.main"]
TASK_FILE = Path(__file__).with_name("deployment_task.py")
HEADROOM_MB = 150.0
START_S = 180.0


class Case(NamedTuple):
    """Hospitals, parameters, measured rounds of ours and Flower's, and goals in seconds."""

    clients: int
    parameters: int
    rounds: int
    flower_rounds: int
    plain_s: float | None = None
    secure_s: float | None = None

    @property
    def name(self) -> str:
        """'3 x 1 M'."""
        return f"{self.clients} x {self.parameters / 1e6:g} M"


QUICK = Case(3, 1_000_000, 6, 1, 0.2, 0.5)
CASES = [
    Case(3, 1_000_000, 20, 3, 0.2, 0.5),
    Case(20, 1_000_000, 8, 2),
    Case(5, 25_000_000, 4, 1, 5.0),
]


class Measured(NamedTuple):
    """Seconds of each round, and the server's peak memory above its base."""

    seconds: list[float]
    memory_mb: float
    anonymous_mb: float = 0.0


def main() -> None:
    """Run, print and write; with ``--measure KIND CLIENTS PARAMETERS ROUNDS`` one of them only."""
    if len(sys.argv) == 6 and sys.argv[1] == "--measure":
        clients, parameters, rounds = (int(float(text)) for text in sys.argv[3:])
        print(json.dumps(_measure(sys.argv[2], Case(clients, parameters, rounds, rounds))))
        return
    options = arguments(__doc__ or "")
    rows: list[Row] = []
    for case in [QUICK] if options.quick else CASES:
        rows += _rows(case)
    emit("Deployment on loopback, no training", rows, options.json)


def _rows(case: Case) -> list[Row]:
    """All sides of one case, one after the other."""
    measured: dict[str, Measured | None] = {}
    for kind in ("plain", "bare", "secure", "flower", "flare"):
        print(f"{case.name}, {kind} ...", file=sys.stderr, flush=True)
        measured[kind] = _measure(kind, case)

    def peers(figure: Callable[[Measured], float | None]) -> dict[str, float | None]:
        others = {"flower": "flower", "bare stream": "bare", "flare": "flare"}
        found = {name: measured[kind] for name, kind in others.items()}
        return {name: figure(one) if one else None for name, one in found.items()}

    def seconds(one: Measured) -> float:
        return statistics.median(one.seconds)

    def memory(one: Measured) -> float | None:
        return one.memory_mb or None

    payload_mb, rows = 4 * case.parameters / 1e6, []
    for kind, goal in (("plain", case.plain_s), ("secure", case.secure_s)):
        one, name = measured[kind], f"{case.name}, {kind}"
        assert one is not None  # our own side must run
        rows.append(Row(name, "s per round", seconds(one), "lower", peers(seconds), goal))
        limit = 3 * payload_mb + HEADROOM_MB
        rows.append(Row(name, "server memory, MB", one.memory_mb, "lower", peers(memory), limit))
        rows.append(Row(name, "of it not file-backed, MB", one.anonymous_mb, "lower"))
    return rows


def _measure(kind: str, case: Case) -> Measured | None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kind == "flower":
            found = flower_rounds(folder, case.clients, case.parameters, case.flower_rounds)
            return Measured(*found) if found else None
        if kind == "flare":
            seconds = flare_rounds(case.clients, case.parameters, case.flower_rounds)
            return Measured(seconds, 0.0) if seconds else None
        if kind == "bare":
            return Measured(*bare_rounds(folder, case.clients, case.parameters, case.rounds))
        return _ours(folder, case, kind == "secure")


# --- our side -------------------------------------------------------------------------------------
def _ours(folder: Path, case: Case, secure: bool) -> Measured:
    """Real processes, as `wardround provision`, `server` and `client` start them."""
    config, names = _configure(folder, case, secure), _hospitals(case.clients)
    with Processes(folder) as processes:
        provision = processes.start("provision", [*WARDROUND, "provision", str(config)])
        processes.wait_for("provision", lambda: provision.poll() is not None, START_S)
        server = processes.start("server", [*WARDROUND, "server", str(config)])
        processes.wait_for("server", lambda: "waiting for" in processes.log("server"), START_S)
        watch = MemoryWatch(lambda: [server.pid])
        watch.begin()
        hospitals = [_start_hospital(processes, name) for name in names]
        committed: dict[int, float] = {}

        def is_over() -> bool:
            note_commits(folder, committed)
            stopped = any(one.poll() is not None for one in [server, *hospitals])
            return stopped or case.rounds + 1 in committed

        processes.wait_for("server", is_over, 600)
        anonymous_mb = watch.above_base_mb("RssAnon")
        memory_mb = watch.above_base_mb()
        if case.rounds + 1 not in committed:
            logs = [processes.log(name)[-1000:] for name in ("server", names[0])]
            raise RuntimeError("it failed:\n" + "\n".join(logs))
    times = [committed[number] for number in range(1, case.rounds + 2) if number in committed]
    seconds = [b - a for a, b in zip(times, times[1:], strict=False)]
    return Measured(seconds, memory_mb, anonymous_mb)


def _start_hospital(processes: Processes, name: str) -> subprocess.Popen[bytes]:
    """With the rules of a hospital that has read the task's file and allows a plain run."""
    kit = processes.folder / "provision" / "kits" / name
    (kit / "site.toml").write_text(
        "federations = ['benchmark']\nrequire_secure_aggregation = false\n"
        f"[task_files]\n'{TASK_FILE.name}:RandomUpdates' = '{TASK_FILE}'\n"
    )
    return processes.start(name, [*WARDROUND, "client", str(kit), "--example-data"])


def _hospitals(count: int) -> list[str]:
    return [f"hospital-{number:02d}" for number in range(count)]


def _configure(folder: Path, case: Case, secure: bool) -> Path:
    port, path = free_port(), folder / "federation.toml"
    path.write_text(
        f"[federation]\nname = 'benchmark'\nrounds = {case.rounds + 1}\n"
        f"min_clients = {case.clients}\nround_attempts = 1\n"
        "[data]\ntest_fraction = 0.0\n"
        f"[task]\nname = '{TASK_FILE}:RandomUpdates'\nparameters = {case.parameters}\n"
        f"[training]\nlr = {LR}\n"
        f"[secure_aggregation]\nenabled = {str(secure).lower()}\n"
        f"[server]\naddress = 'localhost:{port}'\nlisten = '127.0.0.1:{port}'\n"
        f"hospitals = {_hospitals(case.clients)}\n"
    )
    return path


def note_commits(folder: Path, committed: dict[int, float]) -> None:
    """When each round's checkpoint was written; the newest two are always there."""
    for path in folder.glob("runs/*/checkpoints/round-*.safetensors"):
        number = int(path.stem.removeprefix("round-"))
        if number not in committed:
            try:
                committed[number] = path.stat().st_mtime
            except FileNotFoundError:
                continue


if __name__ == "__main__":
    main()
