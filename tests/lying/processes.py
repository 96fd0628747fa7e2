"""Hospitals for a server that lies: real client processes, which dial this process's port.

Keys, port, grid and connections are the product's server's; what is asked is ``LyingServer``'s.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import Message

from tests.deployment.harness import federation, until
from tests.lying.hospitals import Study
from tests.lying.server import Ask, LyingServer
from wardround.common.config.load import load_config
from wardround.common.config.task import make_task
from wardround.common.flower.arrays import Arrays
from wardround.common.manifest.manifest import Manifest
from wardround.common.model.entries import SHARED, entries_of
from wardround.common.model.named import build_model, model_arrays
from wardround.common.protocol import names as m
from wardround.common.protocol.describe import DescribeReply, DescribeRequest
from wardround.common.protocol.manifest import ManifestRequest
from wardround.common.protocol.message import Content
from wardround.common.protocol.totals import Totals
from wardround.common.transport import tls
from wardround.common.trust.identity import Identity
from wardround.server.provision.kits import load_server_folder
from wardround.server.reception.certificate import Certificate
from wardround.server.reception.present_description import PresentDescription
from wardround.server.transport.events import ServerEvents
from wardround.server.transport.grid import HospitalGrid
from wardround.server.transport.hall import Hall
from wardround.server.transport.links import node_id_of
from wardround.server.transport.service import Door, Terms, open_port

_WITHIN_S = 60.0


@dataclass
class FarSite:
    """A hospital behind a connection."""

    name: str
    grid: HospitalGrid
    server: Identity

    def show(self, manifest: Manifest) -> str:
        request = ManifestRequest(manifest.signed(self.server)).to_records()
        answer = self.ask(m.MANIFEST, request)
        return answer if isinstance(answer, str) else ""

    def ask(self, kind: str, content: Content) -> Content | str:
        message = Message(content, node_id_of(self.name), kind)
        for reply in self.grid.send_and_receive([message], timeout=_WITHIN_S):
            return reply.error.reason or "no reason" if reply.has_error() else reply.content
        raise AssertionError(f"{self.name} doesn't answer {kind}")


@contextmanager
def far_study(folder: Path, names: tuple[str, ...] = ("a", "b", "c", "d")) -> Iterator[Study]:
    """Client processes of these hospitals, once they are connected and prepared."""
    with federation(folder, names=names, secure=True, rounds=3, attempts=1) as made:
        config = load_config(made.config)
        own = load_server_folder(config)
        (folder / "spool").mkdir()
        grid = HospitalGrid("lies", Hall(60.0, 1 << 26, folder / "spool", ServerEvents()))
        door = Door(
            grid.hall,
            Terms(instance=secrets.token_hex(16), heartbeat_s=0.4, most_bytes=1 << 26),
            description=PresentDescription(own),
            events=ServerEvents(),
            on_open=lambda name: None,
        )
        certificate = Certificate(own)
        credentials = tls.server_credentials(certificate.files, certificate.renewed)
        assert config.server.listen
        server, _, _ = open_port(door, config.server.listen, credentials, 32)
        try:
            for name in names:
                made.start_client(name)
            until(lambda: grid.hall.connected() == list(names), "the connections")
            for name in names:
                grid.link(name).admitted = True  # it asks whatever the hospital has accepted
            sites = {name: FarSite(name, grid, own.identity) for name in names}
            task = make_task(config)
            study = Study(config, task, own.description, sites, {}, {}, _nobody_knows)
            _prepare(study)
            yield study
        finally:
            door.goodbye("the test is over")
            server.stop(1.0).wait()


def _nobody_knows(name: str, kind: str, content: Content) -> Content:
    raise AssertionError("what a process would answer in plain isn't to be had")


def _prepare(study: Study) -> None:
    """An honest preparation, in a run of its own: sizes, totals, the first model."""
    server = LyingServer(study)
    weights: dict[str, int] = {}
    for name, site in study.sites.items():
        assert site.show(study.manifest("prepared")) == ""
        answer = site.ask(m.DESCRIBE, DescribeRequest(totals=Totals.of({})).to_records())
        assert not isinstance(answer, str), answer
        weights[name] = DescribeReply.from_records(answer).sizes["train"]
    study.weights = weights
    for phase in range(study.task.phases):
        asked: dict[str, Any] = {"step": "statistics", "number": phase, "run": "prepared"}
        assert server.play(Ask(**asked)) is not None, server.refusals
    study.totals = study.task.condense(server.totals)
    study.first = _first(study)


def _first(study: Study) -> Arrays:
    model = build_model(study.task, study.totals, study.config.federation.seed)
    return entries_of(study.config, model).only(model_arrays(model), *SHARED)
