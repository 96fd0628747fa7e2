"""The example app: the same components, on Flower's own engine, give the same model."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from wardround.common.durable.tensors import read_tensors
from wardround.common.flower.arrays import Arrays
from wardround.common.flower.hosting import RUN_ID, SERVER_NODE_ID
from wardround.simulations import simulate
from wardround.simulations.clients import Clients
from wardround.simulations.grid import InProcessGrid

EXAMPLE = Path(__file__).parents[2] / "examples" / "flower"
PRIVATE = ("privacy.unit=example", "privacy.noise_multiplier=1.0")


@pytest.fixture
def apps(monkeypatch):
    """(server app, client app) as the example's pyproject names them."""
    monkeypatch.syspath_prepend(EXAMPLE)
    named = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    loaded = []
    for kind in ("serverapp", "clientapp"):
        module, _, name = named["components"][kind].partition(":")
        __import__(module)
        loaded.append(getattr(sys.modules[module], name))
    return loaded


def run_config(tmp_path: Path, *more: str) -> dict[str, str]:
    sets = ["federation.rounds=2", f'federation.runs="{tmp_path / "flower"}"', *more]
    return {"federation": "", "overrides": ";".join(sets)}


def models(tmp_path: Path, *more: str) -> tuple[Arrays, Arrays]:
    runs = (path for path in (tmp_path / "flower").iterdir() if not path.name.startswith("."))
    (run,) = (path for path in runs if path.is_dir())
    sets = ["federation.rounds=2", f'federation.runs="{tmp_path / "ours"}"', *more]
    ours = simulate(overrides=[*sets, "simulation.baselines=false"])
    paths = [path / "model" / "model.safetensors" for path in (run, ours.run_directory)]
    return read_tensors(paths[0])[0], read_tensors(paths[1])[0]


@pytest.mark.parametrize("more", [(), PRIVATE], ids=["plain", "private"])
def test_the_examples_apps_run_in_our_grid_and_give_the_same_model(apps, tmp_path, more) -> None:
    server, client = apps
    config = run_config(tmp_path, *more)
    grid = InProcessGrid(
        Clients([f"hospital-{i}" for i in range(1, 6)], app=client, run_config=config)
    )
    server(grid, Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), config))
    theirs, ours = models(tmp_path, *more)
    for name, value in ours.items():
        np.testing.assert_array_equal(theirs[name], value)


@pytest.mark.filterwarnings("ignore")  # ray's and flwr's own
@pytest.mark.parametrize("more", [(), PRIVATE], ids=["plain", "private"])
def test_flowers_own_engine_gives_the_same_model(apps, tmp_path, monkeypatch, more) -> None:
    pytest.importorskip("ray", reason="Flower's simulation engine needs ray: the bench extra")
    from flwr.simulation import run_simulation

    server, client = apps
    config = run_config(tmp_path, *more)
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLE))

    def configured(context: Context) -> Context:
        """run_simulation gives contexts no run configuration, and lets nobody change theirs."""
        return Context(context.run_id, context.node_id, context.node_config, context.state, config)

    class Client(ClientApp):
        def __call__(self, message, context):
            return client(message, configured(context))

    wrapped = ServerApp()
    wrapped.main()(lambda grid, context: server(grid, configured(context)))
    run_simulation(wrapped, Client(), 5, backend_config={"client_resources": {"num_cpus": 1}})
    theirs, ours = models(tmp_path, *more)
    for name, value in ours.items():
        np.testing.assert_allclose(theirs[name], value, rtol=1e-6, atol=1e-7)
