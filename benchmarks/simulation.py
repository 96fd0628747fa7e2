"""Many clients on one machine: our executors, pfl-research, Flower's engine and a plain loop.

    python -m benchmarks.simulation [--quick] [--json PATH]

The same work for all (``benchmarks/simulation_work.py``): logistic regression 30 to 2, an MLP
784-200-10 and pfl's CNN for CIFAR-10; K clients a round with 50 examples each, one epoch of SGD in
batches of 10, no evaluation. Clients per second of a round (median over rounds, start-up excluded)
and peak memory of the process and its children. Each side runs alone, in a process of its own, and
the sides take turns. Ours go through ``simulate``, from commit to commit; 'engine' is the cohort's
training without the product around it; 'bf16' is 'processes-sequential' with mixed precision. pfl
runs in ``.peers/pfl`` (``make bench-peers``); its cells are empty without it, Flower's without
``flwr[simulation]``. 'private', 'dp-sgd' and pfl's private sides are in cases of their own;
'opacus' is DP-SGD in a plain loop.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks.report import Row, arguments, emit
from benchmarks.simulation_work import EXAMPLES, WORKLOADS, gemm_gflops

PFL = Path(".peers/pfl/bin/python")
OURS = (
    "cohort",
    "processes",
    "processes-sequential",
    "sequential",
    "bf16",
    "masked",
    "private",
    "dp-sgd",
    "engine",
)
PEERS = ("pfl", "flower", "loop", "pfl-private", "pfl-local", "opacus")
# workload, clients, rounds by side; a side that isn't named doesn't run
FULL = (
    (
        "logreg",
        100,
        {"cohort": 40, "sequential": 3, "masked": 40, "private": 3}
        | {"pfl": 5, "flower": 3, "loop": 5},
    ),
    (
        "logreg",
        1000,
        {"cohort": 40, "processes": 40, "engine": 40, "sequential": 2, "masked": 40}
        | {"pfl": 2, "flower": 2, "loop": 2},
    ),
    ("mlp", 100, {"cohort": 6, "processes": 6, "sequential": 2, "pfl": 3, "flower": 3, "loop": 3}),
    ("mlp", 1000, {"processes": 2, "cohort": 2, "engine": 2, "pfl": 2, "flower": 1}),
    (
        "cnn",
        20,
        {"processes-sequential": 3, "bf16": 3, "sequential": 2, "cohort": 2}
        | {"pfl": 2, "flower": 2, "loop": 2},
    ),
)
PRIVATE = (
    ("logreg", 100, {"private": 20, "pfl-private": 4}),
    (
        "logreg",
        1000,
        {"private": 20, "dp-sgd": 4} | {"pfl-private": 2, "pfl-local": 2, "opacus": 1},
    ),
    ("mlp", 100, {"private": 4, "dp-sgd": 2} | {"pfl-private": 2, "pfl-local": 2, "opacus": 1}),
)
"""Beside the sides of a run without privacy: 'dp-sgd' and 'opacus' take private steps, the others
clip an update each."""
QUICK = (
    ("logreg", 1000, {"cohort": 20, "pfl": 1, "loop": 1}),
    ("logreg", 1000, {"private": 10, "pfl-private": 1}),
    ("mlp", 100, {"processes": 3, "pfl": 1, "loop": 1}),
)


def main() -> None:
    """Run all sides in turns, print and write."""
    options = arguments(__doc__ or "")
    peak = gemm_gflops()
    print(f"one thread's peak in a large product: {peak:.0f} GFLOP/s")
    rows = []
    for name, clients, rounds in QUICK if options.quick else FULL + PRIVATE:
        turns = 1 if options.quick else 2
        found = {side: _Side() for side in rounds}
        for _ in range(turns):
            for side, count in rounds.items():
                found[side].measure(side, name, clients, count)
        speeds = {side: clients / one.seconds for side, one in found.items() if one.seconds}
        peers = {side: speeds.get(side) for side in PEERS}
        case = f"{name}, {clients} clients"
        gflops = WORKLOADS[name].flops * EXAMPLES / 1e9
        for side in OURS:
            if side in speeds:
                rows.append(
                    Row(f"{case}, {side}", "clients per second", speeds[side], "higher", peers)
                )
                share = 100 * speeds[side] * gflops / peak
                rows.append(Row(f"{case}, {side}", "% of one thread's peak", share, "higher"))
                memory = {peer: found[peer].memory_mb for peer in PEERS if peer in found}
                rows.append(
                    Row(
                        f"{case}, {side}", "peak memory, MB", found[side].memory_mb, "lower", memory
                    )
                )
        if "engine" in speeds:
            kept = 100 * speeds["cohort"] / speeds["engine"]
            rows.append(Row(case, "% of the engine's speed that the product keeps", kept, "higher"))
    emit("Simulation, training rounds only", rows, options.json)


class _Side:
    """What was seen of one side, over its turns."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self.memory_mb = 0.0

    @property
    def seconds(self) -> float:
        """Median of a round; 0 if the side can't run here."""
        return statistics.median(self._seconds) if self._seconds else 0.0

    def measure(self, side: str, name: str, clients: int, rounds: int) -> None:
        """One turn, in a process of its own."""
        if side == "flower" and importlib.util.find_spec("ray") is None:
            return
        if side.startswith("pfl") and not PFL.exists():
            return
        command = [sys.executable, "-m", "benchmarks.simulation_sides", side]
        if side.startswith("pfl"):
            command = [str(PFL), "-m", "benchmarks.simulation_pfl", side]
        process = subprocess.Popen(
            [*command, name, str(clients), str(rounds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        watch = _MemoryWatch(process.pid)
        output, _ = process.communicate()
        self.memory_mb = max(self.memory_mb, watch.stop())
        found = [line for line in output.splitlines() if line.startswith("RESULT ")]
        if not found:
            if side not in PEERS:  # our own side must run
                raise SystemExit(f"benchmarks.simulation: {side} gave no result for {name}")
            return
        self._seconds += json.loads(found[-1].removeprefix("RESULT "))


class _MemoryWatch(threading.Thread):
    """Highest sum of the proportional memory of a process and all its descendants, in MB."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._peak, self._running = pid, 0.0, True
        self.start()

    def run(self) -> None:
        import psutil

        while self._running:
            try:
                parent = psutil.Process(self._pid)
                total = 0.0
                for process in [parent, *parent.children(recursive=True)]:
                    total += _proportional_bytes(process.pid)
                self._peak = max(self._peak, total / 1e6)
            except psutil.Error:
                pass
            time.sleep(0.2)

    def stop(self) -> float:
        """The peak so far; ends the watch."""
        self._running = False
        return self._peak


def _proportional_bytes(pid: int) -> float:
    """Memory with shared pages counted once over the processes that share them (Linux)."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1]) * 1024
    except OSError:
        pass
    return 0.0


if __name__ == "__main__":
    main()
