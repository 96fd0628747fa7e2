"""A hospital whose rows are all for testing, as an external validation site, is measured and never
trained on: whatever the task, with masks and with privacy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.common.tasks.text.tiny import tiny_encoder
from tests.federate import Line
from wardround.client.data.hospital import Hospital
from wardround.client.data.shard import OwnShard
from wardround.client.privacy.ledger import Ledger
from wardround.common.config.load import load_config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, DataError, RoundFailed
from wardround.common.tasks.base import Examples
from wardround.simulations import simulate
from wardround.simulations.population.hospitals import Population
from wardround.simulations.privacy.plan import units_of

TABLE = """
[federation]
rounds = 2
[data]
path = "h"
[task]
kind = "binary"
[task.columns]
numeric = ["x1", "x2"]
target = "y"
split = "part"
"""
IMAGES = """
[federation]
rounds = 1
[data]
path = "h"
[task]
name = "imaging"
size = [16, 16]
classes = ["ill", "well"]
[task.model]
kind = "cnn"
"""
TEXT = """
[federation]
rounds = 1
[data]
path = "h"
[task]
name = "text"
kind = "tokens"
encoder = "encoder"
entities = ["D"]
max_length = 16
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three hospitals of 30 rows, and 'abroad' with 20 test rows."""
    generator = np.random.default_rng(1)
    (tmp_path / "h").mkdir()
    for name, rows in (("abroad", 20), ("north", 30), ("south", 30), ("west", 30)):
        x = generator.normal(size=(rows, 2))
        y = (generator.random(rows) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(int)
        part = ["test" if name == "abroad" or i % 3 == 0 else "train" for i in range(rows)]
        lines = [f"{a:.3f},{b:.3f},{t},{p}" for (a, b), t, p in zip(x, y, part, strict=True)]
        (tmp_path / "h" / f"{name}.csv").write_text("\n".join(["x1,x2,y,part", *lines]) + "\n")
    (tmp_path / "federation.toml").write_text(TABLE)
    return tmp_path / "federation.toml"


def run(path: Path, *overrides: str) -> Any:
    result = simulate(path, overrides=overrides)
    for row in result.rounds:
        assert row["refused"] == []
        assert "abroad" not in row["cohort"] + row["accepted"]
    return result


def row(result: Any, hospital: str) -> dict[str, Any]:
    return next(row for row in result.comparison if row["hospital"] == hospital)


def test_its_figures_are_its_own_row_and_it_changes_no_weight(table: Path) -> None:
    plain = run(table, "secure_aggregation.enabled=false")
    assert plain.figure("auc", "abroad") == row(plain, "abroad")["federated"]["auc"]
    assert row(plain, "abroad")["local"] == {}
    assert 0 < row(plain, "abroad")["pooled"]["auc"] < 1
    # over the same hospitals for every kind of model, or not at all
    of_three = [row(plain, name)["federated"]["auc"] for name in ("north", "south", "west")]
    assert row(plain, "mean")["federated"]["auc"] == pytest.approx(np.mean(of_three))
    assert row(plain, "overall")["local"] == {}
    masked = run(table)
    of_masked = row(masked, "abroad")["federated"]
    assert of_masked == pytest.approx(row(plain, "abroad")["federated"], abs=1e-4)
    (table.parent / "h" / "abroad.csv").unlink()
    without = run(table, "secure_aggregation.enabled=false")
    for key, value in without.model.state_dict().items():
        assert np.array_equal(value, plain.model.state_dict()[key])
        np.testing.assert_allclose(value, masked.model.state_dict()[key], atol=1e-4)


@pytest.mark.parametrize("unit", ["example", "hospital"])
def test_a_private_run_takes_nothing_of_its_budget_for_training(table: Path, unit: str) -> None:
    settings = (f"privacy.unit={unit}", "privacy.epsilon=8.0", "simulation.baselines=false")
    result = run(table, *settings)
    ledger = result.run_directory / "ledgers"
    with Ledger.open(ledger / "abroad.sqlite", "abroad") as mine:
        paid = {entry.purpose for entry in mine.entries() if entry.round}
    assert paid <= {"evaluation"}  # beside announced sizes, figures of its held-out rows at most
    assert row(result, "abroad")["federated"]["auc"] > 0


def test_personal_layers_that_nobody_trained_are_not_measured(table: Path) -> None:
    result = run(table, "strategy.personal_layers=['bias']", "secure_aggregation.enabled=false")
    assert "abroad" not in result.rounds[-1]["hospitals"]


def test_enough_hospitals_must_train(table: Path) -> None:
    with pytest.raises(RoundFailed, match="3 of 4 hospitals can train, 1 in evaluations only"):
        simulate(table, overrides=["federation.min_clients=4"])


def test_a_masked_sum_is_of_enough_hospitals_that_train(table: Path) -> None:
    """Two that train and two that don't: a sum of the first two would tell too much."""
    west = table.parent / "h" / "west.csv"
    west.write_text(west.read_text().replace(",train", ",test"))
    with pytest.raises(ConfigError, match="min_cohort: 2 hospitals take part in training"):
        simulate(table, overrides=["federation.min_clients=2"])


def test_virtual_clients_that_only_evaluate_end_the_run_with_a_sentence(tmp_path: Path) -> None:
    class Sites(Line):
        def generate(self, client: int, generator: np.random.Generator) -> Examples:
            return Examples(torch.ones(3, 1), torch.ones(3))

        def given_split(self, raw: Examples) -> Any:
            return np.array(["test"] * len(raw))

    overrides = ["simulation.partition=virtual", "federation.clients_per_round=3"]
    overrides += ["secure_aggregation.enabled=false", f"federation.runs={tmp_path}"]
    with pytest.raises(RoundFailed, match="nobody who is here has rows to train on"):
        simulate(task=Sites(), overrides=[*overrides, "simulation.baselines=false"])


def test_a_server_that_asks_it_to_train_gets_one_true_sentence(line: Any) -> None:
    site = Examples(torch.ones(1, 1), torch.ones(1))

    class Site(line):  # type: ignore[misc, valid-type]
        def given_split(self, raw: Examples) -> Any:
            return np.array(["test"] * len(raw))

    hospital = Hospital(OwnShard("abroad", Site(), parse_config(""), lambda: site))
    with pytest.raises(DataError, match="abroad: it has no rows for training, so it takes part in"):
        hospital.training_part()
    with pytest.raises(DataError, match="it has no rows for training"):
        hospital.statistics(0, {})  # zeros would leave the others' numbers alone in a masked sum


def test_images_in_folders(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    for name in ("abroad", "north", "south", "west"):
        for part in ("test",) if name == "abroad" else ("train", "test"):
            for label, brightness in (("ill", 200), ("well", 60)):
                folder = tmp_path / "h" / name / part / label
                folder.mkdir(parents=True)
                for number in range(3):
                    pixels = generator.normal(brightness, 30, (16, 16)).clip(0, 255)
                    Image.fromarray(pixels.astype("u1")).save(folder / f"{number}.png")
    (tmp_path / "federation.toml").write_text(IMAGES)
    result = run(tmp_path / "federation.toml", "simulation.baselines=false")
    assert row(result, "abroad")["federated"]["examples"] == 6


def test_a_text_folder_with_test_sentences_only(tmp_path: Path) -> None:
    tiny_encoder(tmp_path / "encoder")
    for name in ("abroad", "north", "south", "west"):
        folder = tmp_path / "h" / name
        folder.mkdir(parents=True)
        for part in ("test",) if name == "abroad" else ("train", "test"):
            (folder / f"{part}.tsv").write_text("aspirin\tO\nfever\tB-D\n\nno\tO\n\n" * 3)
    (tmp_path / "federation.toml").write_text(TEXT)
    result = run(tmp_path / "federation.toml", "simulation.baselines=false")
    assert row(result, "abroad")["federated"]["loss"] > 0


def test_a_privacy_plan_is_of_hospitals_that_train(table: Path) -> None:
    settings = load_config(table, ["privacy.unit=example", "privacy.epsilon=3.0"])
    population = Population(settings, make_task(settings))
    assert [one.name for one in population.training()] == ["north", "south", "west"]
    rows, _ = units_of(settings)
    assert sorted(rows) == ["north", "south", "west"] and min(rows.values()) > 0
