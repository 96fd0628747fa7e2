"""A smaller student, taught over the federation by a finished model, beside the same one untaught.

    python -m benchmarks.distil [--quick] [--json PATH]

Tables: the breast cancer data over five unlike hospitals, layers 64-32 teach one of 4. X-rays:
PneumoniaMNIST over five hospitals (``examples/pneumonia``), a CNN of half the width. Test AUC of
the chosen round over all rows, and parameters, means over seeds; the limit is the teacher's AUC
less .005. Nothing is chosen by these figures: weight and temperature are the defaults. Entities
are left out: a smaller encoder isn't among the data.
``--quick``: one seed, ten rounds of X-rays.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.flamby_data import data_folder
from benchmarks.pneumonia import EXAMPLE
from benchmarks.report import Row, arguments, emit

WITHIN = 0.005
TABLES = (
    "simulation.clients=5",
    "simulation.partition=dirichlet",
    "simulation.alpha=1.0",
    "federation.rounds=60",
    "training.local_steps=8",
    "training.lr=0.05",
    "task.model.kind=mlp",
)
LARGE, SMALL = ("task.model.hidden=[64,32]",), ("task.model.hidden=[4]",)


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    seeds = range(7, 8 if options.quick else 10)
    data = data_folder("pneumoniamnist") / "pneumoniamnist.npz"
    images = (f"data.path={data.resolve()}", "evaluation.every=5", "training.schedule=constant")
    rounds = f"federation.rounds={10 if options.quick else 100}"
    rows = [
        *_compared("tables, 64-32 to 4", None, TABLES, LARGE, SMALL, seeds),
        *_compared(
            "X-rays, width 16 to 8",
            EXAMPLE / "federation.toml",
            (*images, rounds),
            ("task.model.width=16",),
            ("task.model.width=8",),
            seeds,
        ),
    ]
    emit("Students of the federation's own", rows, options.json)


def _compared(
    case: str,
    settings: Path | None,
    common: tuple[str, ...],
    large: tuple[str, ...],
    small: tuple[str, ...],
    seeds: range,
) -> list[Row]:
    """Teacher, student taught and student untaught, of each seed."""
    found: dict[str, list[tuple[float, int]]] = {"teacher": [], "taught": [], "untaught": []}
    for seed in seeds:
        with tempfile.TemporaryDirectory() as runs:
            same = (*common, f"federation.seed={seed}", f"federation.runs={runs}")
            teacher = _run(settings, *same, *large)
            by = f"teacher.model={str(teacher.run_directory)!r}"
            found["teacher"].append(_figures(teacher))
            found["taught"].append(_figures(_run(settings, *same, *small, by)))
            found["untaught"].append(_figures(_run(settings, *same, *small)))
    auc = {name: fmean(auc for auc, _ in one) for name, one in found.items()}
    size = {name: float(one[0][1]) for name, one in found.items()}
    own, peers = ("taught",), ("teacher", "untaught")
    return [
        Row(
            case, "AUC", auc[own[0]], "higher", {x: auc[x] for x in peers}, auc["teacher"] - WITHIN
        ),
        Row(case, "parameters", size[own[0]], "lower", {x: size[x] for x in peers}),
    ]


def _run(settings: Path | None, *overrides: str) -> Any:
    from wardround.simulations import simulate

    fixed = ["simulation.baselines=false", "secure_aggregation.enabled=false"]
    return simulate(settings, overrides=[*fixed, *overrides])


def _figures(result: Any) -> tuple[float, int]:
    """Test AUC of the chosen round, and how many parameters the model has."""
    size = sum(p.numel() for p in result.model.parameters())
    return float(result.figure("auc", "overall")), size


if __name__ == "__main__":
    main()
