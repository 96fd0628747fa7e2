"""Clients that are never restarted, over two runs with other settings, with secure aggregation."""

from __future__ import annotations

from pathlib import Path

from tests.deployment.checks import assert_same_model, assert_sound
from tests.deployment.harness import Federation, Patch, federation, until
from wardround.common.config.load import load_config
from wardround.common.manifest.manifest import Manifest
from wardround.server.provision.kits import provision

SLOW: list[Patch] = [
    ("slow", {"place": "wardround.server.rounds.commits:write_checkpoint", "seconds": 0.3})
]


def test_a_second_run_is_by_its_own_settings_and_the_hospitals_edited_rules(
    tmp_path: Path, undisturbed_secure: Federation
) -> None:
    with federation(tmp_path, secure=True) as made:
        other = made.config.read_text()
        first = other.replace("lr = 0.1", "lr = 0.5").replace("rounds = 4", "rounds = 1")
        made.config.write_text(first)
        provision(load_config(made.config))
        made.start()
        made.finish()
        assert load_config(made.run / "config.toml").training.lr == 0.5
        processes = {name: client.pid for name, client in made.clients.items()}
        made.config.write_text(other)
        provision(load_config(made.config))
        made.start_server("--new", patches=SLOW)
        until(lambda: len(list((made.folder / "runs").iterdir())) == 2, "the second run")
        made.reach_round(1)
        site = made.kit("a") / "site.toml"
        site.write_text(site.read_text() + "# read again\n")
        made.finish()
        assert {name: client.pid for name, client in made.clients.items()} == processes
        assert_sound(made, rounds=4)
        told = [line["differ"] for line in made.audit("b") if line["event"] == "settings"]
        assert told == ["federation.rounds was 1, is 4, training.lr was 0.5, is 0.1"]
        run = made.run.name
        shown = [x for x in made.audit("a") if x["event"] == "manifest" and x["run"] == run]
        assert [one["stage"] for one in shown] == [1, 2, 2]
        plan = Manifest.from_body((made.run / "plan.json").read_bytes())
        assert {one["manifest"] for one in shown[1:]} == {plan.digest().hex()}
        assert any("site.toml was edited" in reason for reason in made.refusals("server"))
        assert_same_model(made, undisturbed_secure, secure=True)
