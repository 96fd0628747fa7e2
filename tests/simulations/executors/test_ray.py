"""Simulations on a Ray cluster of two nodes, one of which is lost; what is refused there."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError
from wardround.server.observer import Observer
from wardround.simulations.executors.on_ray import Recipe, check_ray, on_ray
from wardround.simulations.executors.on_ray.actor import RayActor
from wardround.simulations.executors.workers import spread
from wardround.simulations.executors.workers.parcel import Parcel
from wardround.simulations.population.hospitals import Population
from wardround.simulations.run.simulate import Result, simulate

# Ray leaves pipes and processes of its own to the garbage collector, and tells of its future
pytestmark = pytest.mark.filterwarnings("ignore")

BASE = [
    "federation.rounds=2",
    "federation.seed=5",
    "simulation.clients=6",
    "simulation.min_examples=10",
    "simulation.baselines=false",
]
TASK = """
import os
import time
from pathlib import Path
from wardround.common.tasks.tabular import TabularTask

FOLDER = Path({folder!r})

class Held(TabularTask):
    # while there is a file 'hold', whoever computes a loss says so and waits
    def loss(self, outputs, targets):
        if (FOLDER / "hold").exists():
            (FOLDER / f"held-{{os.getpid()}}").touch()
            while (FOLDER / "hold").exists():
                time.sleep(0.02)
        return super().loss(outputs, targets)
"""


class TwoNodes:
    """A head and another node, with a CPU each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        self.other: Any = self.cluster.add_node(num_cpus=1)
        self.address: str = self.cluster.address


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    pytest.importorskip("ray", reason="Ray is not installed; pip install 'wardround[ray]'")
    nodes = TwoNodes()
    yield nodes
    nodes.cluster.shutdown()


def run(tmp_path: Path, settings: list[str], observer: Observer | None = None) -> Result:
    overrides = [*BASE, f"federation.runs='{tmp_path}'", *settings]
    return simulate(parse_config("", overrides), observer=observer)


def cluster(nodes: TwoNodes) -> list[str]:
    return ["simulation.executor=ray", f"simulation.ray_address='{nodes.address}'"]


def same(one: Result, other: Result, personal: bool = False) -> None:
    """One model; ``personal``: one of each hospital's own."""
    hospitals = [f"hospital-{number}" for number in range(1, 7)] if personal else [None]
    for hospital in hospitals:
        ours, theirs = (
            (found.model if hospital is None else found.model_of(hospital)).state_dict()
            for found in (one, other)
        )
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[name].numpy(), theirs[name].numpy()) for name in ours)
    for row, expected in zip(one.rounds, other.rounds, strict=True):
        assert row["accepted"] == expected["accepted"] and not row["refused"]
        for split, figures in row["overall"].items():
            assert figures == pytest.approx(expected["overall"][split], rel=1e-5)


@pytest.fixture
def small_tasks(monkeypatch) -> None:
    """So small that six clients are tasks for both actors."""
    monkeypatch.setattr(spread, "MOST_CLIENTS_A_TASK", 2)
    monkeypatch.setattr(spread, "MESSAGES_A_TASK", 2)


def test_it_is_what_processes_give(nodes, tmp_path: Path, small_tasks) -> None:
    """What clients remember travels with their messages: SCAFFOLD's, personal layers, masks."""
    settings = [
        "strategy.name=scaffold",
        "strategy.personal_layers=['bias']",
        "secure_aggregation.enabled=true",
    ]
    same(
        run(tmp_path, [*settings, *cluster(nodes)]),
        run(tmp_path, [*settings, "simulation.executor=processes"]),
        personal=True,
    )


def test_a_node_that_is_lost_in_a_round_costs_time_only(nodes, tmp_path: Path, small_tasks) -> None:
    (tmp_path / "held.py").write_text(TASK.format(folder=str(tmp_path)))
    settings = [
        "secure_aggregation.enabled=false",
        f"task.name='{tmp_path}/held.py:Held'",
        "federation.rounds=3",
    ]
    undisturbed = run(tmp_path, [*settings, "simulation.executor=processes"])

    class Losing(Observer):
        """After the first round: when both nodes are at work on the next, one goes."""

        warned: list[str] = []

        def round_committed(self, row: dict[str, Any]) -> None:
            if row["round"] == 1:
                (tmp_path / "hold").touch()
                self.thread = threading.Thread(target=self.lose)
                self.thread.start()

        def lose(self) -> None:
            until_s = time.monotonic() + 60
            while len(list(tmp_path.glob("held-*"))) < 2 and time.monotonic() < until_s:
                time.sleep(0.05)
            nodes.cluster.remove_node(nodes.other)
            (tmp_path / "hold").unlink()

        def warnings(self, lines: list[str]) -> None:
            self.warned += lines

    observer = Losing()
    disturbed = run(tmp_path, [*settings, *cluster(nodes)], observer)
    observer.thread.join()
    same(disturbed, undisturbed)
    assert len(list(tmp_path.glob("held-*"))) == 2
    assert any("a Ray actor ended with ActorDiedError" in line for line in observer.warned)


# --- without a cluster ----------------------------------------------------------------------------
@pytest.fixture
def config() -> Callable[..., Config]:
    return lambda *settings: parse_config("", ["simulation.executor=ray", *settings])


@pytest.mark.parametrize(
    ("settings", "own_task", "message"),
    [
        (
            [],
            True,
            "can't send a task or model that is an object of this process; name it by task.name",
        ),
        (["privacy.unit=hospital", "privacy.noise_multiplier=1.0"], False, "[privacy]"),
        (["training.device='cuda:1'"], False, "use 'cpu' or 'cuda'"),
        (["simulation.ray_address='127.0.0.1:1'"], False, "no Ray cluster at '127.0.0.1:1' ("),
    ],
)
def test_what_cant_be_on_a_cluster_is_refused(
    config, monkeypatch, settings, own_task, message
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ConfigError) as caught:
        check_ray(config(*settings), own_task)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_without_ray_the_extra_is_named(config, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'wardround\[ray\]'"):
        simulate(config())


def test_an_address_is_a_host_and_a_port() -> None:
    with pytest.raises(ConfigError, match="simulation.ray_address"):
        parse_config("", ["simulation.ray_address='ray://somewhere'"])


def test_an_actor_makes_the_hospitals_of_the_recipe_with_their_keys(config, tmp_path: Path) -> None:
    settings = config("secure_aggregation.enabled=true", "simulation.clients=4")
    population = Population(settings, make_task(settings))
    recipe = Recipe.from_bytes(Recipe.of(population).to_bytes())
    assert recipe.population().roster == population.roster
    _, reason = RayActor(recipe.to_bytes()).open()
    assert reason == ""


def test_an_actor_says_what_is_missing_on_its_machine(config, tmp_path: Path) -> None:
    for name in ("north", "south"):
        (tmp_path / f"{name}.csv").write_text("age,died\n60,0\n70,1\n")
    settings = config(f"data.path='{tmp_path}'", "task.columns.target=died")
    recipe = Recipe.of(Population(settings, make_task(settings)))
    (tmp_path / "south.csv").unlink()
    assert "gives other hospitals here" in RayActor(recipe.to_bytes()).open()[1]
    (tmp_path / "north.csv").unlink()
    assert "no hospital in this folder" in RayActor(recipe.to_bytes()).open()[1]
    other = Recipe(recipe.config, recipe.names, {}, "0.0.1")
    assert "the simulation's is 0.0.1; install the same" in RayActor(other.to_bytes()).open()[1]


def test_a_parcel_is_the_same_as_bytes_and_in_a_file(tmp_path: Path) -> None:
    parcel = Parcel([], [])
    parcel.write(tmp_path / "parcel")
    assert (tmp_path / "parcel").read_bytes() == parcel.to_bytes()
    assert Parcel.from_bytes(parcel.to_bytes()) == parcel


def test_nothing_is_started_before_there_is_work(config) -> None:
    settings = config("simulation.clients=4", "secure_aggregation.enabled=false")
    executor = on_ray(Recipe.of(Population(settings, make_task(settings))), settings)
    executor.close()
    assert executor.notes() == [] and isinstance(executor, spread.Spread)
