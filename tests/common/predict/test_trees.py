"""Finished trees predict rows of a file, a frame, a dict: what xgboost predicts of them."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import xgboost

from tests.tree_hospitals import agreed_bins, grown
from wardround.common.errors import DataError, ModelRefused
from wardround.common.predict.trees import TreePredictor, load_trees
from wardround.common.process import main as cli
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.options import TabularOptions
from wardround.common.trees.features import Feature, Floats32
from wardround.common.trees.objectives import Binary, Multi, Objective
from wardround.common.trees.plan import Growth
from wardround.common.trees.table import matrix_of, told_of
from wardround.common.trees.xgboost_file import text_of

DRAWS = np.random.default_rng(4)
AGE = DRAWS.normal(60, 12, 200)
ROWS = {
    "age": [None if row == 3 else round(float(age), 2) for row, age in enumerate(AGE)],
    "ward [unit]": [("a", "b", "c", "elsewhere")[row % 4] for row in range(200)],
    "smoker": ["yes" if row % 3 else "no" for row in range(200)],
}
OPTIONS = TabularOptions(
    columns={
        "numeric": ["age"],
        "categorical": ["ward [unit]", "unshared"],
        "binary": ["smoker"],
        "positive": {"smoker": ["yes"]},
        "negative": {"smoker": ["no"]},
        "target": "died",
    }
)
FEATURES = (Feature("age"), Feature("smoker"), Feature("ward [unit]", ("a", "b", "c")))


def matrix() -> Floats32:
    return matrix_of(Table.of(ROWS, Path("rows")), FEATURES, OPTIONS)


def written(
    folder: Path, objective: Objective, options: TabularOptions, classes: list[str]
) -> Path:
    rows, target = matrix(), (AGE > 60).astype(float)
    bins = agreed_bins([rows], FEATURES, 16, 5)
    model = grown(bins, objective, [rows], [target], Growth(max_depth=3), 4)
    path = folder / "model.json"
    path.write_text(text_of(model, told_of(options, classes)), "utf-8")
    return path


@pytest.fixture
def model(tmp_path: Path) -> TreePredictor:
    return load_trees(written(tmp_path, Binary(0.4), OPTIONS, []))


def test_rows_are_read_as_in_the_study_and_predicted_as_xgboost_does(model: TreePredictor) -> None:
    rows = matrix()
    assert np.isnan(rows[3, 0]) and np.isnan(rows[3, 2]) and rows[:4, 1].tolist() == [0, 1, 1, 0]
    found = model.predict(ROWS)
    booster = xgboost.Booster(model_file=str(model.path))
    theirs = xgboost.DMatrix(
        rows, feature_names=["age", "smoker", "ward (unit)"], feature_types=["float", "float", "c"]
    )
    np.testing.assert_allclose(found["probability"], booster.predict(theirs), atol=1e-6)
    assert [one.name for one in model.schema.inputs] == ["age", "smoker", "ward [unit]"]
    assert "better one" in model.schema.inputs[0].gap
    with pytest.raises(DataError, match="'age'"):
        model.predict({"smoker": ["yes"], "ward [unit]": ["a"]})


def test_the_command_reads_a_file_of_trees_and_writes_a_table(
    model: TreePredictor,
    tmp_path: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (tmp_path / "rows.csv").open("w") as file:
        lines = csv.writer(file)
        lines.writerow(ROWS)
        lines.writerows(zip(*ROWS.values(), strict=True))
    command = ["wardround", "predict", str(tmp_path), "--data", str(tmp_path / "rows.csv")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    table = list(csv.DictReader(io.StringIO(capsysbinary.readouterr().out.decode())))
    ours = model.predict(ROWS)["probability"]
    np.testing.assert_allclose([float(one["probability"]) for one in table], ours, rtol=1e-6)
    monkeypatch.setattr(sys, "argv", [*command, "--hospital", "north"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code and b"--hospital" in capsysbinary.readouterr().err


def test_classes_have_their_names(tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"kind": "multiclass"})
    found = load_trees(written(tmp_path, Multi(2), options, ["alive", "dead"])).predict(ROWS)
    assert list(found.columns) == ["row", "probability_alive", "probability_dead"]
    np.testing.assert_allclose(found["probability_alive"] + found["probability_dead"], 1, rtol=1e-6)


def test_files_that_say_too_little_or_another_thing_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, Binary(0.4), OPTIONS.model_copy(update={"kind": "regression"}), [])
    with pytest.raises(ModelRefused, match="something else than its study"):
        load_trees(path)
    stored = json.loads(path.read_text("utf-8"))
    del stored["learner"]["attributes"]["wardround"]
    path.write_text(json.dumps(stored), "utf-8")
    with pytest.raises(ModelRefused, match=r"how its study reads a table; predict with xgboost"):
        load_trees(tmp_path)
