"""The final table holds what can be compared; what can't be made costs its cell, never the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wardround.common.run.directory import RunDirectory
from wardround.simulations import simulate

CONFIG = """
[federation]
rounds = 2
min_clients = 3
[secure_aggregation]
enabled = {masked}
[data]
path = "h"
[task]
kind = "multiclass"
{options}
[task.columns]
numeric = ["x"]
target = "y"
{columns}
"""


def files(folder: Path, rows: dict[str, list[str]], header: str) -> None:
    (folder / "h").mkdir()
    for name, lines in rows.items():
        (folder / "h" / f"{name}.csv").write_text("\n".join([header, *lines]) + "\n")


def federation(folder: Path, masked: bool, options: str = "", columns: str = "") -> Path:
    text = CONFIG.format(masked=str(masked).lower(), options=options, columns=columns)
    (folder / "federation.toml").write_text(text)
    return folder / "federation.toml"


def cells(result: Any, hospital: str) -> dict[str, Any]:
    return next(row for row in result.comparison if row["hospital"] == hospital)


@pytest.mark.parametrize("masked", [True, False])
def test_a_class_that_one_hospital_has_alone(tmp_path: Path, masked: bool) -> None:
    """Classes are the federation's in every model, also in one that never sees a third."""
    generator = np.random.default_rng(1)
    rows = {}
    for name, classes in (("north", "ab"), ("south", "ab"), ("west", "abc")):
        x = generator.normal(size=60)
        rows[name] = [f"{v:.3f},{classes[i % len(classes)]}" for i, v in enumerate(x)]
    files(tmp_path, rows, "x,y")
    result = simulate(federation(tmp_path, masked))
    for row in result.comparison:
        assert set(row["local"]) == set(row["federated"]) == set(row["pooled"])
    assert "comparison_notes" in RunDirectory.open(result.run_directory).summary()
    assert RunDirectory.open(result.run_directory).summary()["comparison_notes"] == []


@pytest.mark.parametrize("masked", [True, False])
def test_a_hospital_that_is_refused_in_every_round(tmp_path: Path, masked: bool) -> None:
    """One undeclared category: the others are compared, at the first time and at a resume."""
    generator = np.random.default_rng(1)
    rows = {}
    for name in ("east", "north", "south", "west"):
        x = generator.normal(size=40)
        wards = ["icu" if i % 2 else "er" for i in range(40)]
        if name == "east":
            wards = ["morgue", *wards[1:]]
        lines = zip(x, wards, strict=True)
        rows[name] = [f"{v:.3f},{'ab'[int(v > 0)]},{ward}" for v, ward in lines]
    files(tmp_path, rows, "x,y,ward")
    columns = 'categorical = ["ward"]\n[task.columns.categories]\nward = ["icu", "er"]'
    result = simulate(federation(tmp_path, masked, 'classes = ["a", "b"]', columns))
    for again in (result, simulate(resume=result.run_directory)):
        assert [row["hospital"] for row in again.comparison[:3]] == ["north", "south", "west"]
        for row in again.comparison:
            for kind in ("local", "federated", "pooled"):
                assert row[kind]["accuracy"] > 0
        assert "status: complete" in _status(again)


def _status(result: Any) -> str:
    return f"status: {RunDirectory.open(result.run_directory).summary()['status']}"


def test_a_baseline_that_fails_costs_its_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {
        name: [f"{i % 7},{'ab'[i % 2]}" for i in range(20)] for name in ("north", "south", "west")
    }
    files(tmp_path, rows, "x,y")

    def no_memory(*args: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("wardround.common.tasks.tabular.TabularTask.join", no_memory)
    result = simulate(federation(tmp_path, False))
    for row in result.comparison:
        assert row["pooled"] == {}
        assert row["federated"]["accuracy"] >= 0 and row["local"]["accuracy"] >= 0
    notes = RunDirectory.open(result.run_directory).summary()["comparison_notes"]
    assert len(notes) == 1 and notes[0].startswith("no pooled model (MemoryError at ")
    assert notes[0].replace("no", "No", 1) in (result.run_directory / "report.html").read_text()
