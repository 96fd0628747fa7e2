"""One file parted by columns: who has whom, and that a simulated linkage finds just these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wardround.client.links.kept import Kept
from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError
from wardround.simulations.population.hospitals import Population
from wardround.simulations.population.vertical import vertical_rows
from wardround.simulations.run.analyse import analyse

TEXT = """
[federation]
name = "same"
[task]
name = "linked"
[task.identifiers]
mrn = "exact"
[task.parties.lab]
numeric = ["crp"]
[task.parties.north]
numeric = ["age"]
outcome = "died"
[task.parties.west]
[procedure]
name = "linkage"
smallest = 10
padded = 1
[simulation]
vertical_overlap = {overlap}
"""


@pytest.fixture
def asked(tmp_path: Path) -> Config:
    return settings(tmp_path, 0.5)


def settings(folder: Path, overlap: float, rows: int = 40, more: str = "") -> Config:
    lines = [f"P{n:03d},{n % 7},{40 + n},{n % 2}" for n in range(rows)]
    (folder / "all.csv").write_text("\n".join(["mrn,crp,age,died", *lines]) + "\n")
    text = TEXT.format(overlap=overlap) + more
    return parse_config(text, ["data.path=all.csv"], path=folder / "federation.toml")


def test_each_party_has_the_common_persons_and_some_of_its_own_in_its_own_order(
    asked: Config,
) -> None:
    task = make_task(asked)
    pooled = task.load(asked.data_path())
    parts = vertical_rows(task, pooled, asked)
    assert list(parts) == ["lab", "north", "west"]
    common = set.intersection(*(set(rows.tolist()) for rows in parts.values()))
    own = [set(rows.tolist()) - common for rows in parts.values()]
    assert len(common) == 20 and [len(one) for one in own] == [7, 7, 6]
    assert set.union(common, *own) == set(range(40)) and not own[0] & own[1]
    orders = [[row for row in rows.tolist() if row in common] for rows in parts.values()]
    assert orders[0] != orders[1] != orders[2], "nobody learns an order from another's file"
    again = vertical_rows(task, pooled, asked)
    assert all(np.array_equal(parts[name], again[name]) for name in parts)


def test_a_hospital_has_its_own_columns_only(asked: Config) -> None:
    population = Population(asked, make_task(asked))
    lab, north = (population.hospital(name).parts()["train"] for name in ("lab", "north"))
    assert lab.columns == ("crp",) and north.columns == ("age",)
    assert (lab.own.outcome, north.own.outcome) == (None, "died")


def test_a_simulated_linkage_leaves_each_party_the_persons_that_all_have(asked: Config) -> None:
    found = analyse(asked)
    assert found.published["linkage.json"]["linked_at_least"] == 20
    population = Population(asked, make_task(asked))
    linked = []
    for name in population.names:
        keys = population.hospital(name).parts()["train"].keys
        kept = Kept(found.run_directory / "links" / name)
        record = kept.find("same")
        assert record is not None and record.persons == 20
        linked.append([keys[row] for row in kept.places(record, keys)])
    assert linked[0] == linked[1] == linked[2] and len(set(linked[0])) == 20
    digests = {
        one.digest
        for path in (found.run_directory / "links").iterdir()
        for one in Kept(path).records()
    }
    assert len(digests) == 1


def test_too_few_in_common_leave_no_link(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="ewer|too few") as error:
        analyse(settings(tmp_path, 0.2))
    assert "8" not in str(error.value), "how many there are is nobody's"
    assert not list(tmp_path.rglob("*.rows"))


@pytest.mark.parametrize(
    ("overlap", "rows", "more", "words"),
    [
        (0.0, 12, "", "vertical_overlap: 'lab' would have 4 of the file's 12 rows"),
        (0.5, 40, "clients = 4", "simulation.clients: is 4, and the parties .* are 3"),
    ],
)
def test_what_cant_be_parted_is_refused_by_its_key(
    tmp_path: Path, overlap: float, rows: int, more: str, words: str
) -> None:
    config = settings(tmp_path, overlap, rows, more)
    with pytest.raises(ConfigError, match=words):
        Population(config, make_task(config))


def test_a_task_whose_parties_have_no_columns_cant_be_parted_so(tmp_path: Path) -> None:
    config = parse_config("[simulation]\npartition = 'vertical'\n")
    with pytest.raises(ConfigError, match="'vertical' parts columns.*'tabular' names none"):
        Population(config, make_task(config))
