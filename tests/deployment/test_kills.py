"""kill -9 of the server or a hospital in every phase: the undisturbed run's model comes out. What
both kinds of run do is tried with the masked ones."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.deployment.checks import assert_same_model, assert_sound
from tests.deployment.harness import Federation, Patch, federation

SERVER_PLAIN = {
    "configure": dict(place="wardround.server.rounds.round:RoundRunner._train_requests", count=1),
    "after commit": dict(
        place="wardround.server.rounds.commits:write_checkpoint", count=1, when="after"
    ),
    "final": dict(place="wardround.server.rounds.finishing:write_preparation"),
}
CLIENT_PLAIN = {
    "statistics": dict(
        place="wardround.client.process.responder:Responder._run_app", has="type='query.statistics'"
    ),
    "before the answer is kept": dict(
        place="wardround.client.process.answers:Answers.keep", has="type='train'", count=2
    ),
    "after it was kept": dict(
        place="wardround.client.process.answers:Answers.keep", has="type='train'", when="after"
    ),
}


def deaths(points: dict[str, dict[str, object]], folder: Path, who: str) -> list[Patch]:
    """A process dies at each of the points, one after the other, once each."""
    return [
        ("die", {**point, "once": str(folder / f"{who}-{name.replace(' ', '-')}.died")})
        for name, point in points.items()
    ]


def supervise(made: Federation, patches: dict[str, list[Patch]], most_s: float = 120) -> int:
    """Start again whatever was killed, until the run is complete; returns how often."""
    kills, deadline = 0, time.monotonic() + most_s
    made.start(patches.get("server"), {name: patches.get(name, []) for name in made.names})
    while True:
        assert time.monotonic() < deadline, made.tails()
        assert made.server is not None
        if made.server.code == 0:
            return kills
        for name, process in {"server": made.server, **made.clients}.items():
            if process.code is None:
                continue
            assert process.code == -9, f"{name} ended with {process.code}\n{made.tails()}"
            kills += 1
            if name == "server":
                made.start_server(patches=patches.get(name))
            else:
                made.start_client(name, patches.get(name))
        time.sleep(0.02)


def test_the_server_dies_in_every_phase(tmp_path: Path, undisturbed: Federation) -> None:
    with federation(tmp_path) as made:
        kills = supervise(made, {"server": deaths(SERVER_PLAIN, tmp_path, "server")})
        assert kills == len(SERVER_PLAIN)
        assert_sound(made, rounds=4)
        assert_same_model(made, undisturbed)


def test_a_hospital_dies_in_every_phase(tmp_path: Path, undisturbed: Federation) -> None:
    with federation(tmp_path) as made:
        kills = supervise(made, {"b": deaths(CLIENT_PLAIN, tmp_path, "b")})
        assert kills == len(CLIENT_PLAIN)
        assert_sound(made, rounds=4)
        assert_same_model(made, undisturbed)


SERVER_SECURE = {
    "hello": dict(place="wardround.server.transport.links:Link.arrived", has="type='query.hello'"),
    "keys": dict(place="wardround.server.transport.links:Link.arrived", has="type='query.keys'"),
    "collect": dict(
        place="wardround.server.transport.links:Link.arrived", has="type='train'", count=2
    ),
    "unmask": dict(
        place="wardround.server.transport.links:Link.arrived", has="type='query.unmask'", count=2
    ),
    "all unmasked": dict(
        place="wardround.server.transport.links:Link.arrived",
        has="type='query.unmask'",
        count=3,
        when="after",
    ),
    "before commit": dict(place="wardround.server.rounds.commits:write_checkpoint", count=2),
}
CLIENT_SECURE = {
    "group": dict(
        place="wardround.client.process.responder:Responder._run_app", has="type='query.group'"
    ),
    "keys": dict(
        place="wardround.client.process.responder:Responder._answer",
        has="type='query.keys'",
        when="after",
    ),
    "training": dict(
        place="wardround.client.process.responder:Responder._run_app", has="type='train'"
    ),
    "written down": dict(
        place="wardround.client.process.responder:Responder._answer",
        has="type='train'",
        when="after",
    ),
    "upload": dict(
        place="wardround.common.transport.mailbox:Mailbox._chunk", has="type='train'", when="after"
    ),
    "unmask": dict(
        place="wardround.client.process.responder:Responder._run_app", has="type='query.unmask'"
    ),
    "unmasked": dict(
        place="wardround.client.process.responder:Responder._answer",
        has="type='query.unmask'",
        when="after",
    ),
}


@pytest.mark.parametrize(("who", "points"), [("server", SERVER_SECURE), ("b", CLIENT_SECURE)])
def test_death_in_every_phase_of_secure_aggregation(
    tmp_path: Path, undisturbed_secure: Federation, who: str, points: dict[str, dict[str, object]]
) -> None:
    with federation(tmp_path, secure=True) as made:
        kills = supervise(made, {who: deaths(points, tmp_path, who)})
        assert kills == len(points)
        assert_sound(made, rounds=4)
        assert_same_model(made, undisturbed_secure, secure=True)
