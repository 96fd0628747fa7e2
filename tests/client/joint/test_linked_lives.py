"""Two hospitals' processes and a server link their persons, whoever of them is killed when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.client.process.lives import Lives
from wardround.client.links.kept import Kept
from wardround.client.site.held_out import held_out_key
from wardround.client.site.opted_out import patients_key
from wardround.client.site.policy import load_site
from wardround.client.site.trained import Trained
from wardround.common.config.load import load_config
from wardround.common.config.task import make_task
from wardround.common.durable.records import DurableState
from wardround.common.errors import NobodyContributed, WardroundError
from wardround.common.tasks.linked import LinkedTask
from wardround.server.joint import driver

SETTINGS = """
[federation]
name = "places"
[task]
name = "linked"
[task.identifiers]
person = "exact"
[task.parties.lab]
numeric = ["crp"]
[task.parties.ward]
numeric = ["age"]
[procedure]
name = "linkage"
smallest = 3
padded = 16
[server]
hospitals = ["lab", "ward"]
"""
SITE = 'procedures = ["linkage"]\nsmallest_link = 3\n'
BOTH = {f"p{number}" for number in range(20, 33)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A laboratory with 33 persons and a ward with 40, 13 of them the same; other orders."""
    (tmp_path / "data").mkdir()
    generator = np.random.default_rng(3)
    for name, column, persons in (("lab", "crp", range(33)), ("ward", "age", range(20, 60))):
        rows = [
            f"p{n},{(7 * n) % (29 if name == 'lab' else 23)}.5"
            for n in generator.permutation(list(persons))
        ]
        (tmp_path / "data" / f"{name}.csv").write_text("\n".join([f"person,{column}", *rows, ""]))
    (tmp_path / "federation.toml").write_text(SETTINGS)
    return tmp_path


class Killed(Exception):
    """What ends a server in the middle."""


@pytest.fixture
def lives(folder: Path) -> Iterator[Lives]:
    found = Lives(folder / "federation.toml", SITE)
    yield found
    found.close()


def told(run: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / "linkage.json").read_text())
    return found


def linked(lives: Lives, folder: Path, name: str) -> list[str]:
    """The persons of a hospital's link, in its order."""
    rows = (folder / "data" / f"{name}.csv").read_text().split()[1:]
    persons = [row.partition(",")[0] for row in rows]
    kept = Kept(lives.processes[name].kit.state / "links")
    record = kept.find("places")
    assert record is not None
    keys = (
        make_task(load_config(folder / "federation.toml"))
        .load(folder / "data" / f"{name}.csv")
        .keys
    )
    return [persons[row] for row in kept.places(record, keys)]


def test_a_linkage_of_two_processes_gives_both_the_same_order(lives: Lives, folder: Path) -> None:
    run = lives.begin()
    lives.go(run)
    assert told(run.path)["linked_at_least"] == 12  # of 13, rounded down to threes
    lab, ward = linked(lives, folder, "lab"), linked(lives, folder, "ward")
    assert lab == ward and set(lab) == BOTH and len(lab) == len(BOTH)
    sizes = json.loads((run.path / "run.json").read_text())
    assert "33" not in json.dumps(sizes["hospitals"])


@pytest.mark.parametrize("who", ["server", "lab", "ward"])
def test_whoever_is_killed_between_two_steps_goes_on(
    who: str, lives: Lives, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying(DurableState):
        """A server's state, of a process that is killed as soon as it has saved it."""

        def save(self) -> None:
            super().save()
            raise Killed

    monkeypatch.setattr(driver, "DurableState", Dying)
    run = lives.begin()
    for _ in range(20):
        try:
            lives.go(run)
            break
        except Killed:
            if who != "server":
                lives.again(who)
    else:
        raise AssertionError("it never ends")
    assert told(run.path)["linked_at_least"] == 12
    assert linked(lives, folder, "lab") == linked(lives, folder, "ward")


def test_a_list_that_is_too_short_ends_it_for_all(folder: Path) -> None:
    text = SETTINGS.replace("smallest = 3", "smallest = 14")
    (folder / "federation.toml").write_text(text)
    lives = Lives(folder / "federation.toml", SITE)
    run = lives.begin()
    with pytest.raises(NobodyContributed) as found:
        lives.go(run)
    lives.close()
    assert "13" not in str(found.value) and not (run.path / "linkage.json").exists()


def test_whose_rows_were_computed_with_is_known_at_home(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model on a link the linked persons, and none of the hospital's others."""
    monkeypatch.setattr(LinkedTask, "people", lambda self, raw: np.arange(len(raw)).astype(str))
    file, site = folder / "federation.toml", SITE.replace('"linkage"', '"linkage", "vertical"')
    lives = Lives(file, site)
    lives.go(lives.begin())
    linkage = SETTINGS[SETTINGS.index("[procedure]") : SETTINGS.index("[server]")]
    asked = '[procedure]\nname = "vertical"\nmodel = "linear"\nlink = "places"\npadded = 16\n'
    text = SETTINGS.replace(linkage, asked).replace('numeric = ["age"]', 'outcome = "age"')
    file.write_text(text)
    lives.go(lives.begin())
    kit = lives.processes["lab"].kit
    trained = Trained(kit.state, patients_key(held_out_key(load_site(kit.site_path), kit.folder)))
    (run,) = trained.runs()
    found = {row for row in range(33) if trained.rounds_with(run, str(row))}
    rows = (folder / "data" / "lab.csv").read_text().split()[1:]
    assert {rows[row].partition(",")[0] for row in found} == BOTH
    lives.close()


def test_rules_that_dont_allow_it_refuse_the_plan(lives: Lives) -> None:
    lives.site('procedures = ["train"]\n')
    with pytest.raises(WardroundError, match="procedures"):
        lives.go(lives.begin())
