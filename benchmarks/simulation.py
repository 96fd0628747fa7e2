"""Many clients on one machine, beside Flower's own simulation engine.

    python -m benchmarks.simulation [--quick] [--json PATH]

Work per client and round, the same for both: logistic regression 784 to 10, 50 examples, one epoch
of SGD in batches of 10; all clients take part; no evaluation. Clients per second of a round
(median, start-up excluded) and peak memory of the process and its children. Each side runs alone,
in a process of its own; Flower's with two one-CPU actors. Its cells are empty without
``flwr[simulation]``. Wardround runs without secure aggregation, as Flower does, and again with it:
every client then masks its update for real.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.report import Row, arguments, emit

FEATURES, CLASSES, EXAMPLES, BATCH, LR = 784, 10, 50, 10, 0.01


def main() -> None:
    """Run, print and write; with a hidden argument, be one of the measured processes."""
    if len(sys.argv) == 5 and sys.argv[1] == "--measure":
        kind, clients, rounds = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        flower = kind == "flower"
        seconds = _flower(clients, rounds) if flower else _ours(clients, rounds, kind == "masked")
        print("RESULT " + json.dumps(seconds), flush=True)
        return
    options = arguments(__doc__ or "")
    rows = []
    for clients, quick_rounds, rounds in ((100, 3, 10), (1000, 1, 4)):
        count = quick_rounds if options.quick else rounds
        theirs = _measure("flower", clients, count)
        for kind in ("plain", "masked"):
            ours = _measure(kind, clients, count)
            case = f"{clients} clients per round, {kind}"
            for metric, better in (("clients per second", "higher"), ("peak memory, MB", "lower")):
                value = ours[metric]
                assert value is not None  # our own side must run
                rows.append(Row(case, metric, value, better, {"flower": theirs[metric]}))
    emit("Simulation, logistic regression, training rounds only", rows, options.json)


def _measure(kind: str, clients: int, rounds: int) -> dict[str, float | None]:
    nothing: dict[str, float | None] = {"clients per second": None, "peak memory, MB": None}
    if kind == "flower" and importlib.util.find_spec("ray") is None:
        return nothing
    command = [sys.executable, "-m", "benchmarks.simulation", "--measure", kind]
    command += [str(clients), str(rounds + 1)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    watch = _MemoryWatch(process.pid)
    output, _ = process.communicate()
    peak = watch.stop()
    found = [line for line in output.splitlines() if line.startswith("RESULT ")]
    if not found:
        return nothing
    seconds = json.loads(found[-1].removeprefix("RESULT "))[1:]  # the first round warms up
    return {"clients per second": clients / statistics.median(seconds), "peak memory, MB": peak}


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


def _shard(index: int) -> tuple[Any, Any]:
    import torch

    generator = torch.Generator().manual_seed(index)
    inputs = torch.randn(EXAMPLES, FEATURES, generator=generator)
    return inputs, torch.randint(0, CLASSES, (EXAMPLES,), generator=generator)


def _ours(clients: int, rounds: int, masked: bool) -> list[float]:
    """Seconds of each training round of ``wardround simulate``."""
    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch import nn

    from wardround.common.tasks.base import Examples, Sums, Task
    from wardround.simulations import parse_config, simulate

    class Digits(Task[Examples]):
        def load(self, path: Path | None) -> Examples:
            inputs, targets = zip(*(_shard(i) for i in range(clients)), strict=True)
            return Examples(torch.cat(inputs), torch.cat(targets))

        def model(self, totals: Sums) -> nn.Module:
            return nn.Linear(FEATURES, CLASSES)

        def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(outputs, targets, reduction="none")

        def metrics(self, outputs: torch.Tensor, targets: torch.Tensor) -> Sums:
            return {"loss": np.array([float(self.loss(outputs, targets).sum())])}

        def summarise(self, sums: Sums) -> dict[str, float]:
            return {"loss": float(sums["loss"][0])}

    with tempfile.TemporaryDirectory() as folder:
        config = parse_config(
            f"[federation]\nrounds = {rounds}\nruns = '{folder}'\n[data]\ntest_fraction = 0.0\n"
            f"[training]\nlr = {LR}\nbatch_size = {BATCH}\n"
            f"[secure_aggregation]\nenabled = {str(masked).lower()}\n"
            f"[simulation]\nclients = {clients}\npartition = 'iid'\nbaselines = false\n"
        )
        result = simulate(config, task=Digits())
        return [row["seconds"]["total"] for row in result.rounds]


def _flower(clients: int, rounds: int) -> list[float]:
    """Seconds of each training round of Flower's engine, FedAvg, two actors."""
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    import logging

    import torch
    import torch.nn.functional as F
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation
    from torch import nn

    logging.getLogger("flwr").setLevel(logging.ERROR)
    client, server = ClientApp(), ServerApp()
    stamps: list[float] = []

    @client.train()
    def train(message: Message, context: Context) -> Message:
        torch.set_num_threads(1)
        model = nn.Linear(FEATURES, CLASSES)
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        inputs, targets = _shard(int(context.node_config["partition-id"]))
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        order = torch.randperm(EXAMPLES)
        for start in range(0, EXAMPLES, BATCH):
            rows = order[start : start + BATCH]
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
        content = {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"num-examples": EXAMPLES}),
        }
        return Message(RecordDict(content), reply_to=message)

    class Timed(FedAvg):
        def configure_train(self, *args: Any, **kwargs: Any) -> Any:
            stamps.append(time.perf_counter())
            return super().configure_train(*args, **kwargs)

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        strategy = Timed(
            fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients
        )
        arrays = ArrayRecord(nn.Linear(FEATURES, CLASSES).state_dict())
        strategy.start(grid=grid, initial_arrays=arrays, num_rounds=rounds)
        stamps.append(time.perf_counter())

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0}, "init_args": {"num_cpus": 2}}
    run_simulation(server, client, clients, backend_config=resources)  # type: ignore[arg-type]
    return [b - a for a, b in zip(stamps, stamps[1:], strict=False)]


if __name__ == "__main__":
    main()
