"""Hospitals' processes and a server's rounds in one thread, joined without a network.

Everything is the product's own: kits, the signed description, the manifest in its two stages, the
responder, both mailboxes. What is missing is gRPC, and threads.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flwr.app import Message
from safetensors.numpy import load_file

from tests.joined import join
from tests.provisioning import hold_out_as_simulated
from wardround.client.privacy.ledger import Ledger
from wardround.client.process.main import HospitalProcess
from wardround.client.site.kit import Kit
from wardround.common.config.load import load_config
from wardround.common.config.task import make_task
from wardround.common.errors import WardroundError
from wardround.common.protocol import names as m
from wardround.common.protocol.manifest import ManifestRequest
from wardround.common.run.directory import RunDirectory
from wardround.common.trust.pki import now_utc
from wardround.server.app import run_study
from wardround.server.gathering.host import Host, KnownModel
from wardround.server.provision import kits as provision
from wardround.server.provision.kits import load_server_folder
from wardround.server.reception.manifest import ManifestSigner
from wardround.server.rounds.federation import FederationOutcome
from wardround.server.rounds.parts import FederationParts
from wardround.server.rounds.stepping import Answered
from wardround.server.transport.events import ServerEvents
from wardround.server.transport.grid import HospitalGrid
from wardround.server.transport.hall import Hall

_servers = itertools.count(1)


class Rounds(HospitalGrid):
    """A grid whose hospitals answer as soon as they are asked."""

    def __init__(self, run: str, spool: Path, processes: dict[str, HospitalProcess]) -> None:
        super().__init__(run, Hall(60.0, 1 << 28, spool, ServerEvents()))
        self._processes = processes
        self._settle: dict[str, Callable[[], None]] = {}
        for name, process in processes.items():
            self._settle[name] = join(self.link(name), process.connection)
            process.connected(f"{next(_servers):032x}")

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = list(super().push_messages(messages))
        for name, process in self._processes.items():
            self._settle[name]()
            process.own.responder.stop()
            process.own.responder.run()
            self._settle[name]()
        return ids

    def show(self, signed: bytes) -> None:
        """The manifest, to every hospital. Raises WardroundError with the first refusal."""
        for name in self._processes:
            link = self.link(name)
            link.admitted = False
            message = Message(ManifestRequest(signed).to_records(), link.node_id, m.MANIFEST)
            for reply in self.send_and_receive([message], timeout=5.0):
                if reply.has_error():
                    raise WardroundError(f"{name}: {reply.error.reason}")
                link.admitted = True


class Lives:
    """Hospitals of one federation that live as long as this object.

    file : federation.toml; ``data`` beside it holds a shard for each hospital
    """

    def __init__(self, file: Path, site: str, state: str = "lives") -> None:
        self._file, self._folder = file, file.parent
        made = provision.provision(load_config(file), now=now_utc())
        self.processes: dict[str, HospitalProcess] = {}
        for kit in sorted((made.folder / "kits").iterdir()):
            own = self._folder / state / kit.name
            shutil.copytree(kit, own)
            (own / "site.toml").write_text(site)
            hold_out_as_simulated(own, 1, kit.name)  # every life of a hospital holds out the same
            self.processes[kit.name] = HospitalProcess(Kit.open(own), self._shard(kit.name))
            self.processes[kit.name].witness.countersigned()  # as a server does at a connection

    def close(self) -> None:
        for process in self.processes.values():
            process.close()

    def site(self, text: str) -> None:
        """Other rules of every hospital."""
        for process in self.processes.values():
            process.kit.site_path.write_text(text)

    def run(self) -> dict[str, Any]:
        """A run by the present federation.toml: what came of it, but for times and names."""
        run = self.begin()
        self.go(run)
        return self._outcome(run)

    def begin(self) -> RunDirectory:
        """A new run's directory."""
        config = load_config(self._file)
        run = RunDirectory.create(self._folder / "runs", config.federation.name, config.to_toml())
        (run.path / "spool").mkdir()
        return run

    def again(self, name: str) -> None:
        """Another process of a hospital, in the place of one that was killed."""
        old = self.processes[name]
        old.close()
        self.processes[name] = HospitalProcess(Kit.open(old.kit.folder), self._shard(name))
        self.processes[name].witness.countersigned()

    def _shard(self, name: str) -> Path:
        return self._folder / "data" / f"{name}.csv"

    def go(self, run: RunDirectory) -> FederationOutcome | Answered:
        """A server's process for a run, be it the first one or another."""
        config = load_config(self._file)
        provision.provision(config, now=now_utc())
        folder = load_server_folder(config)
        for process in self.processes.values():
            if process.kit.description != folder.description:
                process.described(folder.description_path.read_bytes())
        grid = Rounds(run.path.name, run.path / "spool", self.processes)
        task = make_task(config)
        signer = ManifestSigner(
            config=config, task=task, run_name=run.path.name, identity=folder.identity
        )

        def known(model: KnownModel) -> None:
            grid.show(signer.signed(folder.description, model))

        grid.show(signer.signed(folder.description, None))
        parts = FederationParts(
            config=config,
            task=task,
            run_directory=run,
            roster=folder.description.hospitals,
            host=Host(on_model=known),
            identity=folder.identity,
        )
        return run_study(parts, grid)

    def _outcome(self, run: RunDirectory) -> dict[str, Any]:
        spent = {}
        for name, process in self.processes.items():
            with Ledger.open(process.kit.state / "ledger.sqlite", name) as ledger:
                entries = [one for one in ledger.entries() if one.run == run.path.name]
            spent[name] = [(x.unit, x.clipping_norm, x.releases) for x in entries]
        found: dict[str, Any] = {"spent": spent, "rounds": len(run.rounds())}
        found["figures"] = [row["overall"] for row in run.rounds()]
        # of a blind run the server has none
        blind = load_config(self._file).secure_aggregation.blind
        place = min(self.processes.values(), key=lambda one: one.kit.name).kit.folder
        model = load_file((place if blind else run.path) / "model" / "model.safetensors")
        found["model"] = {key: value.tolist() for key, value in model.items()}
        return found
