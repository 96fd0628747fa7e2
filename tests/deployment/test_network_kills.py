"""kill -9 of a network's server, of a hospital, and of what computes there, at every event of a
study's life: it ends once, with the model that an undisturbed network gives."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.deployment.harness import Patch
from tests.deployment.network import StandingNetwork, standing
from tests.deployment.network_checks import assert_network_sound
from tests.deployment.network_words import ALL, MASKED
from tests.deployment.test_kills import deaths

STORE, STUDIES = "wardround.server.studies.store:StudyStore", "wardround.server.network.studies"
SERVER = {
    "is submitted": dict(place=f"{STORE}.submit", when="after"),
    "before it waits": dict(place=f"{STORE}.change", has="'waiting')"),
    "it waits": dict(place=f"{STORE}.change", has="'waiting')", when="after"),
    "its events are told": dict(place=f"{STORE}.audited", count=2),
    "a hospital has accepted": dict(place=f"{STORE}.decide", has="'accepted'", count=2),
    "before it is queued": dict(place=f"{STORE}.change", has="'queued')"),
    "is queued": dict(place=f"{STORE}.change", has="'queued')", when="after"),
    "is claimed": dict(place=f"{STUDIES}:Studies._begin"),
    "collects": dict(
        place="wardround.server.transport.links:Link.arrived", has="type='train'", count=2
    ),
    "before a commit": dict(place="wardround.server.rounds.commits:write_checkpoint", count=2),
    "after a commit": dict(
        place="wardround.server.rounds.commits:write_checkpoint", count=1, when="after"
    ),
    "before its package": dict(place=f"{STUDIES}:make_package"),
    "has its package": dict(place=f"{STUDIES}:make_package", when="after"),
    "before it is complete": dict(place=f"{STORE}.change", has="'complete')"),
    "is complete": dict(place=f"{STORE}.change", has="'complete')", when="after"),
    "delivers": dict(place="wardround.server.network.deliverer:Deliverer._one", count=2),
    "before a delivery is noted": dict(place=f"{STORE}.deliver"),
    "a delivery is noted": dict(place=f"{STORE}.deliver", when="after", count=2),
}
RESPONDER = "wardround.client.process.responder:Responder"
FOLDERS, RESULTS = "wardround.client.site.studies:StudyFolders", "wardround.common.results.staging"
CLIENT = {
    "before it is kept": dict(place=f"{FOLDERS}.keep"),
    "is kept": dict(place=f"{FOLDERS}.keep", when="after"),
    "before it is accepted": dict(place="wardround.client.site.approval:Approvals.accept"),
    "is accepted": dict(place="wardround.client.site.approval:Approvals.accept", when="after"),
    "trains": dict(place=f"{RESPONDER}._run_app", has="type='train'"),
    "has trained": dict(place=f"{RESPONDER}._run_app", has="type='train'", when="after"),
    "keeps its answer": dict(
        place="wardround.client.process.answers:Answers.keep", has="type='train'"
    ),
    "has kept it": dict(
        place="wardround.client.process.answers:Answers.keep", has="type='train'", when="after"
    ),
    "sends it": dict(
        place="wardround.common.transport.mailbox:Mailbox._chunk", has="type='train'", when="after"
    ),
    "takes results": dict(place=f"{RESULTS}:Staging.put", count=2),
    "has its results": dict(place=f"{RESULTS}:Staging.finish", when="after"),
    "before it ends": dict(place=f"{FOLDERS}.end"),
    "before it is burnt": dict(place=f"{FOLDERS}.burn"),
    "is burnt": dict(place=f"{FOLDERS}.burn", when="after"),
}
SUITE = (
    *("is claimed", "before a commit", "before a delivery is noted"),
    *("is kept", "has kept it", "before it is burnt"),
)
"""With the suite."""


def supervise(
    made: StandingNetwork,
    done: Callable[[], bool],
    patches: dict[str, list[Patch]],
    most_s: float = 120,
) -> int:
    """Start again whatever was killed, until ``done``; how often."""
    kills, deadline = 0, time.monotonic() + most_s
    while not done():
        assert time.monotonic() < deadline, f"not done\n{made.tails()}"
        for name, process in {**made.servers, **made.clients}.items():
            if process.code is None:
                continue
            assert process.code == -9, f"{name} ended with {process.code}\n{made.tails()}"
            kills += 1
            if name in made.servers:
                made.start_server(name, patches.get("server"))
            else:
                made.start_client(name, patches.get(name))
        time.sleep(0.02)
    return kills


def test_server_and_hospital_die_at_every_event_of_two_studies(
    tmp_path: Path, undisturbed_studies: dict[str, bytes]
) -> None:
    with standing(tmp_path) as made:
        server = {one: SERVER[one] for one in SERVER if ALL or one in SUITE}
        client = {one: CLIENT[one] for one in CLIENT if ALL or one in SUITE}
        patches = {
            "server": deaths(server, tmp_path, "server"),
            "north": deaths(client, tmp_path, "north"),
        }
        made.start_server(patches=patches["server"])
        for name in made.names:
            made.start_client(name, patches.get(name))
        studies = [made.study("plain-1"), made.study("masked-1", **MASKED)]
        kills = 0
        for study in studies:
            kills += supervise(made, lambda study=study: made.submitted(study), patches)
        ids = [study.id for study in studies]
        with made.store() as store:
            kills += supervise(made, lambda: made.is_delivered(*ids, store=store), patches)
        died = [path.name for path in tmp_path.glob("*.died")]
        assert len(died) == kills == len(server) + len(client), sorted(died)
        assert_network_sound(made, undisturbed_studies)
