"""What many tests share: a task to calculate by hand, and a way to run a federation."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from torch import Tensor, nn

from tests import postgres
from tests.unlike import Consortium, make_consortium
from wardround.client.app import create_client_app
from wardround.client.data import splitting
from wardround.client.data.hospital import Hospital, Keys, Place
from wardround.client.data.shard import OwnShard
from wardround.client.privacy.book import SharedBook
from wardround.common.config.load import Config, parse_config
from wardround.common.errors import reason_of
from wardround.common.figures.sums import Sums
from wardround.common.privacy.noise import NoiseSource
from wardround.common.run.directory import RunDirectory
from wardround.common.tasks.base import Examples, Task
from wardround.common.trust.identity import Identity
from wardround.server.app import run_federation
from wardround.server.gathering.host import Host
from wardround.server.observer import Observer
from wardround.server.rounds.federation import FederationOutcome
from wardround.server.rounds.parts import FederationParts
from wardround.simulations.clients import Clients
from wardround.simulations.executors import Executor
from wardround.simulations.grid import InProcessGrid
from wardround.simulations.population.hospitals import create_ledger
from wardround.simulations.population.identities import fresh_identities

ROOT = Path(__file__).parent.parent


class Line(Task[Examples]):
    """y = w x with loss (w x - y)^2 / 2: gradients are (w x - y) x, to be done by hand.

    With ``norm`` there is a batch normalisation before it.
    """

    primary_metric = "loss"
    higher_is_better = False

    def __init__(self, start: float = 0.0, features: int = 1, norm: bool = False) -> None:
        self.start, self.features, self.norm = start, features, norm

    def load(self, path: Path | None) -> Examples:
        x = torch.arange(1.0, 41.0).view(-1, 1)
        return Examples(x / 40, (x[:, 0] > 20).float())

    def model(self, totals: Sums) -> nn.Module:
        linear = nn.Linear(self.features, 1, bias=False)
        nn.init.constant_(linear.weight, self.start)
        return nn.Sequential(nn.BatchNorm1d(self.features), linear) if self.norm else linear

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] - targets) ** 2 / 2

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        losses = self.loss(outputs, targets).double()
        return {
            "loss": losses.sum().reshape(1).numpy(),
            "examples": np.array([float(len(losses))]),
        }

    def summarise(self, sums: Sums) -> dict[str, float]:
        return {"loss": float(sums["loss"][0]) / max(1.0, float(sums["examples"][0]))}


@dataclass
class Recorder(Observer):
    """Keeps what an observer is told."""

    refusals: list[tuple[str, str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def replied(self, hospital: str, step: str, reason: str | None) -> None:
        if reason is not None:
            self.refusals.append((hospital, step, reason))

    def round_failed(self, server_round: int, attempt: int, reason: str) -> None:
        self.failures.append(reason)

    def round_committed(self, row: dict[str, Any]) -> None:
        self.rows.append(row)


@dataclass
class Run:
    """A finished federation and what was observed."""

    outcome: FederationOutcome
    directory: RunDirectory
    recorder: Recorder
    grid: InProcessGrid

    def weight(self, name: str = "weight") -> float:
        """The only value of a one-element parameter."""
        return float(self.outcome.model[name].reshape(-1)[0])


Shards = dict[str, Examples]
Federate = Callable[..., Run]


def examples(x: list[float], y: list[float]) -> Examples:
    """One feature per row."""
    return Examples(torch.tensor(x).view(-1, 1), torch.tensor(y))


@pytest.fixture
def exact_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of exactly their fractions, first the test rows and last the validation rows: for tests
    of other things, with hospitals of a few rows or of equal ones."""
    monkeypatch.setattr(
        splitting, "places", lambda key, rows: (np.arange(len(rows)) + 0.5) / len(rows)
    )


@pytest.fixture
def shards() -> Shards:
    """Two hospitals of unequal size with different optima."""
    return {"a": examples([1.0, 2.0, 1.0], [1.0, 2.0, 3.0]), "b": examples([1.0], [-1.0])}


@pytest.fixture
def settings() -> Callable[[str], Config]:
    """A configuration from TOML text: full batches, one local epoch, no held-out rows, and every
    reply visible to the server (tests of secure aggregation switch it on)."""

    def make(text: str = "") -> Config:
        defaults = [
            "federation.min_clients=1",
            "federation.rounds=1",
            "data.test_fraction=0.0",
            "training.lr=0.1",
            "training.batch_size=1000",
            "secure_aggregation.enabled=false",
        ]
        given = tomllib.loads(text)
        kept = [
            d
            for d in defaults
            if d.split("=")[0].split(".")[1] not in given.get(d.split(".")[0], {})
        ]
        return parse_config(text, kept)

    return make


@pytest.fixture
def federate(tmp_path: Path) -> Federate:
    """Run a federation in process: federate(config, shards, task=..., app=..., run=...).

    A hospital keeps its identity within a test; ``server_config`` makes the server's configuration
    another one than the hospitals'. ``executor`` runs our own app, ``groups`` allows one message
    for many. ``book`` is where hospitals have their ledgers together. ``host`` makes the host of
    the live roster, which hospitals have as well.
    """
    identities: dict[str, Identity] = {}

    def run(
        config: Config,
        shards: Shards,
        task: Task[Any] | None = None,
        wrap: Callable[[ClientApp], Callable[[Message, Context], Message]] | None = None,
        intercept: Any = None,
        directory: RunDirectory | None = None,
        grid: InProcessGrid | None = None,
        server_config: Callable[[Config], Config] = lambda config: config,
        executor: Executor | None = None,
        groups: bool = True,
        host: Callable[[dict[str, bytes]], Host] = lambda roster: Host(),
        book: Path | None = None,
    ) -> Run:
        task = task or Line()
        identities.update(fresh_identities([name for name in shards if name not in identities]))
        roster = {name: identities[name].public for name in shards}
        hospitals = {
            name: Hospital(
                OwnShard(name, task, config, lambda shard=shard: shard),  # type: ignore[misc]
                keys=Keys(identities[name], roster),
                place=Place(simulated=True),
            )
            for name, shard in shards.items()
        }
        shared = SharedBook(book) if book is not None else None
        for hospital in hospitals.values() if config.privacy.enabled else []:
            hospital.ledger_path = tmp_path / f"{hospital.name}.sqlite"
            hospital.book = shared
            create_ledger(hospital)

        def open_hospital(context: Context) -> Hospital:
            return hospitals[str(context.node_config["hospital"])]

        app: Any = create_client_app(open_hospital, outward=reason_of)
        if executor is not None:
            clients = Clients(list(shards), hospitals=open_hospital, intercept=intercept)
            grid = InProcessGrid(clients, executor)
            grid.answers_cohorts = groups
        app = wrap(app) if wrap else app
        grid = grid or InProcessGrid(Clients(list(shards), app=app, intercept=intercept))
        directory = directory or RunDirectory.create(tmp_path, "test", config.to_toml())
        recorder = Recorder()
        parts = FederationParts(
            config=server_config(config),
            task=task,
            run_directory=directory,
            observer=recorder,
            roster=roster,
            make_source=lambda number: NoiseSource.seeded(
                config.federation.seed, "central", number
            ),
            host=host(roster),
        )
        try:
            outcome = run_federation(parts, grid)
        except BaseException as error:
            error.recorder, error.directory = recorder, directory  # type: ignore[attr-defined]
            error.grid = grid  # type: ignore[attr-defined]
            raise
        return Run(outcome, directory, recorder, grid)

    return run


@pytest.fixture
def line() -> type[Line]:
    """The task class, for tests that need its options."""
    return Line


@pytest.fixture(scope="session")
def unlike(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Consortium]:
    """Hospitals that differ, by task kind (``tests.unlike.MAKERS``): written once, not to be
    changed; runs belong elsewhere (``config(..., runs=tmp_path)``)."""
    place = tmp_path_factory.mktemp("unlike")
    return cache(lambda kind: make_consortium(kind, place / kind))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[postgres.PostgreSQL]:
    """The session's own PostgreSQL. What wants it is in ``xdist_group("postgresql")``, so that one
    worker starts it. Skips, with the command that brings it, where it isn't installed."""
    if postgres.programs() is None:
        pytest.skip(f"PostgreSQL isn't installed: {postgres.BRING}")
    with postgres.running() as server:
        yield server


@pytest.fixture
def data_folder() -> Path:
    """Real data for tests; skips where it is absent."""
    folder = Path(os.environ.get("WARDROUND_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set WARDROUND_DATA")
    return folder
