"""``simulate(model=...)``: modules and functions that make them, and what doesn't fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.simulations.python.frames import hospitals
from wardround.common.errors import ConfigError, DataError, TaskError
from wardround.common.tasks.own_model import OwnModelTask
from wardround.simulations import load_model, simulate

SHORT = {"federation.rounds": 2, "simulation.baselines": False}
INPUTS = 5
"""Of the frames: age, creatinine, two sexes, smoker."""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def weights(model: nn.Module) -> list[float]:
    return torch.cat([one.detach().reshape(-1) for one in model.parameters()]).tolist()


class Net(nn.Module):
    """Made of the number of inputs alone."""

    def __init__(self, inputs: int, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layers(rows)
        return found


def test_a_linear_layer_of_ones_own_is_the_built_in_model() -> None:
    """Both begin at zero, so the same training leaves the same numbers."""
    layer = nn.Linear(INPUTS, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    own = simulate(data=hospitals(), target="died", model=layer, overrides=SHORT)
    built_in = simulate(data=hospitals(), target="died", overrides=SHORT)
    assert weights(own.model) == weights(built_in.model)
    assert weights(layer) == [0.0] * (INPUTS + 1)  # the caller's own is left as it was


def test_a_model_is_loaded_elsewhere_when_it_is_given_again() -> None:
    frames = hospitals()
    result = simulate(data=frames, target="died", model=Net, overrides=SHORT)
    rows = frames["south"].drop(columns="died")
    again = load_model(result.run_directory, model=Net).predict(rows)
    assert result.predict(rows)["probability"].tolist() == again["probability"].tolist()
    with pytest.raises(TaskError, match=r"load_model\(FOLDER, model=...\)"):
        load_model(result.run_directory).predict(rows)
    with pytest.raises(TaskError, match="task.model.kind: 'own' is a model that a program gave"):
        simulate(result.run_directory / "config.toml")


MAKERS: dict[str, Any] = {
    "nothing": lambda: nn.Linear(3, 2),
    "inputs": lambda inputs: nn.Linear(inputs, 2),
    "both": lambda inputs, outputs: nn.Linear(inputs, outputs),
    "a lazy module": nn.LazyLinear(2),
    "a class": nn.Linear,
}


@pytest.mark.parametrize("maker", MAKERS)
def test_a_model_gets_the_numbers_that_it_asks_for(maker: str) -> None:
    task = OwnModelTask(MAKERS[maker], kind="multiclass", classes=["a", "b"], columns=COLUMNS)
    assert sum(one.numel() for one in task.model(TOTALS).parameters()) == 3 * 2 + 2


COLUMNS = {
    "target": "y",
    "numeric": [],
    "categorical": ["ward"],
    "categories": {"ward": ["a", "b", "c"]},
}
TOTALS: dict[str, Any] = {}
WRONG: dict[str, tuple[Any, str]] = {
    "width": (nn.Linear(7, 1), r"model: rows of 5 inputs \(.*age.*give a function of the numbers"),
    "outputs": (
        lambda i: nn.Linear(i, 2),
        r"makes \(2, 2\), and task.kind = 'binary' needs \(2, 1\)",
    ),
    "shape": (lambda i: nn.Sequential(nn.Linear(i, 1), nn.Flatten(0)), r"makes \(2,\)"),
    "sigmoid": (
        lambda i: nn.Sequential(nn.Linear(i, 1), nn.Sigmoid()),
        "ends with Sigmoid; outputs",
    ),
    "no module": (lambda: 3, "it made a int, not a torch.nn.Module"),
    "no function": ("Net", "model: str is neither a torch.nn.Module nor a function"),
    "three": (lambda a, b, c: nn.Linear(a, b), "needs 3 arguments"),
    "fails": (lambda i: nn.Linear(-i, 1), "model: making it of 5 inputs and 1 outputs failed"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_model_that_does_not_fit_is_told_before_a_round(wrong: str) -> None:
    model, words = WRONG[wrong]
    with pytest.raises((TaskError, DataError), match=words):
        simulate(data=hospitals(), target="died", model=model, overrides=SHORT)
    assert not Path("runs").exists()


def test_it_goes_with_files_masks_privacy_and_strategies() -> None:
    keys = {
        "strategy.name": "scaffold",
        "privacy.unit": "example",
        "privacy.epsilon": 8.0,
        "privacy.covers": ["training"],
    }
    keys["strategy.name"] = "fedprox"
    result = simulate(data=hospitals(), target="died", model=Net, overrides=SHORT | keys)
    assert all(row["privacy"] for row in result.rounds) and result.rounds[-1]["hidden"]
    example = simulate(model=Net, overrides=SHORT)
    assert example.model.layers[0].in_features == 30


def test_what_has_no_effect_together_is_refused() -> None:
    with pytest.raises(ConfigError, match="task.name.*: 'imaging' makes its own model"):
        simulate(model=Net, overrides=["task.name=imaging"])
    task = OwnModelTask(Net)
    with pytest.raises(ConfigError, match="model: has no effect beside task"):
        simulate(model=Net, task=task)
