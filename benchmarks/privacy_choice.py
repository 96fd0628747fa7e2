"""What an epsilon costs in AUC, by who adds the noise, clipping norm and number of rows, and what
attacks find beside it: the figures of ``docs/choosing_privacy.md``.

    python -m benchmarks.privacy_choice [--quick] [--json PATH]

Training alone is private (``benchmarks/private_sums.py`` says what the other sums cost besides), a
row is the unit, delta is 1e-5; AUC on all hospitals' test rows, mean over seeds of noise and split.

    built-in     569 rows, 30 columns, five unequal hospitals
    hearts       Fed-Heart-Disease, four real hospitals, 486 training rows
    made-up      20,000 rows of 20 columns, five hospitals: what more rows are worth

The peer of each figure is the same run without privacy. Attacks are those of ``wardround privacy
audit``, on a hidden layer of 64 that learns the hearts' rows by heart: their peer is that network
without privacy. ``--quick`` takes one seed, and attacks at one epsilon only.
"""

from __future__ import annotations

import csv
import statistics
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from sklearn.datasets import make_classification

from benchmarks.flamby_data import heart_disease, write
from benchmarks.private_sums import HEART, OWN, SUMMED, Case, built_in
from benchmarks.report import Row, arguments, emit
from wardround.common.config.task import make_task
from wardround.simulations import parse_config, simulate
from wardround.simulations.privacy.attacks.run import audit

EPSILONS, SEEDS, NORMS = (10.0, 3.0, 1.0, 0.3), range(3), (0.1, 0.3, 1.0, 3.0)
PLACES = {"own": (*OWN, "training.lr=0.5"), "distributed": SUMMED}
BY_HEART = (
    *("task.model.kind=mlp", "task.model.hidden=[64]", "privacy.noise=local"),
    *("training.lr=0.5", "training.batch_size=16", "training.local_epochs=5"),
    *("federation.rounds=20", "evaluation.every=20"),
)
CANARIES = 2000


def made_up(folder: Path) -> str:
    """A table of 20,000 rows that no line separates, as a file; the settings that read it."""
    inputs, labels = make_classification(20_000, 20, n_informative=8, flip_y=0.1, random_state=1)
    names = [f"x{index}" for index in range(inputs.shape[1])]
    with open(folder / "made_up.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow([*names, "sick"])
        out.writerows(
            [*(f"{x:.4f}" for x in row), int(y)] for row, y in zip(inputs, labels, strict=True)
        )
    listed = ", ".join(f'"{name}"' for name in names)
    columns = f'[task.columns]\ntarget = "sick"\nnumeric = [{listed}]\n'
    return f'[data]\npath = "{folder / "made_up.csv"}"\n{columns}'


def auc(text: str, sets: tuple[str, ...], seeds: list[int]) -> float:
    """Of all hospitals' test rows after the last round, mean over seeds."""
    values = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as runs:
            fixed = [
                f"federation.seed={seed}",
                f'federation.runs="{runs}"',
                "simulation.baselines=false",
                "data.validation_fraction=0.0",
            ]
            result = simulate(parse_config(text, [*sets, *fixed]))
            values.append(result.figure("auc", "overall"))
    return statistics.mean(values)


def private(epsilon: float) -> tuple[str, ...]:
    """The settings of one budget."""
    return ("privacy.unit=example", f"privacy.epsilon={epsilon}", 'privacy.covers=["training"]')


def without(sets: tuple[str, ...]) -> tuple[str, ...]:
    """The same settings for a run without privacy."""
    return tuple(one for one in sets if not one.startswith("privacy."))


def costs(case: Case, seeds: list[int]) -> Iterator[Row]:
    """AUC at each epsilon, beside none."""
    peers: dict[str, float | None] = {"no privacy": auc(case.text, without(case.sets), seeds)}
    for epsilon in EPSILONS:
        value = auc(case.text, (*case.sets, *private(epsilon)), seeds)
        yield Row(f"{case.name}, epsilon {epsilon:g}", "AUC", value, "higher", peers)


def norms(case: Case, seeds: list[int]) -> Iterator[Row]:
    """AUC at epsilon 1 by clipping norm."""
    for norm in NORMS:
        sets = (*case.sets, *private(1.0), f"privacy.clipping_norm={norm}")
        name = f"{case.name}, epsilon 1, clipping norm {norm:g}"
        yield Row(name, "AUC", auc(case.text, sets, seeds), "higher")


def attacks(text: str, epsilons: tuple[float, ...]) -> Iterator[Row]:
    """What the three attacks find at each epsilon."""
    for epsilon in epsilons:
        config = parse_config(text, [*BY_HEART, *private(epsilon)])
        found = audit(config, make_task(config), CANARIES)
        name = f"attacks, epsilon {epsilon:g}"
        bare = {"no privacy": found.bare.auc}
        yield Row(name, "AUC of telling members", found.private.auc, "lower", bare, 0.5)
        lower = found.one_run.lower_bound
        yield Row(name, "epsilon that canaries show", lower, "lower", {}, found.proven)
        if found.inversions is not None:
            plain, protected = found.inversions.means
            peers = {"no privacy": plain, "another row": found.inversions.others}
            yield Row(name, "likeness of a row drawn from an update", protected, "lower", peers)


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    seeds = list(SEEDS)[:1] if options.quick else list(SEEDS)
    rows = list[Row]()
    with tempfile.TemporaryDirectory() as folder:
        hearts = f'[data]\npath = "{write(heart_disease(), Path(folder) / "hearts")}"\n{HEART}'
        texts = {"built-in": built_in(), "hearts": hearts, "made-up": made_up(Path(folder))}
        parts: list[Iterator[Row]] = [
            costs(Case(f"{name}, {place} noise", text, sets, "auc"), seeds)
            for name, text in texts.items()
            for place, sets in PLACES.items()
            if (name, place) != ("made-up", "own")  # its steps are many
        ]
        parts += [norms(Case("hearts, distributed noise", hearts, SUMMED, "auc"), seeds)]
        parts += [attacks(hearts, (1.0,) if options.quick else EPSILONS)]
        for row in chain.from_iterable(parts):
            print(f"{row.case}, {row.metric}: {row.value:.3f}", flush=True)
            rows.append(row)
    emit("What privacy costs, and what attacks find", rows, options.json)


if __name__ == "__main__":
    main()
