"""Low-rank factors between unlike hospitals: the mean of products, under masks and without."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copyfile, copytree, ignore_patterns

import numpy as np
import pytest
from torch import nn

from tests.unlike.base import Consortium
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError
from wardround.common.model.named import build_model, model_arrays
from wardround.simulations import Result, simulate

Unlike = Callable[[str], Consortium]
PLAIN = "secure_aggregation.enabled=false"
LONG = [
    "training.lr=0.3",
    "task.dropout=0",
    "task.rank=2",
    "strategy.weighting=uniform",
    "evaluation.every=100",
    "data.test_fraction=0.1",
]
"""Steps that move the factors far, by hospitals that count alike."""


def run(where: Consortium, runs: Path, *overrides: str) -> Result:
    return simulate(where.config(*LONG, *overrides, runs=runs))


def added(model: nn.Module) -> dict[str, np.ndarray]:
    """By layer, what it adds to its frozen weight: R + (alpha / r) B A, float64."""
    arrays = {name: value.astype(np.float64) for name, value in model_arrays(model).items()}
    found = {}
    for up in (name for name in arrays if ".lora_B." in name):
        layer = up.partition(".lora_B.")[0]
        rest = arrays.get(f"{layer}.base_layer.lora_rest", 0.0)
        found[layer] = rest + 8.0 * arrays[up] @ arrays[up.replace("lora_B", "lora_A")]
    return found


@pytest.fixture(scope="module")
def where(unlike: Unlike, tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """Hospitals of 33, 30, 14, 12 and 2 texts; classes and labels that some lack."""
    made, folder = unlike("texts"), tmp_path_factory.mktemp("low-rank")
    keep = ignore_patterns("1002.csv")  # its only row is held out or trained on, as its key says
    copytree(made.folder / "hospitals", folder / "hospitals", ignore=keep)
    (folder / "encoder").symlink_to(made.folder / "encoder")
    return replace(made, folder=folder)


@pytest.fixture(scope="module")
def by_hand(where: Consortium, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The dense mean of the products that each hospital comes to when it is alone."""
    parts = []
    for path in sorted((where.folder / "hospitals").iterdir()):
        folder = tmp_path_factory.mktemp("alone")
        (folder / "hospitals").mkdir()
        copyfile(path, folder / "hospitals" / path.name)
        (folder / "encoder").symlink_to(where.folder / "encoder")
        one = replace(where, folder=folder)
        result = run(one, folder, "federation.rounds=1", "federation.min_clients=1", PLAIN)
        parts.append(added(result.model))
    return {layer: np.mean([one[layer] for one in parts], 0) for layer in parts[0]}


def apart(found: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Over all layers, in Frobenius' norm, as a share of the second."""
    lost = sum(np.square(found[layer] - other[layer]).sum() for layer in other)
    return float(np.sqrt(lost / sum(np.square(value).sum() for value in other.values())))


@pytest.mark.parametrize("masks", [PLAIN, "secure_aggregation.bits=32"])
def test_products_are_the_dense_mean_of_unlike_hospitals(
    where: Consortium, by_hand: dict[str, np.ndarray], masks: str, tmp_path: Path
) -> None:
    """The largest difference is the rounding of the sum: 8 / 2^22 and float32 without masks."""
    result = run(where, tmp_path, "federation.rounds=1", "task.lora_aggregation=products", masks)
    found = added(result.model)
    assert found.keys() == by_hand.keys() and len(found) == 4
    largest = max(float(np.abs(found[layer] - by_hand[layer]).max()) for layer in by_hand)
    assert largest < (1e-6 if masks == PLAIN else 4e-6)
    assert max(float(np.abs(value).max()) for value in by_hand.values()) > 1e-2


@pytest.mark.parametrize("masks", [PLAIN, "secure_aggregation.bits=32"])
def test_the_error_of_the_mean_of_factors_is_in_the_runs_report(
    where: Consortium, by_hand: dict[str, np.ndarray], masks: str, tmp_path: Path
) -> None:
    result = run(where, tmp_path, "federation.rounds=1", "task.lora_error=true", masks)
    wanted = apart(added(result.model), by_hand)  # before round 1 nothing is added
    row = result.rounds[0]
    assert wanted > 1e-3 and row["factors_error"] == pytest.approx(wanted, rel=0.5)
    kept = json.loads((result.run_directory / "run.json").read_text())["factors_error"]
    assert kept == {"largest": row["factors_error"], "rounds": 1}
    page = (result.run_directory / "report.html").read_text()
    assert "is not averaging their products" in page and f"{row['factors_error']:.1%}" in page


def test_factors_that_take_turns_move_one_after_the_other(
    where: Consortium, tmp_path: Path
) -> None:
    """B in round 1, A in round 2; what rests stays to the last bit, in any executor."""
    ours = ["task.lora_aggregation=alternate", "training.optimizer=adamw"]
    first = run(where, tmp_path, *ours, "federation.rounds=1", "training.weight_decay=0.1")
    second = run(where, tmp_path, *ours, "federation.rounds=2", "training.weight_decay=0.1")
    start = model_arrays(build_model(make_task(first.config), {}, first.config.federation.seed))
    one, two = model_arrays(first.model), model_arrays(second.model)
    for name in (name for name in one if ".lora_" in name):
        moved = ".lora_B." in name
        assert np.array_equal(one[name], start[name]) != moved
        assert np.array_equal(two[name], one[name]) == moved
    more = ["federation.rounds=1", "training.weight_decay=0.1", "simulation.executor=auto"]
    other = model_arrays(run(where, tmp_path, *ours, *more).model)
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["task.lora_aggregation=products", "privacy.unit=hospital", "privacy.epsilon=8"],
            "more leaves a hospital",
        ),
        (
            ["task.lora_error=true", "federation.pace=buffered", "federation.buffer=3"],
            "buffered ones are of several",
        ),
        (["task.lora_error=true", "strategy.name=fedadam"], "strategy 'fedadam' makes another"),
        (
            ["task.lora_aggregation=alternate", "strategy.personal_layers=['*lora_A*']"],
            "stays at each hospital, so its product",
        ),
    ],
)
def test_what_would_make_another_mean_is_refused(
    where: Consortium, settings: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(where, tmp_path, *settings)


def test_of_two_honest_hospitals_products_would_tell_too_much(
    where: Consortium, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="of 2 honest hospitals little of each one's adapters"):
        settings = ["federation.clients_per_round=3", "secure_aggregation.colluding=1"]
        run(where, tmp_path, "task.lora_aggregation=products", *settings)
