"""A description over hospitals that differ: plain is masked, and both are the pooled data's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.common.procedures.attacker import solve_persons
from tests.unlike import Consortium
from wardround.common.config.load import Config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, RoundFailed
from wardround.common.tasks.data.table import Table
from wardround.server.rounds import stepping
from wardround.simulations import analyse, simulate

KINDS = ("binary", "multiclass", "regression", "survival")
NUMBERS = ("größe", "creatinine", "lactate", "marker", "wide")


def pooled(config: Config) -> list[Table]:
    task, path = make_task(config), config.data_path()
    assert path is not None
    return [task.load(shard) for shard in task.sites(path).values()]


def of(config: Config) -> tuple[dict[str, Any], str]:
    found = analyse(config)
    return found.description, (found.run_directory / "description.json").read_text()


@pytest.fixture(scope="module", params=KINDS)
def both(
    request: pytest.FixtureRequest,
    unlike: Callable[[str], Consortium],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Config, dict[str, Any], str, str]:
    place = tmp_path_factory.mktemp("analysed")
    config = unlike(request.param).config(runs=place)
    masked = unlike(request.param).config("secure_aggregation.enabled=true", runs=place)
    plain = unlike(request.param).config("secure_aggregation.enabled=false", runs=place)
    found, text = of(plain)
    return config, found, text, of(masked)[1]


def test_masked_is_plain(both: tuple[Config, dict[str, Any], str, str]) -> None:
    _, _, plain, masked = both
    assert plain == masked


def test_it_is_of_all_rows_within_what_it_says(
    both: tuple[Config, dict[str, Any], str, str],
) -> None:
    config, found, _, _ = both
    parts = pooled(config)
    rows = sum(len(part) for part in parts)
    assert found["hospitals"] == len(parts) == 7
    assert abs(found["rows"] - rows) <= 2
    columns = {column["name"]: column for column in found["columns"]}
    for name in NUMBERS:
        values = np.concatenate([part.numbers(name) for part in parts])
        here = values[~np.isnan(values)]
        column = columns[name]
        assert abs(column["mean"] - here.mean()) <= column["mean_error"] * (1 + 1e-9)
        assert abs(column["std"] - here.std()) <= column["mean_error"] * (1 + 1e-9)
        assert [one["p"] for one in column["quantiles"]] == [0.05, 0.25, 0.5, 0.75, 0.95]
        spread = np.quantile(here, 0.95) - np.quantile(here, 0.05)
        for one in column["quantiles"]:
            off = abs(np.quantile(here, one["p"]) - one["value"])
            assert off <= one["error"] * (1 + 1e-9) <= 0.1 * spread, (name, one)
        missing = {cell["name"]: cell for cell in column["cells"]}["missing"]
        gaps = int(np.isnan(values).sum())
        assert missing["state"] == ("shown" if gaps >= 5 else "few")
        assert missing["state"] == "few" or abs(missing["rows"] - gaps) <= 2
    texts = Counter(cell for part in parts for cell in part.categories("ward"))
    for cell in columns["ward"]["cells"]:
        if cell["state"] == "shown" and cell["name"] in texts:
            assert abs(cell["rows"] - texts[cell["name"]]) <= 2
            assert cell["persons"] <= cell["rows"]  # at one hospital a patient has three rows


def test_who_solves_for_few_finds_none(both: tuple[Config, dict[str, Any], str, str]) -> None:
    config, found, _, _ = both
    parts, task = pooled(config), make_task(config)
    rows = sum(len(part) for part in parts)
    persons = sum(len(np.unique(task.patients(part))) for part in parts)
    for column in found["columns"]:
        if not (cells := column.get("cells")):
            continue
        solved = solve_persons(cells, 5, rows, persons)
        for cell in cells:
            if cell["state"] == "few":
                low, high = solved[cell["name"]]
                assert low <= 1 and high >= 4, (column["name"], cell, low, high)


def test_a_balance_of_two_in_a_thousand_is_not_shown(tmp_path: Path) -> None:
    folder = tmp_path / "hospitals"
    folder.mkdir()
    generator = np.random.default_rng(2)
    for number, size in enumerate((400, 300, 300)):
        rows = [f"{generator.normal():.3f},{int(number < 2 and row == 5)}" for row in range(size)]
        (folder / f"h{number}.csv").write_text("x,died\n" + "\n".join(rows) + "\n")
    (tmp_path / "federation.toml").write_text(
        '[data]\npath = "hospitals"\n[task]\nname = "tabular"\n[task.columns]\ntarget = "died"\n'
    )
    found = analyse(tmp_path / "federation.toml").description
    target = found["columns"][0]
    assert target["name"] == "died" and target["target"]
    states = {cell["name"]: cell["state"] for cell in target["cells"]}
    assert states["1"] == "few" and found["rows"] == 1000
    (page,) = (tmp_path / "runs").glob("*/report.html")
    assert "fewer than 5" in page.read_text() and "died (target)" in page.read_text()


def test_what_does_not_go_together_is_said(tmp_path: Path) -> None:
    described = [f"federation.runs={tmp_path}", 'procedure.name="describe"']
    for overrides, words in (
        (["procedure.ranges={age=[0,100]}"], "have an effect with .privacy. only"),
        (["simulation.partition=virtual", "simulation.clients=50"], "nothing to describe"),
    ):
        with pytest.raises(ConfigError, match=words):
            analyse(overrides=[*described, *overrides])
    with pytest.raises(ConfigError, match="trains nothing.*wardround analyse"):
        simulate(overrides=['procedure.name="describe"'])


def test_one_that_was_stopped_goes_on_with_its_step(
    unlike: Callable[[str], Consortium], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = unlike("binary").config("secure_aggregation.enabled=true", runs=tmp_path)
    write, asked = stepping.write_steps, list[int]()

    def broken(path: Path, earlier: list[Any], names: list[str]) -> None:
        write(path, earlier, names)
        asked.append(len(earlier))
        if asked == [1, 2]:
            raise RoundFailed("the power failed")

    monkeypatch.setattr(stepping, "write_steps", broken)
    with pytest.raises(RoundFailed):
        analyse(config.model_copy(update={"federation": one_attempt(config)}))
    (run,) = tmp_path.iterdir()
    found = analyse(resume=run)
    assert asked[2] == 3 and found.hospitals == sorted(found.hospitals)
    assert found.description == analyse(config).description


def one_attempt(config: Config) -> Any:
    return config.federation.model_copy(update={"round_attempts": 1})
