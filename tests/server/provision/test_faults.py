"""Provisioning: what is lost or wrong has a sentence, and a crash at any moment loses nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.provisioning import NOW, TWO, federation, kits
from wardround.client.site import enroll
from wardround.client.site.kit import Kit
from wardround.common.config.load import Config, load_config
from wardround.common.errors import ProvisionError
from wardround.common.trust import pki
from wardround.common.trust.credentials import identity_text
from wardround.common.trust.identity import Identity
from wardround.server.provision import kits as p
from wardround.server.provision.registry import only_one


def mistakes() -> list[tuple[str, Callable[[Path], object], str]]:
    def at(name: str, do: Callable[[Path], object]) -> Callable[[Path], object]:
        return lambda folder: do(folder / name)

    def unlink(path: Path) -> None:
        path.unlink()

    return [
        ("ca.key", at("authority/ca.key", unlink), "ca.key: no such file; restore it"),
        ("ca.key mode", at("authority/ca.key", lambda x: x.chmod(0o644)), "chmod 600"),
        ("authority", at("authority", shutil.rmtree), "authority: no such folder.*restore it"),
        ("record", at("authority/issued.jsonl", unlink), "lacks certificates that .* knows of"),
        ("server.key mode", at("server/server.key", lambda x: x.chmod(0o644)), "chmod 600"),
        (
            "signed",
            at("authority/federation.signed", lambda x: x.write_bytes(b"x")),
            "not a signed description",
        ),
        (
            "action",
            at(
                "authority/issued.jsonl",
                lambda x: x.write_text(x.read_text().replace('"issued"', '"given"')),
            ),
            "issued.jsonl:1: unknown action",
        ),
    ]


@pytest.mark.parametrize(("what", "do", "message"), mistakes(), ids=[m[0] for m in mistakes()])
def test_what_is_lost_is_not_made_up(
    tmp_path: Path, what: str, do: Callable[[Path], object], message: str
) -> None:
    config = federation(tmp_path)
    p.provision(config, now=NOW)
    do(tmp_path / "provision")
    with pytest.raises(ProvisionError, match=message) as caught:
        p.provision(config, now=NOW)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_another_federation_needs_another_folder(tmp_path: Path) -> None:
    config = federation(tmp_path)
    p.provision(config, now=NOW)
    other = load_config(tmp_path / "federation.toml", ["federation.name=lung"])
    with pytest.raises(ProvisionError, match="'heart', not of 'lung'.*own server.folder"):
        p.provision(other, now=NOW)
    with pytest.raises(ProvisionError, match="'heart', and federation.toml is of 'lung'"):
        p.load_server_folder(other, NOW)


def test_the_servers_folder_is_checked_like_a_kit(tmp_path: Path) -> None:
    config = federation(tmp_path)
    with pytest.raises(ProvisionError, match="no such folder; run wardround provision FILE first"):
        p.load_server_folder(config, NOW)
    p.provision(config, now=NOW)
    folder = tmp_path / "provision" / "server"
    for name, data, message in [
        ("server.key", pki.key_to_pem(pki.generate_key()), "server.key: not the key that"),
        ("identity.key", identity_text(Identity.generate()), "identity.key: not the identity"),
        ("server.pem", (kits(config) / "north" / "client.pem").read_bytes(), "where a server's"),
        ("ca.pem", b"", "ca.pem: not one certificate"),
    ]:
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(data)
        with pytest.raises(ProvisionError, match=message):
            p.load_server_folder(config, NOW)
        (folder / name).write_bytes(kept)
    for name in ("server.key", "identity.key"):
        (folder / name).chmod(0o604)
        with pytest.raises(ProvisionError, match=f"chmod 600 .*{name}"):
            p.load_server_folder(config, NOW)
        (folder / name).chmod(0o600)
    assert p.load_server_folder(config, NOW)


def test_a_damaged_kit_keeps_no_revocation_from_the_server(tmp_path: Path) -> None:
    config = federation(tmp_path)
    p.provision(config, now=NOW)
    (kits(config) / "north" / "client.key").chmod(0o644)
    done = p.revoke(config, "south", NOW)
    assert p.load_server_folder(config, NOW).description == done.description
    assert any("chmod 600" in note for note in done.notes)


def test_one_command_at_a_time(tmp_path: Path) -> None:
    config = federation(tmp_path)
    with only_one(tmp_path / "provision"):
        with pytest.raises(ProvisionError, match="another wardround provision is at work"):
            p.provision(config, now=NOW)
    p.provision(config, now=NOW)


def test_a_folder_that_cant_be_written_is_named(tmp_path: Path) -> None:
    config = federation(tmp_path)
    (tmp_path / "provision").write_text("a file")
    with pytest.raises(ProvisionError, match="provision: can't be made"):
        p.provision(config, now=NOW)


def test_a_torn_line_of_the_record_is_no_certificate(tmp_path: Path) -> None:
    config = federation(tmp_path)
    p.provision(config, now=NOW)
    record = tmp_path / "provision" / "authority" / "issued.jsonl"
    with open(record, "a") as file:
        file.write('{"time": "2026-03-04T12:00:00+00:00", "action": "iss')
    done = p.add(config, "west", NOW)
    assert set(done.description.hospitals) == {*TWO, "west"}
    assert not p.provision(config, now=NOW).changed


def test_a_record_of_before_there_were_versions_is_read_and_a_newer_line_is_never_passed_over(
    tmp_path: Path,
) -> None:
    config = federation(tmp_path)
    p.provision(config, now=NOW)
    record = tmp_path / "provision" / "authority" / "issued.jsonl"
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    assert all(row.pop("format") and row.pop("version") == 1 for row in rows)
    record.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert not p.provision(config, now=NOW).changed
    revoked = rows[-1] | {"action": "revoked", "why": "lost"}
    for row, what in ((revoked, "holds 'why'"), (revoked | {"version": 2}, "has version 2")):
        record.write_text("".join(json.dumps(one) + "\n" for one in [*rows, row]))
        with pytest.raises(ProvisionError, match=f"jsonl:{len(rows) + 1}: .*{what}.*; install"):
            p.provision(config, now=NOW)


# --- a crash at any moment -----------------------------------------------------------------------
class Crash(BaseException):
    """The process is gone."""


@contextmanager
def crash_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> Iterator[list[int]]:
    """Let ``steps`` durable steps of the disk happen, and no more; counts those that did."""
    done = [0]

    def counted(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            if done[0] >= steps:
                raise Crash
            done[0] += 1
            return None if name == "fsync" else real(*args, **kwargs)

        return step

    with monkeypatch.context() as patch:
        for name in ("replace", "rename", "fsync"):
            patch.setattr(os, name, counted(name))
        yield done


def everything_fits(config: Config) -> None:
    """The server starts, and so does every hospital that the server would let in."""
    server = p.load_server_folder(config, NOW)
    for name in server.description.hospitals:
        if (kits(config) / name / "client.key").exists():
            kit = Kit.open(kits(config) / name, NOW)
            assert kit.description == server.description


def run(command: str, folder: Path) -> None:
    """A command of the federation in ``folder``, as whoever lost patience with it repeats it."""
    config = load_config(folder / "coordinator" / "federation.toml")
    if command == "enroll":
        request = enroll.request("east", folder / "own")
        answer = p.enroll(config, request, now=NOW)[1].answers[0]
        enroll.accept(answer, folder / "own", NOW)
    elif command == "revoke":
        p.revoke(config, "south", NOW)
    elif command == "add":
        p.add(config, "west", NOW)
    elif command == "provision":
        p.provision(config, now=NOW)
    else:
        what, name = command.split()
        p.renew(config, name, new_key=what == "rekey", now=NOW)


def outcome(folder: Path) -> tuple[object, ...]:
    """What must be the same with and without a crash; keys and numbers are drawn."""
    config = load_config(folder / "coordinator" / "federation.toml")
    everything_fits(config)
    one = p.load_server_folder(config, NOW).description
    standing = [(row.name, row.state) for row in p.standings(config, NOW)]
    files = {
        path.relative_to(folder) for path in folder.rglob("*") if path.parent.name != "certificates"
    }
    return sorted(one.hospitals), standing, files


@pytest.mark.parametrize(
    "command",
    [
        "provision",
        "add",
        "enroll",
        "revoke",
        "renew north",
        "renew server",
        "rekey north",
        "rekey server",
    ],
)
def test_a_crash_at_any_step_is_mended_by_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # the order matters here, not the disk
    base = tmp_path / "base"
    config = federation(base / "coordinator")
    if command != "provision":
        p.provision(config, now=NOW)
    shutil.copytree(base, tmp_path / "calm")
    run(command, tmp_path / "calm")
    expected, steps = outcome(tmp_path / "calm"), 0
    while True:
        folder, other = tmp_path / f"{steps}", tmp_path / f"{steps}-other"
        shutil.copytree(base, folder)
        try:
            with crash_after(monkeypatch, steps):
                run(command, folder)
            break
        except Crash:
            shutil.copytree(folder, other)
        config = load_config(other / "coordinator" / "federation.toml")
        p.provision(config, now=NOW)  # an ordinary command comes next
        everything_fits(config)
        run(command, folder)  # the same command comes next
        assert outcome(folder) == expected, f"after {steps} steps"
        if command != "provision":
            ca = "coordinator/provision/authority/ca.pem"
            assert (folder / ca).read_bytes() == (base / ca).read_bytes()
        steps += 1
    assert steps >= 10
