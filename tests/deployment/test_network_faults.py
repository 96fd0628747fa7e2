"""Faults of a network, each by itself: what is taken away comes back, and each study ends once."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests.deployment.harness import Patch, until
from tests.deployment.network import StandingNetwork, alive, standing
from tests.deployment.network_checks import assert_network_sound
from tests.deployment.network_words import ALL, MASKED
from tests.postgres import PostgreSQL
from wardround.common.trust.pki import now_utc
from wardround.server.provision.kits import revoke

QUICK: list[Patch] = [
    ("constant", {"place": "wardround.server.network.deliverer:_AGAIN_S", "value": 0.5}),
    ("constant", {"place": "wardround.server.network.studies:_AGAIN_S", "value": 1.0}),
    ("constant", {"place": "wardround.server.reception.admission:_AGAIN_S", "value": 0.3}),
]
"""What is waited for in use for half a minute."""
SLOW: list[Patch] = [
    ("slow", {"place": "wardround.client.process.responder:Responder._run_app", "seconds": 0.1})
]
Models = dict[str, bytes]
thorough = pytest.mark.skipif(not ALL, reason="one of the faults of `make chaos`: FAULTS=all")


def begin(made: StandingNetwork, *more: Patch) -> None:
    """A server and slow hospitals."""
    made.start_server(patches=[*QUICK, *more])
    for name in made.names:
        made.start_client(name, SLOW)


@thorough
def test_a_standby_goes_on_and_a_leader_that_was_frozen_stands_by(
    tmp_path: Path, undisturbed_studies: Models
) -> None:
    with standing(tmp_path) as made:
        begin(made)
        made.servers["first"].says("leads the network")
        made.start_server("second", QUICK).says("standing by")
        ids = [made.submit(made.study("plain-1")), made.submit(made.study("masked-1", **MASKED))]
        for id in ids:
            made.reach_round(id, 1)
        made.servers["first"].kill()
        made.servers["second"].says("leads the network")
        made.start_server("first", QUICK).says("standing by")
        for id in ids:
            made.reach_round(id, 2)
        made.servers["second"].signal(signal.SIGSTOP)
        time.sleep(1.5)  # longer than the lease
        made.servers["second"].signal(signal.SIGCONT)
        made.servers["first"].says("leads the network")
        made.delivered(*ids)
        assert made.servers["second"].running
        assert_network_sound(made, undisturbed_studies)
        with made.store() as store:
            kinds = [one.kind for id in ids for one in store.events(id)]
        assert "claim" in kinds  # a study was gone on with


@pytest.mark.xdist_group("postgresql")
@thorough
def test_a_database_that_goes_away_and_comes_back(
    tmp_path: Path, undisturbed_studies: Models, postgresql: PostgreSQL
) -> None:
    with standing(tmp_path, database=postgresql.fresh()) as made:
        begin(made)
        id = made.submit(made.study("plain-1"))
        made.reach_round(id, 1)
        postgresql.stop()
        time.sleep(2.5)  # longer than every lease
        postgresql.start()
        made.delivered(id)
        assert_network_sound(made, undisturbed_studies)


@thorough
def test_a_researcher_who_is_revoked_in_mid_study(
    tmp_path: Path, undisturbed_studies: Models
) -> None:
    with standing(tmp_path) as made:
        begin(made)
        gone = made.submit(made.study("mine-1", "bert", rounds=200))
        kept = made.submit(made.study("plain-1"))
        made.reach_round(gone, 1)
        revoke(made.config, "bert")
        made.reach(gone, "aborted")
        made.delivered(gone, kept)
        assert made.row(kept).state == "complete"
        assert_network_sound(made, undisturbed_studies)


@thorough
def test_a_plan_of_other_settings_than_the_study_is_refused(tmp_path: Path) -> None:
    with standing(tmp_path) as made:
        lie: Patch = ("lie_in_manifest", {"rounds": 300})
        made.start_server(patches=[*QUICK, lie])
        for name in made.names:
            made.start_client(name)
        id = made.submit(made.study("plain-1"))

        def refused() -> bool:
            with made.store() as store:
                said = store.decisions(id)
            return all(one.word == "rejected" and "rounds" in one.reason for one in said)

        until(refused, f"all hospitals to refuse\n{made.tails()}")
        made.abort(id)
        made.delivered(id)
        assert_network_sound(made, {})


@thorough
def test_the_end_date_passes_in_mid_study(tmp_path: Path) -> None:
    with standing(tmp_path) as made:
        begin(made)
        ends = (now_utc() + timedelta(seconds=9)).isoformat(timespec="seconds")
        id = made.submit(made.study("long-1", rounds=500, ends=ends))
        made.reach_round(id, 1)
        made.reach(id, "expired")
        made.delivered(id)
        assert_network_sound(made, {})


def test_disks_are_full_while_rounds_are_kept_and_results_are_made_and_delivered(
    tmp_path: Path, undisturbed_studies: Models
) -> None:
    with standing(tmp_path) as made:
        begin(
            made,
            *full("wardround.server.rounds.commits:write_checkpoint", 1),
            *full("wardround.server.results.package:write_atomically"),
        )
        for name, place in {
            "east": "wardround.common.results.staging:write_atomically",
            "north": "wardround.client.results.receiver:write_left",
            "south": "wardround.client.site.studies:write_private",
        }.items():
            made.clients[name].kill()
            made.start_client(name, [*SLOW, *full(place)])
        id = made.submit(made.study("plain-1"))
        made.delivered(id)
        assert made.row(id).state == "complete"
        assert_network_sound(made, undisturbed_studies)


def full(place: str, after: int = 0) -> list[Patch]:
    """A disk that is full at a place, twice."""
    return [("fail_writes", {"place": place, "count": 2, "after": after})]


@thorough
def test_a_process_that_computes_dies_in_mid_training(
    tmp_path: Path, undisturbed_studies: Models
) -> None:
    with standing(tmp_path) as made:
        begin(made)
        ids = [made.submit(made.study("plain-1")), made.submit(made.study("masked-1", **MASKED))]
        for number in (1, 2):
            made.reach_round(ids[0], number)
            for child in made.children("north"):
                os.kill(child, signal.SIGKILL)
        children = until(lambda: made.children("east"), "children")
        made.clients["east"].kill()
        until(lambda: not any(map(alive, children)), "the children of a hospital to end with it")
        made.start_client("east", SLOW)
        made.delivered(*ids)
        assert_network_sound(made, undisturbed_studies)
