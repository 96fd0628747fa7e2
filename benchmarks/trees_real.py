"""Trees over real hospitals, beside linear models and MLPs over the same: Fed-Heart-Disease and
Fed-TCGA-BRCA.

    python -m benchmarks.trees_real [--quick] [--json PATH]

The rows, splits and figures are FLamby's: mean over the hospitals' own test rows of accuracy at 0.5
and AUC, and of the c-index. Trees are grown under masks by the procedure ``trees``, on raw columns;
depth and rounds (of boosting at a rate of 0.1, or a forest) are chosen in five-fold
cross-validation of plain runs, whose trees are the same, within the training rows, as the MLPs'
settings are; linear models have those that ``fed_heart`` and ``fed_brca`` chose. ``--quick`` takes
what was chosen so of Fed-Heart-Disease, of Fed-TCGA-BRCA what was set before anything was tried,
and one seed instead of three for what is trained.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score

from benchmarks import fed_brca, fed_heart
from benchmarks.flamby import Setting, Study, tune
from benchmarks.flamby_data import Rows, heart_disease, tcga_brca, with_folds, write
from benchmarks.report import Row, arguments, emit
from wardround.common.predict.trees import TreePredictor, load_trees
from wardround.simulations import analyse, parse_config, simulate

BOOSTED = (25, 50, 100)
FITS = ((1, 100), (2, 100), (3, 100), (7, 0))
MASKED = "secure_aggregation.enabled=true"
FOREST = ("procedure.rounds=1", "procedure.forest=200", "procedure.learning_rate=1.0",
          "procedure.subsample=0.632", "procedure.colsample_bylevel=0.3")  # fmt: skip
Figures = dict[str, float]


@dataclass(frozen=True)
class Case:
    """One data set, and what was chosen on its validation rows.

    shown : figures, the first of which chooses
    trees : depth, rounds; rounds of 0: a forest
    """

    study: Study
    shown: tuple[str, ...]
    trees: tuple[int, int]
    linear: Setting
    neural: Setting


def cases() -> list[Case]:
    """Both."""
    heart = Study("fed-heart", heart_disease(), fed_heart.BASE, "auc", "disease")
    brca = Study("tcga-brca", tcga_brca(), fed_brca.BASE, "c_index", "E", "overall", 2)
    return [
        Case(
            heart,
            ("auc", "accuracy"),
            (7, 0),
            fed_heart.CHOSEN_SHARED,
            ("training.lr=0.01", "task.model.kind=mlp", "strategy.name=scaffold"),
        ),
        Case(
            brca,
            ("c_index",),
            (2, 50),
            fed_brca.CHOSEN,
            (*fed_brca.STANDARD, "training.lr=0.03", "task.model.kind=mlp"),
        ),
    ]


def neural_grid(case: Case) -> list[Setting]:
    """Rates and strategies of MLPs (64-32)."""
    more = fed_brca.STANDARD if case.study.metric == "c_index" else ()
    return [
        (*more, f"training.lr={lr}", "task.model.kind=mlp", *strategy)
        for lr in (0.003, 0.01, 0.03)
        for strategy in ((), ("strategy.name=scaffold",))
    ]


def grown(
    case: Case,
    hospitals: dict[str, Rows],
    folder: Path,
    depth: int,
    rounds: int,
    *more: str,
) -> Path:
    """The file of trees over these hospitals."""
    kind = FOREST if rounds == 0 else (f"procedure.rounds={rounds}", "procedure.learning_rate=0.1")
    overrides = [
        f'data.path="{write(hospitals, folder / "hospitals")}"',
        f'federation.runs="{folder}/runs"',
        'procedure.name="trees"',
        f"procedure.max_depth={depth}",
        *kind,
        *more,
    ]
    return analyse(parse_config(case.study.base, overrides)).run_directory / "model.json"


def measured(
    model: TreePredictor, case: Case, hospitals: dict[str, Rows], split: str, rounds: int
) -> Figures:
    """Means over hospitals of their own figures, where a hospital has both outcomes."""
    found: dict[str, list[float]] = {name: [] for name in case.shown}
    whole, model.model = model.model, model.model.first(rounds) if rounds else model.model
    for rows in hospitals.values():
        own = [row for row in rows if row["split"] == split]
        if not own:
            continue
        said = model.predict(own)
        if case.study.metric == "c_index":
            times = np.array([float(row["T"]) for row in own])
            events = np.array([float(row["E"]) for row in own])
            with suppress(ZeroDivisionError):  # no two rows that could be told apart
                found["c_index"].append(concordance_index(times, -said["risk"], events))
            continue
        truth = np.array([float(row["disease"]) for row in own])
        found["accuracy"].append(float(((said["probability"] >= 0.5) == truth).mean()))
        if 0 < truth.mean() < 1:
            found["auc"].append(float(roc_auc_score(truth, said["probability"])))
    model.model = whole
    return {name: statistics.mean(values) for name, values in found.items()}


def chosen_trees(case: Case) -> tuple[int, int]:
    """Depth and rounds with the best figure on validation rows."""
    scored: dict[tuple[int, int], list[float]] = {}
    for part in with_folds(case.study.hospitals, case.study.label, 5):
        for depth, most in FITS:
            with tempfile.TemporaryDirectory() as folder:
                model = load_trees(grown(case, part, Path(folder), depth, most))
            for rounds in BOOSTED if most else (0,):
                figures = measured(model, case, part, "validation", rounds)
                scored.setdefault((depth, rounds), []).append(figures[case.shown[0]])
    for key, values in sorted(scored.items()):
        print(f"  validation {statistics.mean(values):.4f}  depth {key[0]}, rounds {key[1]}")
    return max(scored, key=lambda key: statistics.mean(scored[key]))


def trained(case: Case, setting: Setting, seeds: Sequence[int]) -> Figures:
    """Of a federation that trains, mean over seeds."""
    found: dict[str, list[float]] = {name: [] for name in case.shown}
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            overrides = [
                f"federation.seed={seed}",
                f'federation.runs="{folder}/runs"',
                f'data.path="{write(case.study.hospitals, Path(folder) / "hospitals")}"',
                "simulation.baselines=false",
                *setting,
            ]
            result = simulate(parse_config(case.study.base, overrides))
            for name in case.shown:
                found[name].append(result.figure(name, "mean", "test"))
    return {name: statistics.mean(values) for name, values in found.items()}


def rows_of(case: Case, quick: bool) -> list[Row]:
    """One data set."""
    trees, neural = case.trees, case.neural
    if not quick:
        trees = chosen_trees(case)
        neural = tune(case.study, neural_grid(case), 5)[0][1]
    print(f"{case.study.name}: trees of depth {trees[0]}, rounds {trees[1]}; {' '.join(neural)}")
    seeds = range(1) if quick else range(3)
    with tempfile.TemporaryDirectory() as folder:
        model = load_trees(grown(case, case.study.hospitals, Path(folder), *trees, MASKED))
    ours = measured(model, case, case.study.hospitals, "test", 0)
    linear, mlp = trained(case, case.linear, seeds), trained(case, neural, seeds)
    return [
        Row(case.study.name, name, ours[name], "higher", {"linear": linear[name], "MLP": mlp[name]})
        for name in case.shown
    ]


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    rows = [row for case in cases() for row in rows_of(case, options.quick)]
    emit("Trees over real hospitals, mean over these", rows, options.json)


if __name__ == "__main__":
    main()
