"""A device that isn't there is said once, by its key, before anyone trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.client.small_models import Classes, configured
from wardround.client.site.policy import SitePolicy
from wardround.client.site.terms import resolve_device
from wardround.client.training.devices import told
from wardround.client.training.precision import check_precision
from wardround.client.training.settings import check_training
from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError
from wardround.simulations.run.simulate import simulate


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
@pytest.mark.parametrize(
    "device", ["gpu", "auto", "CPU", "cuda:", "cuda:x", "cuda:256", "", "a\nb"]
)
def test_what_is_no_device_is_refused_with_every_precision(device: str, precision: str) -> None:
    config = configured(device=device, precision=precision)
    with pytest.raises(ConfigError, match="training.device: .* is no device that") as caught:
        check_precision(config)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="training.device: .* is no device that"):
        check_training(config, Classes())


@pytest.mark.parametrize("found", [0, 1, 2])
def test_a_gpu_that_torch_does_not_see_is_refused(found: int, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    for device, index in (("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:7", 7)):
        config = configured(device=device)
        if index < found:
            check_training(config, Classes())
            continue
        message = f"training.device: '{device}': torch sees {found} GPUs here; set"
        with pytest.raises(ConfigError, match=message):
            check_training(config, Classes(), simulated=True)


@pytest.mark.parametrize("device", ["meta", "hpu", "vulkan"])
def test_a_device_that_computes_nothing_here_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match=f"training.device: '{device}': torch can't compute"):
        check_training(configured(device=device), Classes())


def test_mps_is_refused_where_there_is_none() -> None:
    if torch.backends.mps.is_available():
        check_training(configured(device="mps"), Classes())
        return
    with pytest.raises(ConfigError, match="training.device: 'mps': torch can't compute"):
        check_training(configured(device="mps"), Classes())


def test_rays_workers_may_have_what_the_driver_has_not(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    text = "[training]\ndevice = 'cuda'\n[simulation]\nexecutor = 'ray'\n"
    check_training(parse_config(text), Classes(), simulated=True)
    with pytest.raises(ConfigError, match="torch sees 0 GPUs"):
        check_training(parse_config(text), Classes())


def test_a_simulation_says_it_before_its_first_round(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="training.device: 'gpu' is no device"):
        simulate(overrides=[f"federation.runs={tmp_path}", "training.device=gpu"])


def test_which_device_computes_and_what_lies_idle_is_told(monkeypatch) -> None:
    assert told("cpu").startswith("computes on cpu (") and "idle" not in told("cpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda index: f"GPU {index}")
    assert "GPU 0, GPU 1 lies idle: set device = 'auto'" in told("cpu")
    assert told("cuda:1").startswith("computes on cuda:1 (GPU 1); GPU 0 lies idle")
    site = SitePolicy()
    assert resolve_device(site.apply(parse_config("")).training.device) == "cuda:0"
