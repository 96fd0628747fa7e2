"""Emulated masks give what the protocol gives: the same model, byte for byte, the same figures, the
same refusals and failures; in every executor, whoever drops out, whatever is private.

Compared are whole runs of ``simulate``, that differ in ``simulation.masks`` alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from wardround.common.errors import RoundFailed
from wardround.common.settings import EMULATED
from wardround.common.tasks.base import Examples
from wardround.server.observer import Observer
from wardround.simulations import parse_config, simulate

CLIENTS = 7
APART = "seconds", "bytes"
"""In the names of what a line of metrics.jsonl has of what keys cost."""
EXECUTORS = ("sequential", "cohort", "processes", "processes-sequential")
FORMS = {
    "plain": "",
    "narrow": "[secure_aggregation]\nbits = 16\nclip = 0.02\n",
    "uniform": "[strategy]\nweighting = 'uniform'\n",
    "capped": "[secure_aggregation]\nmax_examples = 9\n",
    "fednova": "[strategy]\nname = 'fednova'\n",
    "fedadam": "[strategy]\nname = 'fedadam'\n[training]\nmomentum = 0.9\n",
    "scaffold": "[strategy]\nname = 'scaffold'\n",
    "personal": "[strategy]\npersonal_layers = ['*.bias']\n",
    "compressed": "[compression]\nbits = 8\n",
    "hospital, distributed": "[privacy]\nunit = 'hospital'\nnoise_multiplier = 0.7\n",
    "hospital, central": "[privacy]\nunit = 'hospital'\nnoise = 'central'\n"
    "noise_multiplier = 0.7\n",
    "hospital, adaptive": "[privacy]\nunit = 'hospital'\nclipping = 'adaptive'\n"
    "noise_multiplier = 0.7\n",
    "example, local": "[privacy]\nunit = 'example'\nnoise = 'local'\nnoise_multiplier = 1.0\n",
    "example, distributed": "[privacy]\nunit = 'example'\nnoise = 'distributed'\n"
    "noise_multiplier = 1.0\n[training]\nlocal_steps = 1\n",
}
LEAVING = {
    "nobody": "",
    "before": "dropout = 0.2\n",
    "after": "unmask_dropout = 0.25\n",
    "both": "dropout = 0.15\nunmask_dropout = 0.15\n",
}


class Told(Observer):
    """What a run says first, and of whom it says that they were refused."""

    def __init__(self) -> None:
        self.first: list[str] = []
        self.refused: list[tuple[str, str, str]] = []

    def begins(self, lines: list[str]) -> None:
        self.first += lines

    def replied(self, hospital: str, step: str, reason: str | None) -> None:
        if reason is not None:
            self.refused.append((hospital, step, reason))


@pytest.fixture
def run(tmp_path: Path, net: type[Any]):
    """One run: the model's bytes, its lines, what was told; of one that fails its error instead."""

    class Pooled(net):  # type: ignore[misc]
        def load(self, path: Path | None) -> Examples:
            generator = torch.Generator().manual_seed(3)
            size = 30 * self.clients
            return Examples(
                torch.randn(size, 6, generator=generator),
                torch.randint(0, 3, (size,), generator=generator),
            )

    def one(masks: str, text: str, model: str = "dense", clients: int = CLIENTS, **more: Any):
        settings: dict[str, dict[str, Any]] = {
            "federation": {"runs": tmp_path / masks, "rounds": 2, "round_attempts": 4},
            "training": {"batch_size": 4, "lr": 0.3},
            "simulation": {"masks": masks, "clients": clients, "partition": "quantity"},
        }
        settings["federation"] |= {"retry_wait_s": 0.0, "min_clients": 3}
        settings["simulation"] |= {"min_examples": 3, "baselines": False, "alpha": 2.0}
        for key, value in more.items():
            table, name = key.split("__")
            settings[table][name] = value
        lines = [
            f"[{table}]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in values.items())
            for table, values in settings.items()
        ]
        whole = "".join(lines)
        for part in filter(None, text.split("[")):
            name, _, rest = part.partition("]\n")
            if f"[{name}]\n" in whole:
                whole = whole.replace(f"[{name}]\n", f"[{name}]\n{rest}")
            else:
                whole += f"[{name}]\n{rest}"
        task, told = Pooled(model), Told()
        task.clients = clients
        try:
            result = simulate(parse_config(whole), task=task, observer=told)
        except RoundFailed as error:
            return str(error).partition("; go on")[0], told
        model_bytes = (result.run_directory / "model" / "model.safetensors").read_bytes()
        rows = [
            {k: v for k, v in x.items() if not any(one in k for one in APART)}
            for x in result.rounds
        ]
        return model_bytes, rows, told

    return one


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str | Path) else str(value)


def equal(run: Any, text: str, **more: Any) -> Any:
    """Run both; the emulated one's outcome, which is the protocol's."""
    real, emulated = (run(masks, text, **more) for masks in ("protocol", "emulated"))
    assert emulated[:-1] == real[:-1]
    assert emulated[-1].refused == real[-1].refused
    assert EMULATED in emulated[-1].first and EMULATED not in real[-1].first
    return emulated


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("leaving", LEAVING)
def test_whoever_leaves(run, executor: str, leaving: str) -> None:
    text = f"[simulation]\nexecutor = '{executor}'\n{LEAVING[leaving]}"
    equal(run, text)


@pytest.mark.parametrize("executor", ["sequential", "cohort"])
@pytest.mark.parametrize("form", FORMS)
def test_whatever_is_private_or_kept(run, executor: str, form: str) -> None:
    text = f"{FORMS[form]}[simulation]\nexecutor = '{executor}'\ndropout = 0.1\n"
    equal(run, text)


@pytest.mark.parametrize("model", ["batchnorm", "counting", "conv"])
def test_whatever_the_model(run, model: str) -> None:
    """Of buffers, of forms that draw each client's dropout, of some that don't suit."""
    equal(run, "[simulation]\nexecutor = 'cohort'\n", model=model)
