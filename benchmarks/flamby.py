"""Shared by the two FLamby benchmarks: run a setting, choose one on validation rows, report.

A setting is a tuple of ``--set`` overrides. It is chosen by the hospital-balanced figure on
validation rows in cross-validation within the training rows; test rows are looked at once per seed,
for the chosen setting and for those that were fixed beforehand.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.flamby_data import Rows, with_folds, write
from wardround.common.errors import RoundFailed
from wardround.simulations import parse_config, simulate

Setting = tuple[str, ...]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Study:
    """A data set and how it is measured: base configuration, metric, label to stratify by.

    chosen_by : 'mean' of hospitals, or 'overall' where single hospitals have too few events to tell
    repeats : cross-validations, each with other folds
    """

    name: str
    hospitals: dict[str, Rows]
    base: str
    metric: str
    label: str
    chosen_by: str = "mean"
    repeats: int = 1


def run(study: Study, hospitals: dict[str, Rows], setting: Setting, seed: int, split: str) -> float:
    """Hospital-balanced mean of the metric of one federated run; 0 if training diverged."""
    figures = run_all(study, hospitals, setting, seed, split, baselines=False)
    return figures.get("federated", 0.0)


def run_all(
    study: Study,
    hospitals: dict[str, Rows],
    setting: Setting,
    seed: int,
    split: str,
    baselines: bool,
) -> dict[str, float]:
    """The same, with local and pooled models if asked."""
    with tempfile.TemporaryDirectory() as folder:
        data = write(hospitals, Path(folder) / "hospitals")
        overrides = [
            f"federation.seed={seed}",
            f'federation.runs="{folder}/runs"',
            f'data.path="{data}"',
            f"simulation.baselines={str(baselines).lower()}",
            *setting,
        ]
        try:
            result = simulate(parse_config(study.base, overrides))
        except RoundFailed as error:
            log.warning("%s %s: %s", study.name, setting, error)
            return {}
        if split == "validation":
            return {"federated": result.figure(study.metric, study.chosen_by, split)}
        (row,) = [row for row in result.comparison if row["hospital"] == "mean"]
        kinds = ("local", "federated", "pooled") if baselines else ("federated",)
        return {kind: row[kind][study.metric] for kind in kinds}


def tune(
    study: Study, grid: Sequence[Setting], folds: int, noisy: bool = False
) -> list[tuple[float, Setting]]:
    """Each setting with its mean validation figure, best first. Test rows are not in these runs.

    noisy : every fold has a seed of its own, so that one draw of noise doesn't choose
    """
    parts = [
        part
        for repeat in range(study.repeats)
        for part in with_folds(study.hospitals, study.label, folds, repeat)
    ]
    scored = []
    for setting in grid:
        values = [
            run(study, part, setting, index if noisy else 0, "validation")
            for index, part in enumerate(parts)
        ]
        scored.append((statistics.mean(values), setting))
        print(f"  validation {statistics.mean(values):.4f}  {' '.join(setting)}", flush=True)
    return sorted(scored, key=lambda pair: -pair[0])


def test(study: Study, setting: Setting, seeds: Sequence[int]) -> tuple[float, float]:
    """Mean and standard deviation over seeds of the test figure."""
    values = [run(study, study.hospitals, setting, seed, "test") for seed in seeds]
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
