"""A model with numbers of bfloat16: what is sent, summed, kept and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from wardround.common.durable.tensors import read_tensors
from wardround.common.errors import StrategyError, TaskError
from wardround.simulations import simulate

EXAMPLE = Path(__file__).parents[3] / "examples" / "own_task" / "task.py"
TASK = (
    EXAMPLE.read_text()
    + """

class Narrow(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.body = inner.to(torch.bfloat16)
        self.scale = nn.Parameter(torch.ones(10))

    def forward(self, x):
        return self.body(x.to(torch.bfloat16)).float() * self.scale


class NarrowDigits(Digits):
    def model(self, totals):
        return Narrow(super().model(totals))
"""
)


def run(folder: Path, *more: str) -> Any:
    (folder / "task.py").write_text(TASK)
    (folder / "federation.toml").write_text(
        "[federation]\nname = 'narrow'\nrounds = 4\nmin_clients = 3\n"
        "[task]\nname = 'task.py:NarrowDigits'\nchannels = 4\n"
        "[training]\nlr = 0.2\nlocal_steps = 12\n[simulation]\nclients = 3\nbaselines = false\n"
    )
    return simulate(
        folder / "federation.toml", overrides=[f"federation.runs={folder / 'runs'}", *more]
    )


@pytest.mark.parametrize("masked", ["true", "false"])
def test_it_learns_and_stays_what_it_is(tmp_path: Path, masked: str) -> None:
    result = run(tmp_path, f"secure_aggregation.enabled={masked}")
    assert result.figure("accuracy") > 0.6  # of ten classes
    arrays, _ = read_tensors(result.run_directory / "model" / "model.safetensors")
    kinds = {name: one.dtype.name for name, one in arrays.items()}
    assert kinds.pop("scale") == "float32" and set(kinds.values()) == {"bfloat16"}
    assert {p.dtype for p in result.model.parameters()} == {torch.bfloat16, torch.float32}


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        (["strategy.name=fedadam", "strategy.eta=0.1"], StrategyError, "'fedadam' can't calculate"),
        (["federation.pace=buffered", "federation.buffer=3"], StrategyError, "is kept and scaled"),
        (["strategy.name=scaffold"], StrategyError, "'scaffold' can't calculate"),
        (
            ["privacy.unit=hospital", "privacy.noise_multiplier=1.0", "privacy.delta=1e-3"],
            TaskError,
            "'body.0.weight' is of bfloat16",
        ),
    ],
)
def test_what_would_calculate_in_16_bits_is_refused_by_name(
    tmp_path: Path, more: list[str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        run(tmp_path, *more)
