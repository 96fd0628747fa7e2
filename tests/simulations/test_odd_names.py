"""Hospitals whose files are called as people call them; a fault is told by name and file, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wardround.common.run.directory import RunDirectory
from wardround.server.observer import Observer
from wardround.simulations import simulate

CONFIG = """
[federation]
rounds = 4
[data]
path = "h"
[task.columns]
numeric = ["x"]
target = "y"
"""
FILES = ("St. Mary's", "a b #1", "Köln", "north ward", "mean", "1001")


class Kept(Observer):
    """The refusals that were told."""

    def __init__(self) -> None:
        self.told: list[dict[str, str]] = []

    def members(self, members: list[Any], refused: list[dict[str, str]]) -> None:
        self.told += refused


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "h").mkdir()
    for number, name in enumerate(FILES):
        rows = [f"{(i * 7 + number) % 10},{i % 2}" for i in range(20)]
        (tmp_path / "h" / f"{name}.csv").write_text("\n".join(["x,y", *rows]) + "\n")
    (tmp_path / "federation.toml").write_text(CONFIG)
    return tmp_path / "federation.toml"


def test_every_file_is_a_hospital_and_is_shown_as_it_is_called(place: Path) -> None:
    result = simulate(place, overrides=["secure_aggregation.enabled=false"])
    shown = {row["title"]: row["hospital"] for row in result.comparison[:-2]}
    assert sorted(shown) == sorted(FILES)
    assert shown["Köln"] == "Koln" and shown["1001"] == "1001" and shown["mean"] != "mean"
    assert result.figure("auc", "St. Mary's") == result.figure("auc", "St.-Mary-s")
    assert all(row["accepted"] == sorted(shown.values()) for row in result.rounds)
    page = (result.run_directory / "report.html").read_text()
    for name in ("St. Mary&#39;s", "a b #1", "Köln", "north ward"):
        assert f'<th scope="row">{name}</th>' in page


def test_a_hospital_that_can_not_take_part_is_named_once_with_its_file(place: Path) -> None:
    (place.parent / "h" / "a b #1.csv").write_text("z,y\n1,1\n")
    kept = Kept()
    result = simulate(place, observer=kept, overrides=["simulation.baselines=false"])
    (told,) = kept.told  # though it is asked again in later rounds
    assert told["hospital"] == "a-b-1"
    assert "a b #1.csv: there is no column 'x'" in told["reason"]
    assert "a-b-1" not in told["reason"] and "node" not in told["reason"]
    assert RunDirectory.open(result.run_directory).summary()["absent"] == [told]
    page = (result.run_directory / "report.html").read_text()
    assert page.count("there is no column &#39;x&#39;") == 1
