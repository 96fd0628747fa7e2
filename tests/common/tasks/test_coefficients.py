"""T2: what a linear model's weights stand for, in the columns' own units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from tests.unlike.base import write_csv
from wardround.common.durable.tensors import read_tensors
from wardround.common.tasks.coefficients import (
    FILE,
    INTERCEPT,
    Coefficient,
    coefficients,
    coefficients_csv,
    coefficients_in,
)
from wardround.common.tasks.tabular import TabularTask
from wardround.simulations import simulate

TEXT = """
[federation]
name = "weights"
rounds = {rounds}
[data]
path = "hospitals"
[task]
kind = "{kind}"
[task.columns]
target = "y"
numeric = ["pgr", "age", "flat"]
categorical = ["sex"]
[training]
lr = {lr}
batch_size = 1000
[simulation]
baselines = false
"""


def hospitals(folder: Path, kind: str) -> None:
    """Unlike in sizes and means; a column that is constant, one of large numbers, a category."""
    for number, count in enumerate((40, 90, 60)):
        draw, rows = np.random.default_rng(number), []
        for _ in range(count):
            pgr, age, sex = draw.normal(300, 80), draw.normal(60 + number, 9), draw.integers(2)
            line = 0.01 * pgr - 0.1 * age + 2.0 * sex
            y = 1000 * line if kind == "regression" else int(draw.random() < 0.4)
            label = {"multiclass": "xyz"[int(draw.integers(3))]}.get(kind, y)
            rows.append([f"{pgr:.6f}", f"{age:.6f}", 7, "mf"[sex], label])
        write_csv(folder / "hospitals" / f"h{number}.csv", ["pgr", "age", "flat", "sex", "y"], rows)


def run(folder: Path, kind: str, rounds: int = 2, lr: float = 0.1) -> Path:
    hospitals(folder, kind)
    (folder / "federation.toml").write_text(TEXT.format(kind=kind, rounds=rounds, lr=lr))
    override = [f"federation.runs={folder / 'runs'}"]
    return simulate(folder / "federation.toml", overrides=override).run_directory


def test_a_line_is_found_in_its_columns_units(tmp_path: Path) -> None:
    """y = 10 pgr - 100 age + 2,000 sex: exactly linear, so a model that fits it has these numbers,
    whatever its inputs were standardised by."""
    found = {one.input: one for one in coefficients_in(run(tmp_path, "regression", 60) / "model")}
    assert list(found) == ["age", "flat", "pgr", "sex=f", "sex=m", INTERCEPT]
    assert found["pgr"].per_unit == pytest.approx(10, rel=0.02)
    assert found["age"].per_unit == pytest.approx(-100, rel=0.02)
    assert found["flat"].per_unit == 0
    step = found["sex=f"].per_unit - found["sex=m"].per_unit
    assert step == pytest.approx(2000, rel=0.02)
    deviation = found["pgr"].deviation
    assert deviation == pytest.approx(80, rel=0.1)
    assert found["pgr"].per_deviation == pytest.approx(10 * (deviation or 0), rel=0.02)
    assert found["sex=f"].deviation is None


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_rows_scores_are_those_of_the_table(tmp_path: Path, kind: str) -> None:
    """Of any row, the sum of its cells times the coefficients is the model's score; the weights'
    names are in the file, in the same order, and on the page."""
    path = run(tmp_path, kind)
    arrays, state = read_tensors(path / "model" / "model.safetensors")
    assert state["inputs"] == ["age", "flat", "pgr", "sex=f", "sex=m"]
    with safe_open(path / "model" / "model.safetensors", "np") as file:
        assert "pgr" in file.metadata()["wardround"]
    found = coefficients_in(path / "model")
    outputs = list(dict.fromkeys(one.output for one in found))
    assert outputs == (["x", "y", "z"] if kind == "multiclass" else [""])
    totals = read_tensors(path / "model" / "preparation.safetensors")[0]
    row = {"age": 44.0, "flat": 7.0, "pgr": 410.0, "sex=f": 1.0, "sex=m": 0.0, INTERCEPT: 1.0}
    scaled = [
        (row[name] - totals[f"numeric/{name}/mean"][0]) / (totals[f"numeric/{name}/std"][0] or 1.0)
        for name in ("age", "flat", "pgr")
    ]
    scores = arrays["weight"] @ np.array([*scaled, 1.0, 0.0]) + arrays["bias"]
    for output, score in zip(outputs, scores, strict=True):
        own = sum(one.per_unit * row[one.input] for one in found if one.output == output)
        assert own == pytest.approx(float(score), abs=1e-5)
    page = (path / "report.html").read_text("utf-8")
    assert "What each input weighs" in page and '<th scope="row">pgr' in page


def test_none_of_several_layers(tmp_path: Path) -> None:
    hospitals(tmp_path, "binary")
    (tmp_path / "federation.toml").write_text(TEXT.format(kind="binary", rounds=1, lr=0.1))
    override = [f"federation.runs={tmp_path / 'runs'}", "task.model.kind=mlp"]
    path = simulate(tmp_path / "federation.toml", overrides=override).run_directory
    assert not (path / "model" / FILE).exists()
    assert read_tensors(path / "model" / "model.safetensors")[1]["inputs"][0] == "age"


def test_columns_that_nobody_scales_and_whose_medians_nobody_agrees_on() -> None:
    """With ``normalise = "none"`` a gap is filled by each hospital's own median: a run of such a
    model ended with a traceback in place of its table."""
    task = TabularTask(columns={"target": "y", "binary": ["smoker"]}, normalise="none")
    totals = {"rows": np.array([9.0]), "numeric/age/count": np.array([9.0])}
    arrays = {"weight": np.array([[0.5, -2.0]]), "bias": np.array([1.0])}
    assert [
        (one.input, one.per_unit, one.deviation) for one in task.coefficients(arrays, totals)
    ] == [
        ("age", 0.5, None),
        ("smoker", -2.0, None),
        (INTERCEPT, 1.0, None),
    ]


def test_no_table_where_each_hospital_has_a_scale_of_its_own() -> None:
    """One weight then stands for another change of the column at each hospital: no unit fits."""
    totals = {
        "rows": np.array([9.0]),
        "numeric/age/count": np.array([9.0]),
        "numeric/age/mean": np.array([60.0]),
        "numeric/age/std": np.array([10.0]),
    }
    arrays = {"weight": np.array([[0.5]]), "bias": np.array([1.0])}
    found = {
        how: TabularTask(columns={"target": "y"}, normalise=how).coefficients(arrays, totals)
        for how in ("none", "local")
    }
    assert [one.per_unit for one in found["none"]] == [0.5, 1.0]
    assert found["local"] == []


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Names with commas, quotes and line ends, as columns may have."""
    names = ['a,"b"', "x\ny", "größe [cm]"]
    arrays = {"weight": np.array([[0.5, -2.0, 3.0]]), "bias": np.array([1.0])}
    scales = np.array([1.0, 2.0, 0.0]), np.array([4.0, 0.5, 1.0])
    found = coefficients(arrays, names, [""], scales, (10.0, 2.0), {"größe [cm]": "cm"})
    assert found == [
        Coefficient("", names[0], "", 0.25, 1.0, 4.0),
        Coefficient("", names[1], "", -8.0, -4.0, 0.5),
        Coefficient("", names[2], "cm", 6.0, None, None),
        Coefficient("", INTERCEPT, "", 27.75, None, None),
    ]
    (tmp_path / FILE).write_text(coefficients_csv(found), "utf-8")
    assert coefficients_in(tmp_path) == found
    (tmp_path / FILE).write_text("input,weight\na,1\n")
    assert coefficients_in(tmp_path) == [] and coefficients_in(tmp_path / "nowhere") == []
