"""Virtual populations of a thousand, a hundred thousand and a million clients.

    python -m benchmarks.population [--quick] [--json PATH]

The same work each time: 1,000 clients per round, each with 50 rows of the built-in data (35 to
train on), logistic regression, one epoch of SGD in batches of 10, executor 'cohort' in one process;
figures of 1,000 clients after the last round. Start-up is all until round 1 begins (data, members,
preparation); of rounds the median, without the first one and the last one, by the clock and in CPU
time, which a busy machine changes less; peak memory of the process. Each population is a process of
its own. Beside a million stand the figures of a hundred thousand in the same run; a thousand all
take part in each round and stay in memory, so nothing is made anew for them.
"""

from __future__ import annotations

import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.report import Row, arguments, emit

POPULATIONS = (1_000, 100_000, 1_000_000)
PER_ROUND = 1_000
METRICS = ("start-up, s", "round, s", "round, CPU s", "peak memory, MB")


def main() -> None:
    """Run, print and write; with a hidden argument, be one of the measured processes."""
    if len(sys.argv) == 4 and sys.argv[1] == "--measure":
        print("RESULT " + json.dumps(measured(int(sys.argv[2]), int(sys.argv[3]))), flush=True)
        return
    options = arguments(__doc__ or "")
    rounds = 5 if options.quick else 20
    found = {clients: _in_a_process(clients, rounds) for clients in POPULATIONS}
    smaller = found[POPULATIONS[1]]
    rows = [
        Row(
            f"{clients:,} clients, {PER_ROUND:,} per round",
            metric,
            found[clients][metric],
            "lower",
            {"100,000 clients": smaller[metric]} if clients > POPULATIONS[1] else {},
        )
        for clients in POPULATIONS
        for metric in METRICS
    ]
    emit("Virtual populations, logistic regression, built-in data", rows, options.json)


def _in_a_process(clients: int, rounds: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.population", "--measure"]
    output = subprocess.run(
        [*command, str(clients), str(rounds)], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    values: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    return values


def measured(clients: int, rounds: int) -> dict[str, float]:
    """The figures of one population, by metric."""
    from wardround.server.observer import Observer
    from wardround.simulations import parse_config, simulate

    class Watch(Observer):
        def __init__(self) -> None:
            self.began_s: list[tuple[float, float]] = []

        def round_started(self, server_round: int, cohort: list[str], attempt: int) -> None:
            self.began_s.append((time.perf_counter(), time.process_time()))

    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        config = parse_config(
            f"[federation]\nrounds = {rounds}\nclients_per_round = {PER_ROUND}\n"
            f"runs = '{folder}'\n[training]\nbatch_size = 10\n"
            "[secure_aggregation]\nenabled = false\n"
            f"[evaluation]\nevery = {rounds}\n"
            f"[simulation]\npartition = 'virtual'\nclients = {clients}\nexecutor = 'cohort'\n"
        )
        started_s = time.perf_counter()
        simulate(config, observer=watch)
    steps = list(itertools.pairwise(watch.began_s))[1:]
    wall_s, cpu_s = ([after[i] - before[i] for before, after in steps] for i in (0, 1))
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # as Linux counts
    return {
        "start-up, s": watch.began_s[0][0] - started_s,
        "round, s": statistics.median(wall_s),
        "round, CPU s": statistics.median(cpu_s),
        "peak memory, MB": peak_kib * 1024 / 1e6,
    }


if __name__ == "__main__":
    main()
