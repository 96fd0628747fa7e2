"""A model of the other hospitals, recalibrated at the one that was left out: before and after.

    python -m benchmarks.recalibration [--quick] [--json PATH]

Fed-Heart-Disease (all rows, gaps filled; Brier score, binary) and Fed-TCGA-BRCA (slope of the Cox
model's risk). Each hospital is left out once; what corrects the model is fitted and tried by the
ten parts of ``wardround client calibrate``, so figures after are of rows that it didn't see.
``--quick`` leaves out two hospitals of each.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.flamby_data import HEART_COLUMNS, HEART_SIZES, Rows, data_folder, tcga_brca, write
from benchmarks.report import Row, arguments, emit
from wardround.common.calibration import fitting
from wardround.common.calibration.compared import Figure, figures, gain
from wardround.common.calibration.correction import kind_of
from wardround.common.errors import DataError
from wardround.common.model_folder.folder import ModelFolder
from wardround.simulations import parse_config, simulate

_USED = ("age", "sex", "cp", "trestbps", "thalach", "oldpeak")
_COMMON = """
[simulation]
partition = "sites"
baselines = false
[evaluation]
every = 15
[secure_aggregation]
enabled = false
"""
HEART = f"""
[federation]
name = "heart"
rounds = 15
[task.columns]
target = "disease"
numeric = {list(_USED)}
[training]
lr = 0.1
[data]
test_fraction = 0.0
{_COMMON}
""".replace("every = 15", "every = 15\nselect = 'last'")
BRCA = f"""
[federation]
name = "brca"
rounds = 5
[task]
kind = "survival"
normalise = "none"
[task.columns]
target = ""
time = "T"
event = "E"
[training]
lr = 0.1
batch_size = 8
local_steps = 100
{_COMMON}
""".replace("every = 15", "every = 5")
PROTOTYPE = {"cleveland": 0.154, "hungarian": 0.153, "switzerland": 0.089, "va": 0.158}


def heart() -> dict[str, Rows]:
    """All rows of the four hospitals; '?' is a gap."""
    found = {}
    for name in HEART_SIZES:
        path = data_folder("heart_disease") / f"processed.{name}.data"
        with open(path, newline="") as file:
            raw = [dict(zip(HEART_COLUMNS, row, strict=True)) for row in csv.reader(file) if row]
        found[name] = [
            {key: row[key].replace("?", "") for key in _USED}
            | {"disease": str(int(float(row["num"]) > 0))}
            for row in raw
        ]
    return found


def left_out(name: str, hospitals: dict[str, Rows], base: str) -> fitting.Rows:
    """What a model of all others says of one hospital's rows."""
    with tempfile.TemporaryDirectory() as place:
        others = {key: rows for key, rows in hospitals.items() if key != name}
        data = write(others, Path(place) / "hospitals")
        own = write({name: hospitals[name]}, Path(place) / "own") / f"{name}.csv"
        sets = [f"data.path='{data}'", f"federation.runs='{place}/runs'"]
        run = simulate(parse_config(base, sets)).run_directory
        folder = ModelFolder.open(run)
        raw = folder.task.load(own)
        examples = folder.task.prepare(raw, folder.totals, raw)
        said = folder.task.predictions(folder.module()(examples.inputs), folder.totals)
        groups = np.arange(len(examples))
        return fitting.Rows.of(kind_of(folder.schema), said, examples.targets.numpy(), groups)


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    rows: list[Row] = []
    brca = {
        name: [{k: v for k, v in one.items() if k != "split"} for one in its]
        for name, its in tcga_brca().items()
    }
    for study, hospitals, base, shown in (
        ("heart", heart(), HEART, ("brier", "in_the_large", "slope")),
        ("brca", brca, BRCA, ("slope",)),
    ):
        for name in list(hospitals)[: 2 if options.quick else None]:
            found = left_out(name, hospitals, base)
            try:
                fitting.check_enough(found)
            except DataError as error:
                print(f"{study}, {name}: {error}")
                continue
            values = fitting.tried(found, fitting.methods(found)[0])
            before, after = figures(found), figures(found, values)
            for figure in shown:
                print(f"{name} {figure}: {_text(before[figure])} -> {_text(after[figure])}")
            if study == "heart":
                print(f"{name} Brier falls by {_text(gain(found, values).figure)}")
            first = shown[0]
            value, was = after[first][0], before[first][0]
            if value is None or was is None:
                continue
            if study == "heart":
                rows.append(Row(name, first, value, "lower", {"before": was}, PROTOTYPE[name]))
            else:
                near = {"before": abs(was - 1)}
                rows.append(Row(name, "slope's distance from 1", abs(value - 1), "lower", near))
    emit("A hospital left out, recalibrated at home (limit: a prototype's)", rows, options.json)


def _text(figure: Figure) -> str:
    value, low, high = figure
    if value is None:
        return "not defined"
    return f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")


if __name__ == "__main__":
    main()
