"""The first model from a file: what is taken, what isn't, what is refused; in a run of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wardround.common.config.load import Config, parse_config
from wardround.common.durable.tensors import write_tensors
from wardround.common.errors import ConfigError
from wardround.common.flower.arrays import Arrays
from wardround.common.model.entries import Entries, Kind
from wardround.common.model.initial import read_initial
from wardround.common.model.saved import ModelForm
from wardround.simulations.run.simulate import simulate


def config(tmp_path: Path, name: str = "model.safetensors") -> Config:
    return parse_config(f"[federation]\ninitial = '{name}'\n", path=tmp_path / "federation.toml")


def own() -> Arrays:
    return {
        "a.weight": np.zeros((2, 3), np.float32),
        "a.bias": np.zeros(2, np.float32),
        "steps": np.zeros((), np.int64),
        "head": np.ones((4,), np.float32),
    }


def form(*personal: str) -> ModelForm:
    return ModelForm(Entries(dict.fromkeys(personal, Kind.PERSONAL)), {}, {})


def test_names_and_shapes_decide(tmp_path: Path) -> None:
    weight = torch.arange(6.0).view(2, 3)
    theirs = {
        "a.weight": weight.to(torch.bfloat16),
        "a.bias": torch.tensor([0.5, -0.5], dtype=torch.float64),
        "steps": torch.tensor(7),
        "head": torch.zeros(5),
        "other": torch.zeros(1),
    }
    save_file(theirs, tmp_path / "model.safetensors")
    initial = read_initial(config(tmp_path))
    assert initial is not None
    found = initial.first(own(), form())
    assert found.taken == ["a.weight", "a.bias", "steps"]
    np.testing.assert_array_equal(found.arrays["a.weight"], weight.numpy())
    np.testing.assert_array_equal(found.arrays["a.bias"], np.float32([0.5, -0.5]))
    np.testing.assert_array_equal(found.arrays["head"], np.ones(4))
    assert found.arrays["steps"] == 7 and found.arrays["steps"].shape == ()
    assert all(found.arrays[key].dtype == value.dtype for key, value in own().items())
    assert found.left == {
        "head": "[5] in the file, [4] in the model",
        "other": "not in the model",
    }
    assert found.line("x") == (
        "initial model: 3 of 4 arrays are from x; not taken: head ([5] in the file, [4] in the "
        "model), other (not in the model)"
    )
    local = initial.over(own(), form("a.bias"))
    assert local.left["a.bias"] == "stays at each hospital" and "a.bias" not in local.taken


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({"b": torch.zeros(1)}, "no array of the model is in it"),
        ({"a.bias": torch.zeros(2, dtype=torch.int64)}, "'a.bias' is int64, the model's is float"),
        ({"a.bias": torch.tensor([1.0, torch.inf])}, "'a.bias' has values that are no finite"),
        ({"a.bias": torch.tensor([1.0, 1e300], dtype=torch.float64)}, "no finite float32"),
        ({"steps": torch.tensor(1.0)}, "'steps' is float32, the model's is int64"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, theirs: Any, message: str) -> None:
    save_file(theirs, tmp_path / "model.safetensors")
    initial = read_initial(config(tmp_path))
    assert initial is not None
    with pytest.raises(ConfigError, match=f"federation.initial: .*{message}"):
        initial.first(own(), form())


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    assert read_initial(parse_config("")) is None
    with pytest.raises(ConfigError, match="federation.toml:2: federation.initial: .*no such file"):
        read_initial(config(tmp_path))
    path = tmp_path / "model.safetensors"
    path.mkdir()
    with pytest.raises(ConfigError, match="is a folder; name the weights in it"):
        read_initial(config(tmp_path))
    path.rmdir()
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ConfigError, match="no safetensors file"):
        read_initial(config(tmp_path))
    write_tensors(path, own(), {"round": 3})
    assert read_initial(config(tmp_path)) is not None
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="altered or torn"):
        read_initial(config(tmp_path))


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2"])
def test_numbers_that_numpy_has_not_are_refused(tmp_path: Path, kind: str) -> None:
    save_file({"a.bias": torch.zeros(2, dtype=getattr(torch, kind))}, tmp_path / "m.safetensors")
    with pytest.raises(
        ConfigError, match=f"federation.initial: .*m.safetensors: 'a.bias' is {kind}"
    ):
        read_initial(config(tmp_path, "m.safetensors"))


def test_the_path_is_meant_from_the_folder_and_kept_absolute(tmp_path: Path) -> None:
    text = config(tmp_path, "sub/m.safetensors").to_toml()
    assert parse_config(text).federation.initial == str(tmp_path / "sub/m.safetensors")


SETS = ["federation.rounds=3", "simulation.clients=3", "simulation.executor=sequential"]


def test_a_run_goes_on_from_another_runs_model(tmp_path: Path) -> None:
    """Two rounds, then two from there: the second run's first figures follow on; baselines start
    from the same model, so that the local ones are better than from nothing."""
    runs = f"federation.runs={tmp_path}"
    first = simulate(None, overrides=[*SETS, runs])
    file = first.run_directory / "model" / "model.safetensors"
    second = simulate(None, overrides=[*SETS, runs, f"federation.initial={file}"])
    assert second.figure("loss") < first.figure("loss")
    kept = json.loads((second.run_directory / "run.json").read_text())["initial"]
    assert kept["taken"] == 2 and kept["left"] == {} and kept["file"] == str(file.resolve())
    assert len(kept["sha256"]) == 64
    losses = [
        {kind: row[kind]["loss"] for kind in ("local", "pooled")}
        for run in (first, second)
        for row in run.comparison
        if row["hospital"] == "overall"
    ]
    assert losses[1]["pooled"] < losses[0]["pooled"] and losses[1]["local"] < losses[0]["local"]
    assert "The first model took 2 arrays" in (second.run_directory / "report.html").read_text()


def test_the_servers_first_model_is_the_files(settings, federate, shards, tmp_path: Path) -> None:
    save_file({"weight": torch.tensor([[0.25]])}, tmp_path / "m.safetensors")
    # a step from w = 1/4, by hand: the gradient of each hospital's mean loss there
    text = f"[federation]\ninitial = '{tmp_path / 'm.safetensors'}'\n"
    run = federate(settings(text), shards)
    moved = {
        name: 0.25 - 0.1 * float(((0.25 * x.inputs[:, 0] - x.targets) * x.inputs[:, 0]).mean())
        for name, x in shards.items()
    }
    expected = (3 * moved["a"] + moved["b"]) / 4
    assert run.weight() == pytest.approx(expected, rel=1e-6)
