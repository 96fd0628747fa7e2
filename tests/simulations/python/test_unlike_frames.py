"""Frames as they come: few rows, a class that one lacks, odd types, mistakes by argument."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tests.simulations.python.frames import hospitals, patients
from wardround.common.errors import ConfigError, DataError, WardroundError
from wardround.simulations import simulate
from wardround.simulations.given.forms import given_data

SHORT = {"federation.rounds": 2, "simulation.baselines": False}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_hospital_of_one_row_and_one_that_lacks_a_class_take_part() -> None:
    frames = hospitals() | {"tiny": patients(1, 7), "alive": patients(40, 8).assign(died=0)}
    result = simulate(data=frames, target="died", overrides=SHORT)
    assert {"tiny", "alive"} <= set(result.rounds[-1]["accepted"])
    assert np.isfinite(result.predict(frames["tiny"])["probability"]).all()


def test_gaps_are_gaps_whatever_marks_them() -> None:
    """NaN, None, NaT, pandas' NA and an empty text are one; a model of them is one."""
    models = []
    for age, sex in ((np.nan, None), (None, ""), (pd.NA, pd.NA)):
        frames = hospitals()
        for frame in frames.values():
            frame["age"] = frame["age"].astype(
                object if age is None else "Float64" if age is pd.NA else float
            )
            frame["sex"] = frame["sex"].astype(object)
            frame.loc[3, "age"], frame.loc[5, "sex"] = age, sex
        models.append(simulate(data=frames, target="died", overrides=SHORT))
    bytes_of = {(one.run_directory / "model/model.safetensors").read_bytes() for one in models}
    assert len(bytes_of) == 1


def test_constant_columns_dates_and_what_no_table_has_are_left_out_and_told() -> None:
    frames = hospitals()
    for frame in frames.values():
        frame["same"], frame["lists"] = 1, [[1, 2]] * len(frame)
        frame["copy"] = frame["died"].map({0: "no", 1: "yes"})
    result = simulate(data=frames, target="died", overrides=SHORT)
    told = "\n".join(result.notes)
    for name, why in {
        "same": "same value",
        "lists": "list",
        "copy": "the target in other words",
        "admitted": "a date",
    }.items():
        assert name in told and why in told
    names = {one.name for one in result.predictor().schema.inputs}
    assert names == {"age", "creatinine [umol/L]", "sex", "smoker"}
    assert f"{len(result.notes)} notes" in repr(result)


def test_text_targets_and_numbers_come_back_in_their_own_words() -> None:
    frames = hospitals()
    for frame in frames.values():
        frame["outcome"] = frame.pop("died").map({0: "home", 1: "dead"})
    result = simulate(data=frames, target="outcome", positive="dead", overrides=SHORT)
    assert result.config.task.options["positive"] == ["dead"]
    costs = {
        name: frame.assign(
            costs=1e6 + 1e4 * frame["age"] + 1e3 * frame["creatinine [umol/L]"]
        ).drop(columns="outcome")
        for name, frame in frames.items()
    }
    result = simulate(
        data=costs,
        target="costs",
        overrides={"federation.rounds": 20, "simulation.baselines": False},
    )
    found = result.predict(costs["north"])["prediction"]
    assert np.corrcoef(found, costs["north"]["costs"])[0, 1] > 0.99 and 1.2e6 < found.mean() < 2.2e6


def test_all_columns_of_an_array_are_inputs() -> None:
    """A constant one, a number that counts the rows, and few whole numbers, too: no name says what
    they are."""
    draw = np.random.default_rng(0)
    data = {}
    for name, rows in (("north", 60), ("south", 50), ("west", 40)):
        x = np.column_stack(
            [draw.normal(size=rows), np.arange(rows), np.ones(rows), draw.integers(0, 3, rows)]
        )
        data[name] = (x, np.where(x[:, 0] + draw.normal(size=rows) > 0, "ill", "well"))
    result = simulate(data=data, positive="ill", overrides=SHORT)
    assert [one.name for one in result.predictor().schema.inputs] == ["x1", "x2", "x3", "x4"]
    assert len(result.predict(data["west"][0])) == 40
    with pytest.raises(DataError, match="needs at least 4 columns"):
        result.predict(data["west"][0][:, :2])


def test_lists_of_numbers_are_an_array_and_a_target_has_one_name() -> None:
    """Targets of which some are missing are floats, and no class by their type: whole numbers of
    another hospital are called the same."""
    draw = np.random.default_rng(7)
    x = draw.normal(size=(40, 3))
    y = (x[:, 0] + draw.normal(size=40) > 0).astype(int)
    array = given_data({"a": (x, y), "b": (x, y), "c": (x, y)})
    lists = given_data({"a": (x.tolist(), y.tolist()), "b": (x, y), "c": (x, y)})
    assert lists.digests() == array.digests() and lists.arrays == {"x1", "x2", "x3"}
    gaps = np.where(draw.random(40) < 0.2, np.nan, y)
    found = given_data({"a": (x, gaps), "b": (x, y)})
    names = {one.column_names[-1] for one in found.shards.values() if isinstance(one, pa.Table)}
    assert names == {"value"}


X, Y = np.zeros((4, 2)), np.zeros(4)
MISTAKES: dict[str, tuple[Any, str]] = {
    "empty": ({}, "an empty dict has no hospital"),
    "array": (X, "data: an array alone has no target; give a pair"),
    "shape": ({"a": (np.zeros((4, 2, 2)), Y)}, r"data\['a'\]: X has the shape \(4, 2, 2\); rows x"),
    "lengths": ({"a": (X, Y[:3])}, r"data\['a'\]: X has 4 rows and y 3"),
    "y": ({"a": (X, X)}, r"data\['a'\]: y is ndarray of shape \(4, 2\)"),
    "triple": ({"a": (X, Y, Y)}, r"data\['a'\]: a tuple of 3"),
    "mixed": ({"age": [1, 2], "b": {"age": [1]}}, "is a column and data"),
    "lists": ({"a": ([[1, 2], [3]], [0, 1])}, r"data\['a'\]: X is a list of what isn't numbers"),
    "texts in lists": ({"a": ([["1", "x"]], [0])}, "X is a list of what isn't numbers in rows"),
    "complex": ({"a": (X * 1j, Y)}, r"data\['a'\]: .*'x1': neither numbers, texts nor dates"),
    "number": (3, "rows of type int can't be read"),
    "texts": (["a", "b"], "data: a list of strs"),
    "no rows": ({"a": pd.DataFrame({"x": [], "died": []})}, r"data\['a'\]: there are no rows"),
    "twice": (pd.DataFrame([[1, 2]], columns=["x", "x"]), "stands twice"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_the_argument_and_its_mend(mistake: str) -> None:
    data, words = MISTAKES[mistake]
    with pytest.raises(WardroundError, match=words):
        given_data(data)


def test_options_of_the_command_are_told_as_arguments() -> None:
    frames = hospitals()
    with pytest.raises(ConfigError, match="^target: no hospital has a column 'dead'"):
        simulate(data=frames, target="dead")
    with pytest.raises(WardroundError, match="say which with target"):
        simulate(data={name: frame.rename(columns={"died": "w"}) for name, frame in frames.items()})
    with pytest.raises(ConfigError, match="target: goes with data"):
        simulate(target="died")
    with pytest.raises(ConfigError, match="^target: list is no name; give one column's"):
        simulate(data=frames, target=["died"])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="^positive: neither a text.*positive='1'"):
        simulate(data=frames, target="died", positive=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^overrides\['training.lr'\]: input should be a valid"):
        simulate(data=frames, target="died", overrides={"training.lr": "fast"})
    with pytest.raises(ConfigError, match=r"^overrides\['data.path'\]: has no effect beside"):
        simulate(data=frames, target="died", overrides={"data.path": "here"})
    with pytest.raises(ConfigError, match=r"simulation.partition'\]: 'iid' makes hospitals of one"):
        simulate(data=frames, target="died", overrides={"simulation.partition": "iid"})


def test_a_file_with_a_task_decides_and_one_without_is_put_over_what_was_decided() -> None:
    frames = hospitals()
    Path("own.toml").write_text('[task.columns]\ntarget = "died"\nnumeric = ["age"]\n')
    result = simulate("own.toml", data=frames, overrides=SHORT)
    assert [one.name for one in result.predictor().schema.inputs] == ["age"]
    with pytest.raises(ConfigError, match="task: says the target"):
        simulate("own.toml", data=frames, target="died")
    Path("rounds.toml").write_text("[federation]\nrounds = 1\n[training]\nlr = 0.25\n")
    result = simulate(
        "rounds.toml", data=frames, target="died", overrides={"simulation.baselines": False}
    )
    assert (len(result.rounds), result.config.training.lr) == (1, 0.25)
    assert result.config.training.batch_size == 16  # as was decided
