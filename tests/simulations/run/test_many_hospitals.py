"""Thousands of hospitals: what is told of their data, and how far reading them has come."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.tasks.data.table import Table
from wardround.server.observer import Observer
from wardround.simulations.population import hospitals
from wardround.simulations.population.hospitals import Population
from wardround.simulations.run.simulate import simulate

CLIENTS = 60
TEXT = (
    f"[simulation]\nclients = {CLIENTS}\npartition = 'iid'\nbaselines = false\n"
    "min_examples = 1\nmasks = 'emulated'\nexecutor = 'sequential'\n"
)


def population() -> Population:
    config = parse_config(TEXT)
    return Population(config, make_task(config))


def test_rows_are_dealt_and_held_out_as_of_a_table_that_wasnt_made_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What saves time is no part of what is made: a hospital's parts, rows and lines."""
    ready = population()
    lines = ready.warnings()
    monkeypatch.setattr(Table, "many_selections", lambda self: self)
    plain = population()
    assert lines == plain.warnings() and lines
    for name in ready.names:
        one, other = ready.hospital(name).parts(), plain.hospital(name).parts()
        assert {k: v.origin.tolist() for k, v in one.items()} == {
            k: v.origin.tolist() for k, v in other.items()
        }
        assert all(v.data.equals(other[k].data) for k, v in one.items())
        assert all(v.keys.tolist() == other[k].keys.tolist() for k, v in one.items())


def test_how_far_reading_has_come_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hospitals, "_TOLD_EVERY", 20)
    told: list[str] = []
    population().warnings(told.append)
    assert told == [f"reading data: {n} of {CLIENTS} hospitals" for n in (20, 40)]


def test_what_is_said_of_many_is_told_once_and_kept_of_each(tmp_path: Path) -> None:
    told: list[str] = []

    class Listening(Observer):
        def warnings(self, lines: list[str]) -> None:
            told.extend(lines)

    text = f"[federation]\nruns = '{tmp_path}'\nrounds = 1\nclients_per_round = 5\n"
    text += f"{TEXT}[evaluation]\nclients = 5\n"
    result = simulate(parse_config(text), observer=Listening())
    kept = json.loads((result.run_directory / "run.json").read_text("utf-8"))["warnings"]
    said = Counter(line.partition(": ")[2] for line in kept)
    assert len(kept) == sum(said.values()) > 20
    for text, count in said.items():
        (line,) = [line for line in told if line.endswith(f": {text}")]
        names = line.removesuffix(f": {text}")
        more = names.partition(" and ")[2]
        assert names.count("hospital-") + int(more.partition(" ")[0] or 0) == count
