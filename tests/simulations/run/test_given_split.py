"""Hospitals whose data say which rows train, validate and test: no setting tells of that split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wardround.common.errors import ConfigError
from wardround.server.members.member import Member
from wardround.server.observer import Observer
from wardround.simulations import simulate
from wardround.simulations.search.space import Range
from wardround.simulations.search.tune import tune


def given(folder: Path, parts: tuple[str, ...] = ("train", "validation", "test")) -> list[str]:
    """Three hospitals of 30 rows with a split column; the settings that read them."""
    generator = np.random.default_rng(5)
    (folder / "data").mkdir()
    for name in ("north", "south", "west"):
        values = generator.normal(size=30)
        labels = (values + generator.normal(size=30) > 0).astype(int)
        lines = [
            f"{x:.3f},{y},{parts[row % len(parts)]}"
            for row, (x, y) in enumerate(zip(values, labels, strict=True))
        ]
        (folder / "data" / f"{name}.csv").write_text("\n".join(["x,y,part", *lines]) + "\n")
    return [
        f'federation.runs="{folder / "runs"}"',
        f'data.path="{folder / "data"}"',
        "task.columns={target='y', split='part'}",
        "federation.rounds=3",
        "training.lr=0.5",
        "secure_aggregation.enabled=false",
        "simulation.baselines=false",
    ]


@pytest.mark.parametrize("choose", ["select=best", "patience=1"])
def test_validation_rows_of_the_data_choose(tmp_path: Path, choose: str) -> None:
    result = simulate(overrides=[*given(tmp_path), f"evaluation.{choose}"])
    figures = [row["overall"]["validation"]["auc"] for row in result.rounds]
    assert len(figures) >= 2 and all(0 <= value <= 1 for value in figures)


def test_data_without_validation_rows_choose_nothing(tmp_path: Path) -> None:
    sets = [*given(tmp_path, ("train", "test")), "evaluation.select=best"]
    with pytest.raises(ConfigError, match="evaluation.select: chooses by validation rows"):
        simulate(overrides=sets)


class Said(Observer):
    """What a run tells at its beginning, and of its hospitals."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begins(self, lines: list[str]) -> None:
        self.lines += lines

    def members(self, members: list[Member], refused: list[dict[str, str]]) -> None:
        self.lines += [line for one in members for line in one.warnings]


def test_what_has_no_effect_on_such_data_is_told(tmp_path: Path) -> None:
    fractions, said = "data.test_fraction and data.validation_fraction have no effect", Said()
    more = ["data.test_fraction=0.4", "data.validation_fraction=0.2", "training.processes=2"]
    simulate(overrides=[*given(tmp_path), "federation.rounds=1", *more], observer=said)
    assert sum(fractions in line for line in said.lines) == 3
    assert sum("training.processes has no effect in a sim" in line for line in said.lines) == 1


def test_nothing_is_said_where_the_fractions_are_the_defaults(tmp_path: Path) -> None:
    said = Said()
    simulate(overrides=[*given(tmp_path), "federation.rounds=1"], observer=said)
    assert not any("no effect" in line for line in said.lines)


def test_a_search_is_scored_by_them(tmp_path: Path) -> None:
    result = tune(None, {"training.lr": Range(low=0.1, high=0.5)}, 1, overrides=given(tmp_path))
    assert result.best.score is not None
