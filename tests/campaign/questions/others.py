"""Answers of the procedures beside statistics, held against numpy, xgboost and statsmodels."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pc
import statsmodels.api as sm
import xgboost
from numpy.typing import NDArray

from tests.campaign.finished import command
from tests.campaign.questions.ask import Answer
from tests.campaign.questions.judges import FAMILIES
from tests.unlike import Consortium
from wardround.common.config.load import Config
from wardround.common.config.task import make_task
from wardround.common.errors import WardroundError
from wardround.common.predict.trees import load_trees
from wardround.common.tasks.options import TabularOptions
from wardround.common.trees.table import matrix_of

Faults = Iterator[str]
_ONE_COEFFICIENT = 0.02
"""Of a standard error: a vertical model's numbers are of fixed point, and its search ends early."""


def judged(answer: Answer, made: Consortium, runs: Path) -> list[str]:
    """Faults of one answer."""
    judge = JUDGES.get(str(answer.question.asked["name"]))
    if answer.analysis is None or judge is None:
        return []
    if answer.question.settings.get("privacy.unit"):
        return []  # noise is what it is for
    return list(judge(answer, made, runs))


def _tables(config: Config) -> list[Any]:
    task, path = make_task(config), config.data_path()
    assert path is not None
    return [task.load(place) for place in task.sites(path).values()]


def _describe(answer: Answer, made: Consortium, runs: Path) -> Faults:
    assert answer.analysis is not None
    found = answer.analysis.description
    parts = _tables(answer.analysis.config)
    for column in found["columns"]:
        if "mean" not in column or column["mean"] is None:
            continue
        values = np.concatenate([part.numbers(column["name"]) for part in parts])
        here = values[~np.isnan(values)]
        room = column["mean_error"] * (1 + 1e-9)
        if abs(column["mean"] - here.mean()) > room or abs(column["std"] - here.std()) > room:
            yield f"mean or deviation of {column['name']} isn't that of all rows"
        for one in column["quantiles"]:
            if abs(np.quantile(here, one["p"]) - one["value"]) > one["error"] * (1 + 1e-9):
                yield f"quantile {one['p']} of {column['name']} is off by more than its error"


def _trees(answer: Answer, made: Consortium, runs: Path) -> Faults:
    """xgboost loads the file and says of raw rows what `wardround predict` says."""
    assert answer.analysis is not None
    model, name = answer.analysis.run_directory / "model.json", "rare.csv"
    file, out = made.folder / "hospitals" / name, runs / "trees.csv"
    try:
        command("predict", model, "--data", file, "--out", out)
    except WardroundError as error:
        yield f"predict refuses a hospital's own file: {error}"
        return
    table = pc.read_csv(out)
    options, features = answer.analysis.config.task.options, load_trees(model).model.features
    rows = matrix_of(
        make_task(answer.analysis.config).load(file), features, TabularOptions(**options)
    )
    theirs = xgboost.Booster(model_file=model).predict(
        xgboost.DMatrix(
            rows,
            feature_names=[one.name for one in features],
            feature_types=["q" if one.number else "c" for one in features],
            enable_categorical=True,
        )
    )
    columns = [x for x in table.column_names if x not in ("row", "file", "patient")]
    here = np.stack([table.column(name).to_numpy() for name in columns], axis=1)
    theirs = theirs.reshape(len(theirs), -1)
    if answer.question.kind == "survival":
        theirs = np.log(theirs)
    off = np.abs(here - theirs).max() if here.shape == theirs.shape else np.inf
    if not off <= 1e-4 * max(1.0, float(np.abs(theirs).max())):
        yield f"predict and xgboost differ by {off:.3g}"


def _own(answer: Answer, made: Consortium, runs: Path) -> Faults:
    assert answer.analysis is not None
    shown = answer.analysis.published["interval.json"]
    every = np.concatenate([part.numbers("größe") for part in _tables(answer.analysis.config)])
    ends = np.quantile(every[~np.isnan(every)], [0.025, 0.975], method="inverted_cdf")
    for told, truth in zip((shown["from"], shown["to"]), ends, strict=True):
        if abs(told - truth) > shown["error"] + 0.1:
            yield f"an end of the interval is {told}, of all rows {truth}"


def _vertical(answer: Answer, made: Consortium, runs: Path) -> Faults:
    """statsmodels' coefficients of all rows, which all parties have."""
    assert answer.analysis is not None
    options = answer.question.asked
    if options["model"] == "cox" or options.get("ridge"):
        return  # of pieces of time, and of a penalty: tests/common/vertical
    told = answer.analysis.published["vertical.json"]
    lines = list(csv.DictReader(io.StringIO((made.folder / "persons.csv").read_text("utf-8"))))
    outcome = {"logistic": "smoker", "poisson": "days"}.get(options["model"], "größe")
    found = {one["column"]: one for one in told["coefficients"]}
    columns = [name for name in found if name not in ("intercept", "(intercept)", "Intercept")]
    lines = [line for line in lines if line[outcome]]  # without one a person doesn't count
    x = np.column_stack([_column(lines, name) for name in columns])
    y = np.array([float(line[outcome]) for line in lines])
    fit = sm.GLM(y, sm.add_constant(x), family=FAMILIES[options["model"]]).fit()
    for place, name in enumerate(columns, start=1):
        gap = abs(found[name]["coefficient"] - fit.params[place])
        if gap > max(_ONE_COEFFICIENT, options.get("tolerance", 0.01)) * fit.bse[place]:
            yield f"{name}: {found[name]['coefficient']:.6g}, statsmodels {fit.params[place]:.6g}"


def _column(lines: list[dict[str, str]], name: str) -> NDArray[np.float64]:
    column, _, level = name.partition("=")
    if level:
        return np.array([float(line[column] == level) for line in lines])
    return np.array([float(line[column]) for line in lines])


JUDGES: dict[str, Callable[[Answer, Consortium, Path], Faults]] = {
    "describe": _describe,
    "trees": _trees,
    "own": _own,
    "vertical": _vertical,
}
