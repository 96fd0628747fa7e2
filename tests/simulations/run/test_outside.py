"""A hospital that is left out trains nothing, is in no sum, and is where the model is tried."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from wardround.common.errors import ConfigError
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.process.main import app
from wardround.common.run.directory import RunDirectory
from wardround.simulations import simulate
from wardround.simulations.search.leave_one_out import FILE, one_by_one

TASK = """
federation.rounds = 2
federation.runs = "runs"
simulation.baselines = false
secure_aggregation.enabled = false
data.path = "data"
task.name = "tabular"
task.columns.target = "died"
"""
ROWS = {"north": 40, "south-east": 33, "west": 1, "east": 60}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("outside")
    (here / "data").mkdir()
    generator = np.random.default_rng(7)
    for number, (name, rows) in enumerate(ROWS.items()):
        x = generator.normal(size=(rows, 2)) * [1.0, 10.0**number]  # other scales
        died = (x[:, 0] + generator.normal(size=rows) > 0.3).astype(int)
        lines = [f"{a},{b},{c}" for (a, b), c in zip(x, died, strict=True)]
        (here / "data" / f"{name}.csv").write_text("\n".join(["age,crp,died", *lines]) + "\n")
    (here / "federation.toml").write_text(TASK)
    return here / "federation.toml"


def test_it_is_evaluated_on_all_rows_and_had_no_part(config: Path) -> None:
    result = simulate(config, overrides=['simulation.leave_out=["east"]'])
    (row,) = RunDirectory.open(result.run_directory).summary()["outside"]
    assert (row["hospital"], row["rows"], row["why"]) == ("east", 60, "")
    folder = ModelFolder.open(result.run_directory)
    raw = folder.task.load(config.parent / "data" / "east.csv")
    examples = folder.task.prepare(raw, folder.totals, raw)
    with torch.no_grad():
        scores = folder.module()(examples.inputs)[:, 0].double().numpy()
    wanted = roc_auc_score(examples.targets.numpy(), scores)
    assert abs(row["figures"]["auc"] - wanted) <= row["figures"]["auc_error_bound"] + 1e-9
    assert row["intervals"]["auc"][0] < wanted < row["intervals"]["auc"][1]
    assert folder.totals["rows"][0] < 74 * 0.9  # of the other three's training rows only
    assert all("east" not in one["cohort"] for one in result.rounds)


def test_an_unknown_one_is_named(config: Path) -> None:
    with pytest.raises(ConfigError, match="there is no hospital 'easst'; there are: east, north"):
        simulate(config, overrides=['simulation.leave_out=["easst"]'])


def test_each_is_left_out_in_turn(config: Path) -> None:
    assert one_by_one(config) == [["east"], ["north"], ["south-east"], ["west"]]
    done = CliRunner().invoke(app, ["simulate", str(config), "--leave-one-out"])
    assert done.exit_code == 0, done.output
    told = " ".join(done.output.split())
    assert "At west, which took no part, it was not evaluated: auc can't be had of its rows" in told
    for name, rows in (item for item in ROWS.items() if item[0] != "west"):
        assert re.search(rf"At {name}, which took no part: auc .*?, {rows} rows\.", told), told
    (table,) = config.parent.rglob(FILE)
    lines = table.read_text().splitlines()
    assert lines[0].startswith("hospital,seed,rows,accuracy") and len(lines) == 5
