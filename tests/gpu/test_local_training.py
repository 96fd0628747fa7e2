"""A hospital's own steps on its GPU: the CPU's model, less memory, no more than there is."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch import Tensor, nn

from tests.client.small_models import Classes, configured, residual, rows, vector
from wardround.client.site.terms import resolve_device
from wardround.client.training.batches import batches, on_device
from wardround.client.training.devices import told
from wardround.client.training.evaluation import model_outputs
from wardround.client.training.steps import train_on_batches
from wardround.common.rng import client_keys, seed_torch
from wardround.common.settings import TrainingTable

SEED = (7, 2, "north")


def trained(model: nn.Module, device: str, count: int = 33, **options: object) -> Tensor:
    """The parameters after two epochs of a copy of the model, there."""
    own = copy.deepcopy(model).to(device)
    config = configured(device=device, local_epochs=2, **options)
    train_on_batches(own, rows(count), Classes(), config, SEED)
    return vector(own).cpu()


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return residual()


def test_a_seed_is_torchs_own(cuda) -> None:
    device = torch.device(cuda)
    with torch.random.fork_rng([device]):
        torch.manual_seed(5)
        expected = torch.rand(3, device=device)
        seed_torch(5, device)
        assert torch.equal(torch.rand(3, device=device), expected)


def test_auto_is_the_first_gpu_and_the_log_says_which(cuda) -> None:
    assert resolve_device("auto") == "cuda:0" == resolve_device("cuda:0")
    assert told("cuda:0").startswith(f"computes on cuda:0 ({torch.cuda.get_device_name(0)})")
    assert "lies idle" in told("cpu")


@pytest.mark.parametrize("count", [1, 33])
def test_its_model_is_the_cpus_to_rounding_and_twice_the_same(device, model, count) -> None:
    here, again = (trained(model, device, count) for _ in range(2))
    assert torch.equal(here, again)
    torch.testing.assert_close(here, trained(model, "cpu", count), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_16_bits_are_near_it(request, model, precision) -> None:
    device = request.getfixturevalue("cuda" if precision == "fp16" else "device")
    start = vector(model)
    moved = trained(model, "cpu") - start
    near = trained(model, device, precision=precision) - start
    assert 0 < float((moved - near).norm() / moved.norm()) < 0.05


def test_outputs_are_float32_whatever_computes_them(device, model) -> None:
    table = TrainingTable(device=device, precision="bf16")
    outputs = model_outputs(copy.deepcopy(model).to(device), rows(), table).cpu()
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs, model_outputs(model, rows()), rtol=0.05, atol=0.05)


def wide() -> nn.Module:
    return nn.Sequential(nn.Linear(256, 8192), nn.ReLU(), nn.Linear(8192, 3))


def test_micro_batches_halve_where_memory_runs_out(cuda, caplog) -> None:
    """A batch of 32,768 rows has 2 GiB of activations, and 1 GiB is allowed."""
    torch.manual_seed(0)
    model, data = wide(), rows(32768, width=256)
    options = {"batch_size": 32768, "local_steps": 2, "device": cuda}
    whole = copy.deepcopy(model).to(cuda)
    train_on_batches(whole, data, Classes(), configured(**options), SEED)
    torch.cuda.empty_cache()
    share = 2**30 / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        halved = copy.deepcopy(model).to(cuda)
        with caplog.at_level(logging.WARNING, "wardround.client"):
            train_on_batches(halved, data, Classes(), configured(**options), SEED)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "out of memory" in caplog.text and "going on with" in caplog.text
    torch.testing.assert_close(vector(halved), vector(whole), rtol=1e-3, atol=1e-5)


def test_checkpointing_takes_less_memory_for_the_same_model(device) -> None:
    torch.manual_seed(0)
    model, data = residual(blocks=16, width=64), rows(4096, width=64)
    found, peaks = [], []
    for again in (False, True):
        own = copy.deepcopy(model).to(device)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        config = configured(
            device=device, batch_size=4096, local_steps=1, checkpoint_activations=again
        )
        train_on_batches(own, data, Classes(), config, SEED)
        found.append(vector(own).cpu())
        peaks.append(torch.cuda.max_memory_allocated() if device == "cuda" else 2 - again)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
    assert peaks[1] < peaks[0]


@pytest.mark.filterwarnings("ignore")  # of torch's own compiler
def test_compiled_steps_are_the_same_steps(device, model) -> None:
    """With a compiler beside the GPU's; without one it goes on plain, and this holds as well."""
    torch.testing.assert_close(
        trained(model, device, compile=True), trained(model, device), rtol=1e-4, atol=1e-5
    )


def test_batches_that_are_copied_ahead_are_the_same_batches(device) -> None:
    data = rows(5000, width=300)
    keys = client_keys(7, "x", 2, ["north"])
    drawn = list(batches(5000, TrainingTable(batch_size=512), keys))
    for (inputs, targets), part in zip(on_device(data, drawn, device), drawn, strict=True):
        busy = inputs @ inputs.T  # work that the next copy runs beside
        assert torch.equal(inputs.cpu(), data.inputs[part])
        assert torch.equal(targets.cpu(), data.targets[part]) and bool(torch.isfinite(busy).all())
