"""Emulated masks give what the protocol gives: the same model, byte for byte, the same figures, the
same refusals and failures; in every executor, whoever drops out, whatever is private.

Compared are whole runs of ``simulate``, that differ in ``simulation.masks`` alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from wardround.client.data.hospital import Place
from wardround.common.errors import ConfigError, RoundFailed
from wardround.common.flower.hosting import HostGrid
from wardround.common.secagg.encoding import VectorLayout
from wardround.common.secagg.graph import neighbours
from wardround.common.secagg.messages import TaskRequest
from wardround.common.settings import EMULATED
from wardround.common.tasks.base import Examples
from wardround.server.app import run_federation
from wardround.server.observer import Observer
from wardround.server.rounds.parts import FederationParts
from wardround.server.secagg.emulated import EmulatedGroup, EmulatedSum
from wardround.server.transport.grid import HospitalGrid
from wardround.simulations import parse_config, simulate
from wardround.simulations.clients import Clients
from wardround.simulations.grid import InProcessGrid
from wardround.simulations.population.hospitals import Population
from wardround.simulations.population.masks import Masks, masks_of, recorded
from wardround.simulations.run.begun import new_run

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


@pytest.mark.parametrize("model", ["batchnorm", "counting", "shifted", "conv"])
def test_whatever_the_model(run, model: str) -> None:
    """Of buffers that move and that stay, of forms that draw dropout, of some that don't suit."""
    equal(run, "[simulation]\nexecutor = 'cohort'\n", model=model)


def test_virtual_clients_are_masked_by_emulation(tmp_path: Path, net: type[Any]) -> None:
    """And what the sum says is what plain sums say, to the rounding of the ring."""

    class Pooled(net):  # type: ignore[misc]
        def load(self, path: Path | None) -> Examples:
            generator = torch.Generator().manual_seed(3)
            return Examples(
                torch.randn(400, 6, generator=generator),
                torch.randint(0, 3, (400,), generator=generator),
            )

    models = []
    for enabled in ("true", "false"):
        text = (
            f"[federation]\nruns = '{tmp_path / enabled}'\nrounds = 2\nclients_per_round = 20\n"
            "[training]\nbatch_size = 4\nlr = 0.3\n[evaluation]\nclients = 30\n"
            "[simulation]\npartition = 'virtual'\nclients = 5000\nbaselines = false\n"
            f"executor = 'cohort'\n[secure_aggregation]\nenabled = {enabled}\n"
        )
        models.append(simulate(parse_config(text), task=Pooled("dense")).model.state_dict())
    for name, value in models[0].items():
        assert torch.allclose(value, models[1][name], atol=1e-4), name


@pytest.mark.parametrize(
    ("text", "masks", "told"),
    [
        ("[secure_aggregation]\nblind = true\n", "protocol", "needs the real protocol"),
        ("", "emulated", EMULATED),
        ("[simulation]\nmasks = 'protocol'\n", "protocol", ""),
        ("[secure_aggregation]\nenabled = false\n", "none", ""),
    ],
)
def test_of_many_clients_masks_are_emulated_unless(text: str, masks: str, told: str) -> None:
    config = parse_config(text)
    found = masks_of(config, 65)
    assert found.kind == masks and (told in found.told[0] if told else not found.told)
    assert masks_of(config, 64).kind in ("protocol", "none") and not masks_of(config, 64).told


def test_a_run_of_both_kinds_of_rounds_is_told_as_emulated() -> None:
    """``simulation.masks`` doesn't shape the model, so ``--resume`` may change it."""
    (real, emulated) = (Masks(kind, []) for kind in ("protocol", "emulated"))
    assert recorded(real, {}) == recorded(real, {"masks": "protocol"}) == "protocol"
    assert recorded(emulated, {}) == recorded(emulated, {"masks": "protocol"}) == "emulated"
    assert recorded(real, {"masks": "emulated"}) == "emulated"


def test_what_needs_the_protocol_refuses_emulation_by_its_key() -> None:
    config = parse_config("[secure_aggregation]\nblind = true\n[simulation]\nmasks = 'emulated'\n")
    with pytest.raises(ConfigError, match="simulation.masks: 'emulated' isn't for .*blind"):
        masks_of(config, 5)


def test_a_hospital_with_keys_knows_no_emulated_group(tmp_path: Path, net: type[Any]) -> None:
    """A server that asks real hospitals for an emulated sum gets no vector: here from hospitals
    that have keys, by a grid that says that it emulates."""

    class Pooled(net):  # type: ignore[misc]
        def load(self, path: Path | None) -> Examples:
            return Examples(torch.randn(90, 6), torch.randint(0, 3, (90,)))

    config = parse_config(f"[federation]\nruns = '{tmp_path}'\nround_attempts = 1\n")
    task = Pooled("dense")
    population = Population(config, task)
    clients = Clients(population.names, hospitals=population.open)
    told = Told()
    parts = FederationParts(
        config=config,
        task=task,
        run_directory=new_run(config),
        observer=told,
        roster=population.roster,
        keep_journal=False,
    )
    with pytest.raises(RoundFailed, match="doesn't know that group"):
        run_federation(parts, InProcessGrid(clients, emulates_masks=True))


def test_no_grid_between_machines_emulates() -> None:
    """Nothing that a server is configured with, or sends, says so: it is a fact of the host."""
    assert not HostGrid.emulates_masks
    assert not Place().emulates_masks
    assert not HospitalGrid.emulates_masks and "emulates_masks" not in vars(HospitalGrid)


@given(st.integers(70, 200), st.integers(0, 2**32), st.floats(0.0, 0.4), st.floats(0.0, 1.0))
@example(80, 1, 0.0, 1.0)  # nobody helps
def test_what_opens_an_emulated_sum_is_what_opens_one_with_keys(
    clients: int, seed: int, gone: float, silent: float
) -> None:
    """On the ring of more than 64: each secret that the sum needs has its threshold of holders that
    help, counted neighbour by neighbour."""
    config = parse_config("")
    names = [f"h{number:03d}" for number in range(clients)]
    group = EmulatedGroup(names, config, seed.to_bytes(8, "big"))
    task = TaskRequest(group.id, 0, "train 1", 32, 8.0, 1, 0)
    masked = EmulatedSum(group, task, VectorLayout.of({}, {}))
    generator = np.random.default_rng(seed)
    uploaded = [i for i in range(clients) if generator.random() >= gone]
    masked.survivors = set(uploaded)
    helping = [names[i] for i in uploaded if generator.random() >= silent]
    for name in helping:
        masked.add_shares(name, b"")
    assume(not group.gap(uploaded))
    near = neighbours(tuple(names), group.limits.degree, seed.to_bytes(8, "big"))
    came = {i: sum(names[j] in helping for j in [i, *near[i]]) for i in range(clients)}
    needed = [i for i in range(clients) if i in uploaded or set(near[i]) & set(uploaded)]
    assert masked.enough() == all(came[i] >= group.limits.threshold for i in needed)
