"""A user's own Dataset and Module: precision, privacy and masks with no change to them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from wardround.common.tasks.base import Examples
from wardround.simulations import simulate

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_is_read_whole_and_in_order(workers: int) -> None:
    inputs, targets = torch.randn(600, 3), torch.arange(600)
    found = Examples.of(TensorDataset(inputs, targets), workers)
    assert torch.equal(found.inputs, inputs) and torch.equal(found.targets, targets)


def test_an_empty_dataset_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Examples.of(TensorDataset(torch.zeros(0, 3), torch.zeros(0)))


@pytest.mark.parametrize(("name", "metric"), [("own_task", "accuracy"), ("own_text", "auc")])
@pytest.mark.parametrize(
    "privacy",
    [
        [],
        ["privacy.unit=example", "privacy.noise_multiplier=0.5"],
        ["privacy.unit=hospital", "privacy.noise=distributed", "privacy.noise_multiplier=0.5"],
    ],
    ids=["masked", "example", "hospital"],
)
def test_precision_privacy_and_masks(
    tmp_path: Path, name: str, metric: str, privacy: list[str]
) -> None:
    result = simulate(
        EXAMPLES / name / "federation.toml",
        overrides=[
            f"federation.runs={tmp_path}",
            "federation.rounds=2",
            "simulation.baselines=false",
            "training.precision=bf16",
            *privacy,
        ],
    )
    assert result.config.secure_aggregation.enabled
    assert 0 <= result.figure(metric) <= 1
    assert all(p.dtype == torch.float32 for p in result.model.parameters())


def test_an_own_text_model_learns(tmp_path: Path) -> None:
    result = simulate(
        EXAMPLES / "own_text" / "federation.toml",
        overrides=[f"federation.runs={tmp_path}", "simulation.baselines=false"],
    )
    assert result.figure("auc") > 0.9


@pytest.mark.parametrize(
    "more",
    [
        ["privacy.clipping=per_layer"],
        ["privacy.noise=distributed", "training.local_steps=1", "privacy.clipping=adaptive"],
    ],
    ids=["local", "distributed"],
)
def test_both_engines_train_the_same_model_of_series(tmp_path: Path, more: list[str]) -> None:
    """An LSTM and a layer with a grad sampler of its own: the same draws, noise and ledger around
    gradients that are the same to rounding."""
    models = [
        simulate(
            EXAMPLES / "own_series" / "federation.toml",
            overrides=[
                f"federation.runs={tmp_path / engine}",
                "federation.rounds=2",
                "simulation.baselines=false",
                "task.rows=240",
                "training.batch_size=16",
                f"privacy.engine={engine}",
                *more,
            ],
        )
        for engine in ("own", "opacus")
    ]
    one, other = (dict(result.model.named_parameters()) for result in models)
    spent = [[line["privacy"] for line in result.rounds] for result in models]
    assert spent[0] == spent[1]
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-5, msg=name)
