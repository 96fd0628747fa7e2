"""What it costs that every sum of a run is private, beside training alone, at one epsilon.

    python -m benchmarks.private_sums [--quick] [--json PATH]

The built-in data (569 rows, 30 columns, five hospitals, AUC) and Fed-Heart-Disease (four real
hospitals, 486 training rows, accuracy), at epsilon 1, 3 and 10, delta 1e-5, a row as unit, with
distributed noise and, for the built-in data, each hospital's own. Three forms of the same run:

    training only           preparation and figures are exact
    and preparation         figures are exact: what the private preparation costs the model
    all sums                the same model; its figures are noised, once, after the last round

Columns have declared ranges: of the built-in data from 0 to 1.5 times the largest value, of the
hearts what a textbook allows. Means over seeds (of noise and split). ``--quick`` takes two.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sklearn.datasets import load_breast_cancer

from benchmarks.flamby_data import heart_disease, write
from benchmarks.report import Row, arguments, emit
from wardround.simulations import parse_config, simulate

EPSILONS, SEEDS = (1.0, 3.0, 10.0), range(5)
COVERS = {
    "training only": '["training"]',
    "and preparation": '["training", "preparation"]',
    "all sums": '["training", "preparation", "evaluation"]',
}
HEART = """
[task]
positive = ["1"]
encoding = "dummy"
missing = "drop"
[task.columns]
target = "disease"
split = "split"
numeric = ["age", "trestbps", "chol", "thalach", "oldpeak"]
binary = ["sex", "fbs", "exang"]
categorical = ["cp", "restecg"]
categories = { cp = ["1", "2", "3", "4"], restecg = ["0", "1", "2"] }
[task.columns.expected]
age = { range = [18.0, 90.0] }
trestbps = { range = [70.0, 220.0] }
chol = { range = [0.0, 600.0] }
thalach = { range = [60.0, 220.0] }
oldpeak = { range = [-3.0, 7.0] }
[simulation]
partition = "sites"
"""
SUMMED = (
    "privacy.noise=distributed",
    "training.local_steps=1",
    "training.batch_size=1000",
    "training.lr=2.0",
    "federation.rounds=20",
    "evaluation.every=20",
    "secure_aggregation.threshold=0.8",
)
OWN = ("privacy.noise=local", "evaluation.every=20", "federation.rounds=20")


@dataclass(frozen=True)
class Case:
    """A federation: its TOML text and overrides, and the figure that it is told by."""

    name: str
    text: str
    sets: tuple[str, ...]
    metric: str


def cases(folder: Path) -> list[Case]:
    """The hospitals' files lie in ``folder``."""
    data = write(heart_disease(), folder / "hearts")
    hearts = f'[data]\npath = "{data}"\n' + HEART
    return [
        Case("default, own noise", built_in(), OWN, "auc"),
        Case("default, distributed", built_in(), SUMMED, "auc"),
        Case("hearts, distributed", hearts, SUMMED, "accuracy"),
    ]


def built_in() -> str:
    """The built-in data's columns with a range for each."""
    found = load_breast_cancer()
    names = [str(name) for name in found.feature_names]
    ranges = [
        f'"{name}" = {{ range = [0.0, {1.5 * float(largest):.6g}] }}'
        for name, largest in zip(names, found.data.max(axis=0), strict=True)
    ]
    listed = ", ".join(f'"{name}"' for name in names)
    return "\n".join(
        [f"[task.columns]\nnumeric = [{listed}]\n[task.columns.expected]", *ranges, ""]
    )


def figure(case: Case, epsilon: float, covers: str, seed: int) -> Mapping[str, Any]:
    """Figures of the test rows after the last round, as the run tells them."""
    with tempfile.TemporaryDirectory() as runs:
        sets = [
            "privacy.unit=example",
            f"privacy.epsilon={epsilon}",
            f"privacy.covers={covers}",
            f"federation.seed={seed}",
            f'federation.runs="{runs}"',
            "simulation.baselines=false",
            "data.validation_fraction=0.0",
            *case.sets,
        ]
        result = simulate(parse_config(case.text, sets))
        found: Mapping[str, Any] = result.rounds[-1]["overall"]["test"]
        return found


def measured(case: Case, epsilon: float, seeds: list[int]) -> list[Row]:
    """The model's figure in both exact forms, and how far from it the noised one is."""
    exact: dict[str, list[float]] = {}
    off, told = list[float](), 0
    for seed in seeds:
        for form, covers in COVERS.items():
            value = figure(case, epsilon, covers, seed).get(case.metric)
            if form != "all sums":
                assert value is not None
                exact.setdefault(form, []).append(float(value))
            elif value is not None and math.isfinite(value):
                told += 1
                off.append(abs(float(value) - exact["and preparation"][-1]))
    means = {form: statistics.mean(values) for form, values in exact.items()}
    name = f"{case.name}, epsilon {epsilon:g}"
    rows = [
        Row(
            name,
            case.metric,
            means["and preparation"],
            "higher",
            {"training only": means["training only"]},
        ),
        Row(name, "share of figures that could be told", told / len(seeds), "higher"),
    ]
    if off:
        rows.append(Row(name, "told figure's mean distance", statistics.mean(off), "lower"))
    return rows


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    seeds = list(SEEDS)[:2] if options.quick else list(SEEDS)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder)):
            for epsilon in EPSILONS:
                rows += measured(case, epsilon, seeds)
                print(f"{case.name}, epsilon {epsilon:g}: done", flush=True)
    emit("All sums private, beside training alone", rows, options.json)


if __name__ == "__main__":
    main()
