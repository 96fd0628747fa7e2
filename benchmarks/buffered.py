"""Simulated time to an AUC: buffered rounds against synchronous ones, over unlike hospitals.

    python -m benchmarks.buffered [--quick] [--json PATH]

The breast cancer data over eight hospitals with unlike labels. A hospital trains on a median of 180
rows an hour with a deviation of 1 of the logarithm, so a round takes one some minutes and another
some hours; two hospitals are there at night only, one by day. Compared are synchronous rounds of
all who are there, the same with a deadline of an hour (who is slower never counts), and buffered
rounds of K = 3. Simulated hours until test AUC over all rows is at ``TARGET`` for the first time,
means over seeds; and the share of updates that the four slowest hospitals gave, in the rounds until
then. A run that doesn't reach it counts with the time of its end, and the line says how many did.
``--quick``: one seed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.report import Row, arguments, emit

TARGET = 0.985
HOUR_S = 3600.0
HOSPITALS = (
    "simulation.clients=8",
    "simulation.partition=dirichlet",
    "simulation.alpha=1.0",
    "simulation.min_examples=20",
    "training.lr=0.05",
    "training.batch_size=16",
    "simulation.baselines=false",
    "secure_aggregation.enabled=false",
)
DEFAULT = "default={examples_per_s={median=0.05,sigma=1.0}}"
HOURS = 'hospital-6={daily="20:00-06:00"},hospital-7={daily="20:00-06:00"},'
HOURS += 'hospital-8={daily="08:00-18:00"}'
HOW = {
    "synchronous": ("", ("federation.rounds=40",)),
    "with a deadline": (
        f"deadline_s={HOUR_S},",
        ("federation.rounds=80", "federation.round_attempts=50"),
    ),
    "buffered, K = 3": (
        "",
        ("federation.rounds=120", "federation.buffer=3", 'federation.pace="buffered"'),
    ),
}


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    seeds = range(1, 2 if options.quick else 6)
    found = {name: [_run(seed, *how) for seed in seeds] for name, how in HOW.items()}
    ours, *peers = reversed(found)
    rows = []
    for number, (what, unit, better) in enumerate(
        (
            (f"until AUC {TARGET}", "simulated hours", "lower"),
            ("the slower half's updates", "share", "higher"),
            ("runs that reach it", f"of {len(seeds)}", "higher"),
        )
    ):
        put = sum if number == 2 else fmean
        value = {name: float(put([one[number] for one in runs])) for name, runs in found.items()}
        rows.append(Row(what, unit, value[ours], better, {name: value[name] for name in peers}))
    emit("Rounds that don't wait", rows, options.json)


def _run(seed: int, scenario: str, sets: Sequence[str]) -> tuple[float, float, float]:
    """Hours to the target (or the end), the slower half's share of updates, whether it came."""
    from wardround.simulations import simulate

    tables = f"simulation.scenario={{{scenario}{DEFAULT},clients={{{HOURS}}}}}"
    with tempfile.TemporaryDirectory() as runs:
        place = f"federation.runs={runs}"
        result = simulate(overrides=[*HOSPITALS, *sets, tables, f"federation.seed={seed}", place])
        return _figures(result.rounds, _slower(result))


def _slower(result: Any) -> set[str]:
    """Names of the four hospitals whose training takes longest, by the scenario's own numbers."""
    from wardround.common.config.task import make_task
    from wardround.simulations.population.hospitals import Population
    from wardround.simulations.scenario.clients import ScenarioClients, trained_examples
    from wardround.simulations.scenario.file import load_scenario

    population = Population(result.config, make_task(result.config))
    file = load_scenario(result.config)
    assert file is not None
    clients = ScenarioClients(population.names, file, result.config.federation.seed, 0.0)
    rows = [
        trained_examples(population.training_rows(name), result.config.training)
        for name in population.names
    ]
    takes = clients.seconds(np.array(rows, dtype=np.float64), 0.0, 0.0)
    return {population.names[k] for k in np.argsort(takes)[len(takes) // 2 :].tolist()}


def _figures(rounds: list[dict[str, Any]], slower: set[str]) -> tuple[float, float, float]:
    until = len(rounds)
    for number, row in enumerate(rounds, 1):
        if row["overall"]["test"]["auc"] >= TARGET:
            until = number
            break
    reached = rounds[until - 1]["overall"]["test"]["auc"] >= TARGET
    names = [name for row in rounds[:until] for name in row["accepted"]]
    hours = rounds[until - 1]["simulated_time_s"] / HOUR_S
    return hours, sum(name in slower for name in names) / len(names), float(reached)


if __name__ == "__main__":
    main()
