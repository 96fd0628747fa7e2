"""Who may not connect is told why, at both ends, and nobody else notices."""

from __future__ import annotations

import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests.deployment.checks import assert_sound
from tests.deployment.harness import Federation, Process, federation, until
from wardround.common.config.load import load_config
from wardround.common.trust.pki import now_utc
from wardround.server.provision.kits import provision, renew, revoke


@pytest.fixture
def running(tmp_path: Path) -> Federation:
    """Hospitals a and b are in; the third is the test's to try."""
    with federation(tmp_path, rounds=3, min_clients=3) as made:
        made.start_server()
        for name in "ab":
            made.start_client(name)
        assert made.server is not None
        made.server.says("b is connected")
        made.server.says("a is connected")
        yield made


def go_on(made: Federation) -> None:
    """With the true c the run ends as it should."""
    made.clients.pop("c", None)
    made.start_client("c")
    made.finish()
    assert_sound(made, rounds=3)


def other_federation(folder: Path, made: Federation, toml: str = "") -> Path:
    """Kits of another consortium with the same names, at the same address."""
    folder.mkdir()
    text = made.config.read_text().replace("wait_s = 30.0", "wait_s = 30.0\n" + toml)
    (folder / "federation.toml").write_text(text)
    provision(load_config(folder / "federation.toml"))
    return folder / "provision" / "kits" / "c"


def refused_at_both_ends(made: Federation, client: Process, theirs: str, ours: str) -> None:
    """The hospital says ``theirs``; the server's audit log has ``ours``."""
    client.says(theirs)
    if ours:
        until(lambda: any(ours in reason for reason in made.refusals()), f"'{ours}' in the log")
    client.kill()


def test_another_authority(tmp_path: Path, running: Federation) -> None:
    kit = other_federation(tmp_path / "other", running)
    client = running.start_client("c", kit=kit)
    refused_at_both_ends(running, client, "not of this federation's authority", "")
    go_on(running)


def test_a_key_that_is_not_in_the_roster(tmp_path: Path, running: Federation) -> None:
    """The authority itself issued the certificate, but for another identity."""
    from wardround.common.trust.identity import Identity
    from wardround.common.trust.pki import Authority, generate_key, key_to_pem

    authority = Authority.open(running.folder / "provision" / "authority", "trial")
    key, identity = generate_key(), Identity.generate()
    pem = authority.issue_member("hospital", "c", key.public_key(), identity.public)
    kit = tmp_path / "forged"
    shutil.copytree(running.kit("c"), kit)
    (kit / "client.key").write_bytes(key_to_pem(key))
    (kit / "client.pem").write_bytes(pem)
    (kit / "identity.key").write_text(identity.secret_bytes().hex() + "\n")
    unchecked = ("skip", {"place": "wardround.common.trust.credentials:check_membership"})
    client = running.start_client("c", kit=kit, patches=[unchecked])
    refused_at_both_ends(
        running, client, "another public key", "the roster has another public key for c"
    )
    go_on(running)


def test_expired(tmp_path: Path, running: Federation) -> None:
    from wardround.common.trust.pki import Authority, certificate_key, read_certificate

    authority = Authority.open(running.folder / "provision" / "authority", "trial")
    kit = tmp_path / "old"
    shutil.copytree(running.kit("c"), kit)
    pem = (kit / "client.pem").read_bytes()
    then = now_utc() - timedelta(days=365 * 10)
    key = certificate_key(pem)
    (kit / "client.pem").write_bytes(
        authority.issue_member("hospital", "c", key, read_certificate(pem).identity, then)
    )
    client = running.start_client("c", kit=kit)
    client.says("expired")
    go_on(running)


def test_another_version(running: Federation) -> None:
    client = running.start_client("c", patches=[("version", {"text": "99.0"})])
    refused_at_both_ends(running, client, "install the same", "the hospital 99.0; ")
    go_on(running)


def test_a_twin(tmp_path: Path, running: Federation) -> None:
    """A second process with the same kit, elsewhere: its own state, the same identity."""
    kit = tmp_path / "copy"
    shutil.copytree(running.kit("a"), kit, ignore=shutil.ignore_patterns("state"))
    first = running.clients["a"]
    twin = running.start_client("a", kit=kit)
    refused_at_both_ends(
        running, twin, "another process is connected as a", "another process is connected as a"
    )
    running.clients["a"] = first
    go_on(running)


def test_a_second_start(running: Federation) -> None:
    first = running.clients["a"]
    second = running.start_client("a")
    assert second.wait() == 12
    assert "already running" in second.text and str(first.pid) in second.text
    server, again = running.server, running.start_server()
    assert again.wait() == 12 and "already running" in again.text
    running.server, running.clients["a"] = server, first
    go_on(running)


def test_revoked_while_it_runs(tmp_path: Path) -> None:
    slow = (
        "slow",
        {"place": "wardround.client.process.responder:Responder._run_app", "seconds": 0.1},
    )
    with federation(tmp_path, rounds=900, min_clients=2) as made:
        made.start(clients={name: [slow] for name in made.names})
        made.reach_round(1)
        revoke(load_config(made.config), "c")
        made.clients["c"].says("revoked")
        until(lambda: any("revoked" in reason for reason in made.refusals()), "the log")
        until(lambda: "c" not in made.rounds()[-1]["accepted"], "a round without c")
        last = made.rounds()[-1]["round"]
        until(lambda: made.rounds()[-1]["round"] > last + 1, "rounds without c")
        assert made.server is not None
        made.server.kill()
        made.clients.pop("c").kill()
        assert_sound(made)


def test_members_change_all_the_time_and_no_attempt_is_left(tmp_path: Path) -> None:
    """With ``round_attempts = 1``: whatever step a revocation or an admission falls into."""
    slow = (
        "slow",
        {"place": "wardround.client.process.responder:Responder._run_app", "seconds": 0.05},
    )
    names = ("a", "b", "c", "d")
    with federation(
        tmp_path, names=names, rounds=900, min_clients=3, secure=True, attempts=1
    ) as made:
        made.start(clients={name: [slow] for name in names})
        made.reach_round(1)
        config = load_config(made.config)
        for number in range(2):
            time.sleep(0.17 * number)
            revoke(config, "d")
            made.clients.pop("d").kill()
            until(lambda: made.rounds()[-1]["accepted"] == ["a", "b", "c"], "a round without d")
            renew(config, "d", new_key=True)
            made.start_client("d", [slow])
            until(lambda: made.rounds()[-1]["accepted"] == list(names), "a round with d")
        assert made.server is not None and made.server.running, made.tails()
        made.server.kill()
        assert_sound(made)
