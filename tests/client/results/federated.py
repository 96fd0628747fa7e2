"""A run over unlike hospitals in this process, its package, and its way to a kit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import Context

from tests.unlike import Consortium
from wardround.client.app import create_client_app
from wardround.client.data.hospital import Hospital, Keys, Place
from wardround.client.data.shard import OwnShard
from wardround.client.results.own import own_figures
from wardround.client.results.receiver import Receiver
from wardround.common.audit.log import AuditLog
from wardround.common.config.task import make_task
from wardround.common.results.staging import Expected
from wardround.common.run.directory import RunDirectory
from wardround.common.trust.identity import Identity
from wardround.server.app import run_federation
from wardround.server.gathering.host import Host
from wardround.server.observer import Observer
from wardround.server.results.deliver import Delivery, deliveries
from wardround.server.results.package import make_package, package_of
from wardround.server.rounds.parts import FederationParts
from wardround.simulations.clients import Clients
from wardround.simulations.grid import InProcessGrid

SERVER = Identity.from_bytes(bytes(range(32)))
STUDY = "ab" * 32


@dataclass(frozen=True)
class Federated:
    """A complete run. ``hospitals``: by name, each with its own model folder."""

    run: RunDirectory
    hospitals: dict[str, Hospital]

    def messages(self) -> list[Delivery]:
        """What its server sends to each hospital."""
        folder = make_package(self.run, SERVER, network="unlike", study=STUDY)
        return list(deliveries(folder, package_of(folder, SERVER.public), 4 << 20))

    def expected(self) -> Expected:
        """What a hospital takes."""
        return Expected(SERVER.public, "unlike", STUDY, self.run.path.name, 1 << 30)

    def receiver(
        self,
        kit: Path,
        audit: AuditLog,
        figures: Callable[[Path], Any] | None = None,
        name: str = "",
    ) -> Receiver:
        """Of a hospital's process; ``figures``: instead of the own ones of hospital ``name``."""
        own = figures or (lambda folder: own_figures(self.hospitals[name], folder))
        return Receiver(kit / "results", audit, self.expected, own)


def federated(consortium: Consortium, folder: Path, *overrides: str) -> Federated:
    """Run it."""
    config = consortium.config("secure_aggregation.enabled=false", *overrides, runs=folder)
    task = make_task(config)
    names = consortium.names()
    identities = {name: Identity.generate() for name in names.values()}
    roster = {name: one.public for name, one in identities.items()}
    hospitals = {}
    for path in sorted((consortium.folder / "hospitals").iterdir()):
        name = names[path.name if path.is_dir() else path.stem]
        hospitals[name] = Hospital(
            OwnShard(name, task, config, lambda path=path: task.load(path)),  # type: ignore[misc]
            keys=Keys(identities[name], roster),
            place=Place(simulated=True, model_folder=folder / "kits" / name / "model"),
        )

    def here(context: Context) -> Hospital:
        return hospitals[str(context.node_config["hospital"])]

    run = RunDirectory.create(folder / "runs", "unlike", config.to_toml())
    run.keep_plan(b'{"stage":2}')
    parts = FederationParts(
        config=config,
        task=task,
        run_directory=run,
        observer=Observer(),
        roster=roster,
        host=Host(),
    )
    run_federation(parts, InProcessGrid(Clients(list(hospitals), app=create_client_app(here))))
    return Federated(run, hospitals)
