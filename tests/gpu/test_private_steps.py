"""Private steps on the GPU: clipped sums of every form, the operating system's noise, one price."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.client.small_models import Classes, residual, rows
from wardround.client.data.hospital import Units
from wardround.client.gradients import Clipping, make_unit_gradients
from wardround.client.privacy.steps import ClippedGradients, PrivateSteps
from wardround.common.privacy.noise import NoiseSource
from wardround.common.privacy.schedule import Schedule
from wardround.common.settings import PrivacyTable
from wardround.common.tasks.base import Examples
from wardround.simulations import simulate

NORM = 0.7


def convolutions() -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("make", [residual, convolutions])
@pytest.mark.parametrize("records", [1, 4])
def test_clipped_sums_are_those_of_a_loop_on_the_cpu(device, make, records) -> None:
    """Of examples, and of patients with four records each."""
    torch.manual_seed(0)
    model, data = make(), rows(32)
    units = None if records == 1 else torch.arange(32) // records
    parts = []
    for where, form in ((device, "auto"), ("cpu", "loop")):
        engine = make_unit_gradients(copy.deepcopy(model).to(where), Classes().loss, form)
        own = units if units is None else units.to(where)
        found = engine.clipped_sum(
            data.inputs.to(where), data.targets.to(where), own, 32 // records, Clipping(NORM)
        )
        parts.append(torch.cat([one.flatten().cpu() for one in found.gradients]))
    torch.testing.assert_close(parts[0], parts[1], rtol=1e-3, atol=1e-4)


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets) ** 2


def test_the_systems_noise_reaches_the_gpu_in_its_strength(device) -> None:
    """A step of no gradients is noise alone: sigma NORM / expected units, by 20,000 numbers."""
    model = nn.Linear(20000, 1, bias=False).to(device)
    nn.init.zeros_(model.weight)
    count = 16
    examples = Examples(torch.zeros(count, 20000), torch.zeros(count))
    table = PrivacyTable(unit="example", noise_multiplier=2.0, clipping_norm=NORM)
    gradients = ClippedGradients(
        model,
        lambda out, y: (out[:, 0] - y) ** 2,
        examples,
        Units.of(np.arange(count), 1, 0),
        table,
    )
    schedule = Schedule(2.0, 0.5, 1, 1, count // 2)
    steps = PrivateSteps(gradients, count, schedule, table, NORM, NoiseSource.system())
    for _ in steps:
        break
    ((_, parameter),) = gradients.parameters
    assert parameter.grad is not None and parameter.grad.device.type == device
    spread = float(parameter.grad.std())
    assert spread == pytest.approx(2.0 * NORM / (count / 2), rel=0.03)


@pytest.mark.parametrize("unit", ["example", "hospital"])
def test_a_private_federation_costs_there_what_it_costs_here(tmp_path, device, unit) -> None:
    spent = []
    for where in (device, "cpu"):
        result = simulate(
            overrides=[
                f"federation.runs={tmp_path / where}",
                "federation.rounds=2",
                "simulation.baselines=false",
                f"training.device={where}",
                f"privacy.unit={unit}",
                "privacy.noise_multiplier=1.0",
                f"privacy.noise={'local' if unit == 'example' else 'central'}",
                "secure_aggregation.enabled=false",
            ]
        )
        assert all(torch.isfinite(p).all() for p in result.model.parameters())
        spent.append(result.rounds[-1]["privacy"])
    assert spent[0] == spent[1]
