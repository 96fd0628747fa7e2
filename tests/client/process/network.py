"""A network's hospitals in this process, and its studies' rounds, joined without gRPC.

Kits, signatures, manifests, mailboxes, the hospitals' process and its children are the product's
own. A study's rounds run in whatever thread calls ``run``; hospitals answer in it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from flwr.app import Message, RecordDict

from tests.joined import join
from wardround.client.process.main import HospitalProcess
from wardround.client.process.studies import Studies
from wardround.client.site.kit import Kit, ResearcherKit
from wardround.client.site.terms import Data
from wardround.common.config.load import load_config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import WardroundError
from wardround.common.manifest.manifest import Manifest
from wardround.common.protocol import names as m
from wardround.common.protocol.errors import Code
from wardround.common.protocol.manifest import ManifestRequest
from wardround.common.protocol.results import StudyEnded
from wardround.common.run.directory import RunDirectory
from wardround.common.study.study import SignedStudy, Study
from wardround.common.trust.pki import now_utc
from wardround.server.app import run_federation
from wardround.server.gathering.host import Host, KnownModel
from wardround.server.provision import kits as provision
from wardround.server.reception.manifest import preparation_manifest, training_manifest
from wardround.server.rounds.parts import FederationParts
from wardround.server.transport.events import ServerEvents
from wardround.server.transport.grid import HospitalGrid
from wardround.server.transport.hall import Hall

NETWORK = """
[federation]
name = "trusts"
[server]
hospitals = ["north", "south", "east"]
researchers = ["anna", "bert"]
[network]
"""
STUDY = """
[study]
name = "{name}"
purpose = "Does the first number tell who is ill?"
hospitals = {hospitals}
[federation]
rounds = {rounds}
min_clients = {fewest}
{task}
[secure_aggregation]
enabled = {secure}
{more}
"""
TASK = """[task.columns]
target = "{target}"
numeric = ["first", "second"]
patient_id = "patient"
"""
SITE = 'require_secure_aggregation = false\napproval = "always"\n'
HOSPITALS = ("east", "north", "south")


def write_rows(path: Path, seed: int, rows: int) -> None:
    """Unlike hospitals: another number of rows, another mean, another share of the ill."""
    generator = np.random.default_rng(seed)
    lines = ["first,second,patient,ill,old"]
    for number in range(rows):
        x, y = generator.normal(seed % 3, 1 + seed % 2, size=2)
        ill = int(x - 0.5 * y + generator.normal() > seed % 3)
        lines.append(f"{x:.4f},{y:.4f},p{seed}-{number // 2},{ill},{int(y > seed % 3)}")
    path.write_text("\n".join(lines) + "\n")


class Network:
    """A provisioned network whose hospitals' processes live in this one.

    site : rules of every hospital
    clock : what hospitals take for the time
    """

    def __init__(self, folder: Path, site: str = SITE, data: bool = True) -> None:
        self.folder, self.clock = folder, [now_utc()]
        (folder / "network.toml").write_text(NETWORK)
        config = load_config(folder / "network.toml")
        made = provision.provision(config, now=now_utc())
        self.server = provision.load_server_folder(config)
        kits = made.folder / "kits"
        self.researchers = {name: ResearcherKit.open(kits / name) for name in ("anna", "bert")}
        self.kits = {name: kits / name for name in HOSPITALS}
        self.hall = Hall(60.0, 1 << 28, folder, ServerEvents())
        self.turn, self._servers = threading.RLock(), itertools.count(1)
        self.processes: dict[str, HospitalProcess] = {}
        self.settle: dict[str, Callable[[], None]] = {}
        for number, name in enumerate(HOSPITALS):
            write_rows(folder / f"{name}.csv", number + 1, 30 + 10 * number)
            (self.kits[name] / "site.toml").write_text(site)
            self.start(name, data)

    def start(self, name: str, data: bool = True) -> None:
        """A hospital's process, from what is on its disk."""
        shard = Data(self.folder / f"{name}.csv") if data else Data(none=True)
        process = HospitalProcess(Kit.open(self.kits[name]), shard, now=lambda: self.clock[0])
        self.processes[name] = process
        self.connect(name)

    def connect(self, name: str) -> None:
        """A connection, to what says that it is another server."""
        process, line = self.processes[name], HospitalGrid("any", self.hall).link(name)
        self.settle[name] = join(line, process.connection)
        process.connected(f"{next(self._servers):032x}")
        process.witness.countersigned()

    def close(self) -> None:
        for process in self.processes.values():
            process.close()

    def studies(self, name: str) -> Studies:
        return self.processes[name].studies

    def study(
        self,
        name: str = "sepsis",
        researcher: str = "anna",
        hospitals: tuple[str, ...] = HOSPITALS,
        target: str = "ill",
        rounds: int = 2,
        secure: bool = False,
        more: str = "",
        task: str = "",
    ) -> SignedStudy:
        """A study that a researcher has signed and the server has accepted.

        task : its table; '' for the rows that hospitals have here, and ``target``
        """
        fewest, description = len(hospitals), self.server.description
        text = STUDY.format(
            name=name,
            hospitals=list(hospitals),
            rounds=rounds,
            fewest=fewest,
            task=task or TASK.format(target=target),
            secure=str(secure).lower(),
            more=more,
        )
        study = Study.of(parse_config(text), description, researcher, now=now_utc())
        submission = study.signed(self.researchers[researcher].identity)
        return submission.accepted(self.server.identity, now_utc())

    def running(self, signed: SignedStudy, again: str = "") -> StudyRounds:
        """The server's half of a study. ``again``: of another server."""
        return StudyRounds(self, signed, again)


class StudyRounds(HospitalGrid):
    """A study's grid, whose hospitals answer as soon as they are asked."""

    def __init__(self, network: Network, signed: SignedStudy, again: str = "") -> None:
        study = signed.study
        super().__init__(study.run + again, network.hall, study.id)
        self.network, self.signed = network, signed
        self.config = study.config(network.server.description)
        self.again, self.refusal = again, Code.FAILED
        self.between: Callable[[], None] = _nothing
        for name in study.hospitals:
            self.link(name)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        network = self.network
        self.between()
        with network.turn:
            ids = list(super().push_messages(messages))
        for name in HOSPITALS:
            with network.turn:
                network.settle[name]()
                work = network.studies(name).works.get(self.study)
            if work is not None:
                work.responder.stop()
                work.responder.run()
            with network.turn:
                network.settle[name]()
        return ids

    def manifest(self) -> Manifest:
        """Stage 1 of the study's plan."""
        study = self.signed.study
        description, task = self.network.server.description, make_task(self.config)
        return preparation_manifest(self.config, task, description, study.run, study)

    def show(self, manifest: Manifest, to: Iterable[str] = ()) -> None:
        """A plan, to every hospital. Raises WardroundError with the first refusal."""
        signed, study = manifest.signed(self.network.server.identity), self.signed
        for name in to or study.study.hospitals:
            link = self.link(name)
            link.admitted = False
            content = ManifestRequest(signed, study.to_bytes()).to_records()
            message = Message(content, link.node_id, m.MANIFEST)
            for reply in self.send_and_receive([message], timeout=5.0):
                if reply.has_error():
                    self.refusal = Code(reply.error.code)
                    raise WardroundError(f"{name}: {reply.error.reason}")
                link.admitted = True

    def ask(self, name: str, content: RecordDict, kind: str) -> Message:
        """One request; its reply."""
        link = self.link(name)
        link.admitted = True
        (reply,) = self.send_and_receive([Message(content, link.node_id, kind)], timeout=5.0)
        return reply

    def end(self, state: str, reason: str = "") -> None:
        """Tell every hospital that the study is over."""
        for name in self.signed.study.hospitals:
            ended = StudyEnded(self.study, state, reason).to_records()
            assert not self.ask(name, ended, m.STUDY_ENDED).has_error()

    def train(self) -> bytes:
        """The whole run: the model's bytes."""
        earlier, study = self.manifest(), self.signed.study
        every = self.network.server.description.hospitals
        self.show(earlier)
        made = RunDirectory.create(self.network.folder / "new", study.run, self.config.to_toml())
        path = self.network.folder / f"runs{self.again}"
        path.mkdir(exist_ok=True)
        run = RunDirectory.open(made.path.rename(path / study.run))

        def known(model: KnownModel) -> None:
            self.show(training_manifest(earlier, model))

        parts = FederationParts(
            config=self.config,
            task=make_task(self.config),
            run_directory=run,
            roster={one: every[one] for one in study.hospitals},
            host=Host(on_model=known),
        )
        run_federation(parts, self)
        return (run.path / "model" / "model.safetensors").read_bytes()


def _nothing() -> None:
    """Between two requests."""
