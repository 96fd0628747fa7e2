"""One hospital with other columns than the rest: told by its name, and nobody else is stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wardround.common.durable.tensors import read_tensors
from wardround.common.errors import DataError
from wardround.common.run.directory import RunDirectory
from wardround.server.observer import Observer
from wardround.simulations import simulate

TEXT = """
[federation]
rounds = 1
min_clients = {needed}
[data]
path = "data"
[task.columns]
target = "y"
[simulation]
baselines = false
[secure_aggregation]
{secure}
"""


class Told(Observer):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warnings(self, lines: list[str]) -> None:
        self.lines += lines


def federate(folder: Path, headers: dict[str, str], masked: bool, needed: int = 3) -> Told:
    """A run over hospitals with these columns, all of numbers."""
    data = folder / "data"
    data.mkdir()
    for number, (name, header) in enumerate(headers.items()):
        generator = np.random.default_rng(number)
        columns = header.split(",")
        rows = [
            ",".join(f"{v:.3f}" for v in generator.normal(size=len(columns))) + f",{row % 2}"
            for row in range(20)
        ]
        (data / f"{name}.csv").write_text("\n".join([f"{header},y", *rows]) + "\n")
    path = folder / "federation.toml"
    secure = "enabled = true\nmin_cohort = 2" if masked else "enabled = false"
    path.write_text(TEXT.format(needed=needed, secure=secure))
    told = Told()
    told.result = simulate(path, observer=told)  # type: ignore[attr-defined]
    return told


@pytest.mark.parametrize("masked", [False, True])
def test_one_more_column_is_named_and_not_used(tmp_path: Path, masked: bool) -> None:
    told = federate(tmp_path, {"a": "x,z", "b": "x,z", "c": "x,z,only_here"}, masked)
    notes = [line for line in told.lines if "only_here" in line]
    assert notes and notes[0].startswith("column 'only_here' is not used: 1 of 3 hospitals have it")
    run = RunDirectory.open(told.result.run_directory)  # type: ignore[attr-defined]
    assert run.rounds()[0]["accepted"] == ["a", "b", "c"] and not run.rounds()[0]["refused"]
    totals, _ = read_tensors(run.model / "preparation.safetensors")
    assert not [key for key in totals if "only_here" in key]  # one hospital's mean stays there
    assert "numeric/z/mean" in totals


@pytest.mark.parametrize("masked", [False, True])
def test_who_lacks_a_column_is_left_out_by_name_and_the_others_go_on(tmp_path, masked) -> None:
    headers = {"a": "x,age", "b": "x,age", "c": "x,Age", "d": "x,age"}
    told = federate(tmp_path, headers, masked)
    (line,) = [line for line in told.lines if "takes no part" in line]
    assert line.startswith("c takes no part: there is no column 'age', which 3 of 4 hospitals have")
    assert "it has 'Age'" in line and "task.columns.ignore" in line
    run = RunDirectory.open(told.result.run_directory)  # type: ignore[attr-defined]
    assert run.rounds()[0]["accepted"] == ["a", "b", "d"]
    assert [row["hospital"] for row in run.summary()["hospitals"]] == ["a", "b", "d"]
    assert "c took no part" in run.report.read_text("utf-8")


@pytest.mark.parametrize("masked", [False, True])
def test_too_few_left_is_said_once_by_name(tmp_path: Path, masked: bool) -> None:
    with pytest.raises(DataError, match="^c: there is no column 'z'.*2 hospitals are left, of 3"):
        federate(tmp_path, {"a": "x,z", "b": "x,z", "c": "x"}, masked)


def test_of_two_that_differ_the_common_columns_are_used(tmp_path: Path) -> None:
    told = federate(tmp_path, {"a": "x,z", "b": "x,w"}, masked=True, needed=2)
    run = RunDirectory.open(told.result.run_directory)  # type: ignore[attr-defined]
    totals, _ = read_tensors(run.model / "preparation.safetensors")
    assert [key for key in totals if key.startswith("numeric/")][0].startswith("numeric/x/")
    assert sum("is not used: 1 of 2" in line for line in told.lines) == 2
