"""How a round's cost grows with the clients in it, and with the model.

    python -m benchmarks.scaling [--quick] [--json PATH]

50 examples a client, one epoch of SGD in batches of 10, through ``simulate`` from commit to commit
(median over rounds, the first one left out), executor 'cohort', one process per case; peak memory
of that process. Clients: logistic regression, 10 to 10,000 in a round. Model: 100 inputs, one
hidden layer, 10 outputs, of 1e3 to 1e7 parameters, 10 clients in a round.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import Row, arguments, emit

CLIENTS = ((10, 40), (100, 40), (1_000, 20), (10_000, 5))
PARAMETERS = ((1e3, 40), (1e4, 40), (1e5, 20), (1e6, 5), (1e7, 2))
INPUTS, OUTPUTS, EXAMPLES = 100, 10, 50


def main() -> None:
    """Run, print and write; with a hidden argument, be one of the measured processes."""
    if len(sys.argv) == 5 and sys.argv[1] == "--measure":
        clients, parameters, rounds = int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
        print("RESULT " + json.dumps(_measured(clients, parameters, rounds)), flush=True)
        return
    options = arguments(__doc__ or "")
    clients = CLIENTS[:3] if options.quick else CLIENTS
    parameters = PARAMETERS[:4] if options.quick else PARAMETERS
    cases = [(f"{count:,} clients, logistic regression", count, 0.0, n) for count, n in clients]
    cases += [(f"10 clients, {size:.0e} parameters", 10, size, n) for size, n in parameters]
    rows = []
    for case, count, size, rounds in cases:
        command = [sys.executable, "-m", "benchmarks.scaling", "--measure"]
        output = subprocess.run(
            [*command, str(count), str(size), str(min(rounds, 3) if options.quick else rounds)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        line = next(x for x in output.splitlines() if x.startswith("RESULT "))
        seconds, memory_mb = json.loads(line.removeprefix("RESULT "))
        rows.append(Row(case, "round, s", seconds, "lower"))
        rows.append(Row(case, "clients per second", count / seconds, "higher"))
        rows.append(Row(case, "peak memory, MB", memory_mb, "lower"))
    emit("How a round's cost grows", rows, options.json)


def _measured(clients: int, parameters: float, rounds: int) -> tuple[float, float]:
    """Seconds of a round and peak memory in MB; 0 parameters: logistic regression 30 to 2."""
    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch import nn

    from wardround.common.figures.sums import Sums
    from wardround.common.tasks.base import Examples, Task
    from wardround.server.observer import Observer
    from wardround.simulations import parse_config, simulate

    hidden = max(1, round(parameters / (INPUTS + OUTPUTS + 1)))
    inputs, outputs = (INPUTS, OUTPUTS) if parameters else (30, 2)

    class Work(Task[Examples]):
        def load(self, path: Path | None) -> Examples:
            generator = torch.Generator().manual_seed(0)
            rows = clients * EXAMPLES
            targets = torch.randint(0, outputs, (rows,), generator=generator)
            return Examples(torch.randn(rows, inputs, generator=generator), targets)

        def model(self, totals: Sums) -> nn.Module:
            if not parameters:
                return nn.Linear(inputs, outputs)
            return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

        def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(outputs, targets, reduction="none")

        def metrics(self, outputs: torch.Tensor, targets: torch.Tensor) -> Sums:
            return {"loss": np.array([float(self.loss(outputs, targets).sum())])}

        def summarise(self, sums: Sums) -> dict[str, float]:
            return {"loss": float(sums["loss"][0])}

    class Clock(Observer):
        stamps: list[float] = []

        def round_committed(self, row: dict[str, Any]) -> None:
            self.stamps.append(time.perf_counter())

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        config = parse_config(
            f"[federation]\nrounds = {rounds + 1}\nruns = '{folder}'\n[data]\ntest_fraction = 0.0\n"
            "[training]\nlr = 0.05\nbatch_size = 10\n[secure_aggregation]\nenabled = false\n"
            f"[simulation]\nclients = {clients}\npartition = 'iid'\nbaselines = false\n"
            "executor = 'cohort'\n"
        )
        simulate(config, task=Work(), observer=clock)
    took_s = [b - a for a, b in zip(clock.stamps, clock.stamps[1:], strict=False)]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return statistics.median(took_s), peak_mb


if __name__ == "__main__":
    main()
