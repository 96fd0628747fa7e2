"""What a process has set for torch changes nothing of a run, and is there again afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from wardround.simulations import Result, simulate


@contextmanager
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


STATES = {
    "float64": float64,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "device": lambda: torch.device("meta"),
}
SETS = ["federation.rounds=2", "simulation.clients=3", "task.model.kind=mlp"]


def run(folder: Path) -> Result:
    return simulate(overrides=[*SETS, f"federation.runs={folder}", "simulation.baselines=false"])


def saved(result: Result) -> bytes:
    return (result.run_directory / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", STATES)
def test_a_run_is_the_same_whatever_torch_was_set_to(name: str, tmp_path: Path) -> None:
    plain = saved(run(tmp_path / "plain"))
    with STATES[name]():
        result = run(tmp_path / "set")
        again = saved(run(tmp_path / "again"))
        model = result.model
    assert saved(result) == plain == again
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert all(p.requires_grad and p.device.type == "cpu" for p in model.parameters())
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
