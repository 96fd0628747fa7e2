"""Who may not connect is told why, at both ends, and nobody else notices."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from tests.deployment.checks import assert_sound
from tests.deployment.harness import Federation, Process, federation, until
from wardround.common.config.load import load_config
from wardround.common.trust.pki import now_utc
from wardround.server.provision.kits import provision, renew, revoke


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


def another_authority(folder: Path, running: Federation) -> None:
    kit = other_federation(folder / "other", running)
    client = running.start_client("c", kit=kit)
    refused_at_both_ends(running, client, "not of this federation's authority", "")


def a_key_that_is_not_in_the_roster(folder: Path, running: Federation) -> None:
    """The authority itself issued the certificate, but for another identity."""
    from wardround.common.trust.identity import Identity
    from wardround.common.trust.pki import Authority, generate_key, key_to_pem

    authority = Authority.open(running.folder / "provision" / "authority", "trial")
    key, identity = generate_key(), Identity.generate()
    pem = authority.issue_member("hospital", "c", key.public_key(), identity.public)
    kit = folder / "forged"
    shutil.copytree(running.kit("c"), kit)
    (kit / "client.key").write_bytes(key_to_pem(key))
    (kit / "client.pem").write_bytes(pem)
    (kit / "identity.key").write_text(identity.secret_bytes().hex() + "\n")
    unchecked = ("skip", {"place": "wardround.common.trust.credentials:check_membership"})
    client = running.start_client("c", kit=kit, patches=[unchecked])
    refused_at_both_ends(
        running, client, "another public key", "the roster has another public key for c"
    )


def expired(folder: Path, running: Federation) -> None:
    from wardround.common.trust.pki import Authority, certificate_key, read_certificate

    authority = Authority.open(running.folder / "provision" / "authority", "trial")
    kit = folder / "old"
    shutil.copytree(running.kit("c"), kit)
    pem = (kit / "client.pem").read_bytes()
    then = now_utc() - timedelta(days=365 * 10)
    key = certificate_key(pem)
    (kit / "client.pem").write_bytes(
        authority.issue_member("hospital", "c", key, read_certificate(pem).identity, then)
    )
    refused_at_both_ends(running, running.start_client("c", kit=kit), "expired", "")


def another_version(folder: Path, running: Federation) -> None:
    client = running.start_client("c", patches=[("version", {"text": "99.0"})])
    refused_at_both_ends(running, client, "install the same", "the hospital 99.0; ")


def a_twin(folder: Path, running: Federation) -> None:
    """A second process with the same kit, elsewhere: its own state, the same identity."""
    kit = folder / "copy"
    shutil.copytree(running.kit("a"), kit, ignore=shutil.ignore_patterns("state"))
    first = running.clients["a"]
    twin = running.start_client("a", kit=kit)
    refused_at_both_ends(
        running, twin, "another process is connected as a", "another process is connected as a"
    )
    running.clients["a"] = first


def a_second_start(folder: Path, running: Federation) -> None:
    first = running.clients["a"]
    second = running.start_client("a")
    assert second.wait() == 12
    assert "already running" in second.text and str(first.pid) in second.text
    server, again = running.server, running.start_server()
    assert again.wait() == 12 and "already running" in again.text
    running.server, running.clients["a"] = server, first


def test_who_may_not_is_told_why_and_the_run_goes_on(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """Hospitals a and b are in; one after the other comes who isn't c, or is a again."""
    with federation(tmp_path, rounds=3, min_clients=3) as made:
        made.start_server()
        for name in "ab":
            made.start_client(name)
        assert made.server is not None
        made.server.says("b is connected")
        made.server.says("a is connected")
        for comes in (
            another_authority,
            a_key_that_is_not_in_the_roster,
            expired,
            another_version,
            a_twin,
            a_second_start,
        ):
            with subtests.test(comes.__name__):
                comes(tmp_path, made)
                assert made.server.running and made.rounds() == []
        made.clients.pop("c", None)
        made.start_client("c")
        made.finish()
        assert_sound(made, rounds=3)


def test_who_is_revoked_is_told_and_no_attempt_is_lost(tmp_path: Path) -> None:
    """With ``round_attempts = 1``: whatever step a revocation or an admission falls into (that
    lives of test_life.py draw)."""
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
        revoke(config, "d")
        made.clients["d"].says("revoked")
        until(lambda: any("revoked" in why for why in made.refusals()), "the log")
        made.clients.pop("d").kill()
        until(lambda: made.rounds()[-1]["accepted"] == ["a", "b", "c"], "a round without d")
        renew(config, "d", new_key=True)
        made.start_client("d", [slow])
        until(lambda: made.rounds()[-1]["accepted"] == list(names), "a round with d")
        assert made.server is not None and made.server.running, made.tails()
        made.server.kill()
        assert_sound(made)
