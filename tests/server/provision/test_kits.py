"""Provisioning: everything is made once and kept; hospitals come, renew and go."""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.provisioning import NOW, TWO, federation, kits, signed_file
from wardround.client.site import enroll
from wardround.client.site.kit import Kit
from wardround.common.config.load import Config, load_config
from wardround.common.errors import ConfigError, ProvisionError
from wardround.common.trust import pki
from wardround.common.trust.lifetime import stamp
from wardround.server.provision import kits as p

SOON = NOW + timedelta(days=10)


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time and bytes of every file and folder; of the lock, that it is there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.stat()
        data = path.read_bytes() if path.is_file() else b""
        name = str(path.relative_to(folder))
        found[name] = (status.st_mode, status.st_mtime_ns, data)
        if path.name == ".lock":  # has the number of the process that held it last
            found[name] = (status.st_mode, 0, b"")
    return found


def rows(config: Config) -> list[tuple[str, str]]:
    text = (config.folder / "provision" / "authority" / "issued.jsonl").read_text()
    return [(row["action"], row["name"]) for row in map(json.loads, text.splitlines())]


# --- what is made --------------------------------------------------------------------------------
def test_everything_that_a_federation_needs_is_made(tmp_path: Path) -> None:
    config, mask = federation(tmp_path), os.umask(0)
    try:
        done = p.provision(config, now=NOW)
    finally:
        os.umask(mask)
    assert done.changed and [path.name for path in done.kits] == ["north", "south"]
    server = p.load_server_folder(config, NOW)
    assert server.description == done.description and done.description.version == 1
    assert server.identity.public == server.description.server
    assert server.audit_path == server.folder / "audit.jsonl"
    assert server.description_path.read_bytes() == signed_file(config).read_bytes()
    for name in TWO:
        kit = Kit.open(kits(config) / name, NOW)
        assert kit.name == name and kit.description == done.description
        assert sorted(path.name for path in kit.folder.iterdir()) == sorted(
            p._KIT_FILES["hospital"]
        )
    for path in (tmp_path / "provision").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir():
            assert mode == 0o700, path
        elif path.suffix == ".key":
            assert mode == 0o600, path
    assert rows(config) == [("issued", "server"), ("issued", "north"), ("issued", "south")]
    keys = [path.read_bytes() for path in (tmp_path / "provision").rglob("*.key")]
    assert len(keys) == len(set(keys)) == 7


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    config = federation(tmp_path)
    p.provision(config, now=NOW)
    before = tree(tmp_path)
    done = p.provision(config, now=SOON)
    assert tree(tmp_path) == before and not done.changed and not done.kits


def test_only_what_is_missing_is_made(tmp_path: Path) -> None:
    p.provision(federation(tmp_path), now=NOW)
    (tmp_path / "provision" / "kits" / "north" / "site.toml").write_text("# mine\n")
    shutil.rmtree(tmp_path / "provision" / "kits" / "south")  # handed over
    before = tree(tmp_path / "provision")
    config = federation(tmp_path, hospitals=(*TWO, "west"))
    done = p.provision(config, now=SOON)
    assert [path.name for path in done.kits] == ["west"] and done.description.version == 2
    after = tree(tmp_path / "provision")
    assert not (kits(config) / "south").exists() and "south" in done.description.hospitals
    changed = {name for name in before if stat.S_ISREG(before[name][0])} & {
        name for name in after if after[name][2] != before.get(name, (0, 0, b""))[2]
    }
    copies = ("authority", "server", "kits/north")
    assert changed == {"authority/issued.jsonl"} | {f"{at}/federation.signed" for at in copies}
    assert Kit.open(kits(config) / "north", NOW).description == done.description
    assert p.add(config, "east", SOON).description.version == 3
    done = p.provision(config, now=SOON)
    assert set(done.description.hospitals) == {*TWO, "west", "east"}
    assert done.notes == ("not in server.hospitals, but members until --revoke: east",)


def test_a_change_of_address_or_settings_is_signed_anew(tmp_path: Path) -> None:
    p.provision(federation(tmp_path), now=NOW)
    key = (tmp_path / "provision" / "server" / "server.key").read_bytes()
    config = load_config(tmp_path / "federation.toml", ["server.address='fl.example.org:9000'"])
    with pytest.raises(ProvisionError, match=r"server is at localhost:8443.*provision FILE again"):
        p.load_server_folder(config, NOW)
    assert p.provision(config, now=NOW).description.version == 2
    server = p.load_server_folder(config, NOW)
    hosts = ("fl.example.org", "localhost")  # for those who don't know the new one yet
    assert server.info.hosts == hosts and server.key_pem == key
    assert Kit.open(kits(config) / "north", NOW).description.address == "fl.example.org:9000"
    config = load_config(tmp_path / "federation.toml", ["training.lr=0.5"])
    p.provision(config, now=NOW)
    other = load_config(tmp_path / "federation.toml", ["training.lr=0.25"])
    with pytest.raises(ProvisionError, match=r"were signed: training.lr was 0.5, is 0.25; run"):
        p.load_server_folder(other, NOW)
    # what only the server decides may differ from what was signed
    late = load_config(
        tmp_path / "federation.toml", ["training.lr=0.5", "server.wait_s=1.0", "data.path='x'"]
    )
    assert p.load_server_folder(late, NOW).description.config().training.lr == 0.5


# --- the description's life -------------------------------------------------------------------
def test_a_description_is_signed_anew_when_half_of_its_life_is_over(tmp_path: Path) -> None:
    """By the one plain command, for cron: the same version, which says the same, with new dates."""
    config = federation(tmp_path)
    first = p.provision(config, now=NOW).description
    assert (first.issued, first.valid_until) == (stamp(NOW), stamp(NOW + timedelta(days=30)))
    assert not p.provision(config, now=NOW + timedelta(days=14.9)).changed
    late = NOW + timedelta(days=15)
    done = p.provision(config, now=late)
    new = done.description
    assert done.changed and "signed anew, valid until 2026-04-18" in done.notes[0]
    assert new.digest() == first.digest() and new.version == 1
    assert (new.issued, new.valid_until) == (stamp(late), stamp(late + timedelta(days=30)))
    assert Kit.open(kits(config) / "north", late).description == new
    assert p.load_server_folder(config, late).description == new
    assert not p.provision(config, now=late).changed
    # what changes what it says has a new version, and a whole life
    added = p.add(config, "west", late + timedelta(days=1)).description
    assert (added.version, added.issued) == (2, stamp(late + timedelta(days=1)))
    short = load_config(tmp_path / "federation.toml", ["server.description_days=7"])
    short = short.model_copy(update={"folder": config.folder})
    shorter = p.provision(short, now=late + timedelta(days=2)).description
    assert (shorter.version, shorter.valid_until) == (2, stamp(late + timedelta(days=9)))


def test_a_clock_that_went_back_signs_nothing_earlier(tmp_path: Path) -> None:
    config = federation(tmp_path)
    p.provision(config, now=NOW)
    late = NOW + timedelta(days=20)
    new = p.provision(config, now=late).description
    added = p.add(config, "west", late - timedelta(minutes=4)).description
    assert (added.version, added.issued) == (2, new.issued)
    with pytest.raises(ProvisionError, match=r"later than this machine's clock.*set the clock"):
        p.revoke(config, "west", now=late - timedelta(hours=2))
    assert "west" not in p.provision(config, now=late).description.hospitals  # as was asked


def test_one_from_before_there_was_an_end_is_followed_by_one_with_an_end(tmp_path: Path) -> None:
    config = federation(tmp_path)
    done = p.provision(config, now=NOW)
    old = replace(done.description, valid_until="")
    data = old.signed(pki.Authority.open(done.folder / "authority", "heart", NOW))
    assert b'\\"format\\":1' in data
    for folder in (done.folder / "authority", done.folder / "server", *done.kits):
        (folder / "federation.signed").write_bytes(data)
    kit = Kit.open(kits(config) / "north", NOW)
    assert kit.description == old
    new = p.provision(config, now=SOON).description
    assert (new.version, new.valid_until) == (1, stamp(SOON + timedelta(days=30)))
    held = kit.update_description(signed_file(config).read_bytes(), SOON)
    assert held.description == new


# --- renew, revoke -------------------------------------------------------------------------------
@pytest.mark.parametrize("days", [100, 500])
def test_a_certificate_is_renewed_for_the_same_keys(tmp_path: Path, days: int) -> None:
    config, late = federation(tmp_path), NOW + timedelta(days=days)
    p.provision(config, now=NOW)
    kit = Kit.open(kits(config) / "north", NOW)
    server = p.load_server_folder(config, NOW)
    watched = os.stat(server.description_path)
    for name in ("north", "server"):
        done = p.renew(config, name, now=late)
        assert done.changed and done.description.digest() == kit.description.digest()
    new = Kit.open(kits(config) / "north", late)
    assert new.key_pem == kit.key_pem and new.info.identity == kit.info.identity
    assert new.info.serial != kit.info.serial and new.info.not_after == late + timedelta(days=365)
    renewed = p.load_server_folder(config, late)
    assert renewed.info.serial != server.info.serial and renewed.key_pem == server.key_pem
    seen = os.stat(server.description_path)
    assert (seen.st_ino, seen.st_mtime_ns) != (watched.st_ino, watched.st_mtime_ns)
    assert enroll.accept(kits(config) / "north.answer", new.folder, late).info == new.info


def test_an_expired_server_certificate_is_as_good_as_missing(tmp_path: Path) -> None:
    config, late = federation(tmp_path), NOW + timedelta(days=500)
    p.provision(config, now=NOW)
    with pytest.raises(ProvisionError, match="expired on 2027-03-04.*--renew server"):
        p.load_server_folder(config, late)
    p.provision(config, now=late)
    assert p.load_server_folder(config, late)


def test_new_keys_shut_the_old_ones_out(tmp_path: Path) -> None:
    config = federation(tmp_path)
    p.provision(config, now=NOW)
    p.renew(config, "north", now=NOW)
    old = tmp_path / "old"
    shutil.copytree(kits(config) / "north", old)
    (kits(config) / "north" / "site.toml").write_text("# mine\n")
    done = p.renew(config, "north", new_key=True, now=NOW)
    assert done.kits == (kits(config) / "north",) and len(done.description.revoked) == 2
    new = Kit.open(kits(config) / "north", NOW)
    assert new.site_path.read_text() == "# mine\n"
    shutil.copy(new.folder / "federation.signed", old)
    with pytest.raises(ProvisionError, match="is revoked"):
        Kit.open(old, NOW)
    server = p.load_server_folder(config, NOW)
    p.renew(config, "server", new_key=True, now=NOW)
    after = p.load_server_folder(config, NOW)
    assert after.identity.public != server.identity.public
    assert server.info.serial in after.description.revoked


def test_a_revoked_hospital_stays_out_until_it_is_admitted_with_new_keys(tmp_path: Path) -> None:
    config = federation(tmp_path)
    p.provision(config, now=NOW)
    serial = Kit.open(kits(config) / "south", NOW).info.serial
    done = p.revoke(config, "south", NOW)
    assert set(done.description.hospitals) == {"north"} and done.description.version == 2
    assert done.description.revoked == (serial,)
    assert p.load_server_folder(config, NOW).description == done.description
    with pytest.raises(ProvisionError, match="is revoked"):
        Kit.open(kits(config) / "south", NOW)
    again = p.provision(config, now=NOW)  # it still stands in server.hospitals
    assert not again.changed and "--renew south --new-key" in again.notes[0]
    assert not p.revoke(config, "south", NOW).changed
    with pytest.raises(ProvisionError, match="was revoked; --renew south --new-key"):
        p.renew(config, "south", now=NOW)
    back = p.renew(config, "south", new_key=True, now=NOW)
    assert set(back.description.hospitals) == set(TWO) and back.description.revoked == (serial,)
    assert Kit.open(kits(config) / "south", NOW).name == "south"


def test_unknown_names_are_named(tmp_path: Path) -> None:
    config = federation(tmp_path)
    p.provision(config, now=NOW)
    with pytest.raises(ProvisionError, match="'west' is no member .* north, south"):
        p.revoke(config, "west", NOW)
    with pytest.raises(ProvisionError, match="'server' is no member"):
        p.revoke(config, "server", NOW)
    with pytest.raises(ProvisionError, match="'west' has no certificate to renew"):
        p.renew(config, "west", now=NOW)
    before = tree(tmp_path)
    for name in ("server", "a/b", "../x"):
        with pytest.raises(ProvisionError, match="can't be a hospital's name"):
            p.provision(config, [("hospital", "new"), ("hospital", name)], NOW)
    assert {key: v[2] for key, v in tree(tmp_path).items()} == {k: v[2] for k, v in before.items()}
    with pytest.raises(ConfigError, match="server.address: the port must be"):
        p.provision(load_config(tmp_path / "federation.toml", ["server.address='x:0'"]), now=NOW)


def test_standings_say_who_must_renew(tmp_path: Path) -> None:
    config = federation(tmp_path)
    with pytest.raises(ProvisionError, match="run wardround provision FILE first"):
        p.standings(config, NOW)
    p.provision(config, now=NOW)
    p.revoke(config, "south", NOW)
    p.renew(config, "north", now=SOON)

    def states(days: int) -> list[tuple[str, str]]:
        return [(one.name, one.state) for one in p.standings(config, NOW + timedelta(days=days))]

    assert states(0) == [("server", "valid"), ("north", "valid"), ("south", "revoked")]
    assert states(340) == [("server", "expires soon"), ("north", "valid"), ("south", "revoked")]
    assert states(370) == [("server", "expired"), ("north", "expires soon"), ("south", "revoked")]


# --- requests ------------------------------------------------------------------------------------
def test_a_name_is_not_taken_over_by_a_request(tmp_path: Path) -> None:
    config = federation(tmp_path)
    p.provision(config, now=NOW)
    before, theirs = signed_file(config).read_bytes(), tmp_path / "theirs"
    request = enroll.request("north", theirs)
    with pytest.raises(ProvisionError, match="'north' is enrolled already, with other keys") as no:
        p.enroll(config, request, now=NOW)
    assert (
        enroll.fingerprint(request) in str(no.value) and signed_file(config).read_bytes() == before
    )
    old = Kit.open(kits(config) / "north", NOW)
    _, done = p.enroll(config, request, new_key=True, now=NOW)
    assert done.description.revoked == (old.info.serial,)
    assert enroll.accept(done.answers[0], theirs, NOW).name == "north"
    with pytest.raises(ProvisionError, match="is revoked"):
        Kit.open(kits(config) / "north", NOW)
    p.revoke(config, "north", NOW)
    with pytest.raises(ProvisionError, match="these keys were revoked; make new ones"):
        p.enroll(config, request, new_key=True, now=NOW)
    fresh = enroll.request("north", tmp_path / "fresh")
    with pytest.raises(ProvisionError, match="'north' was revoked.*--new-key"):
        p.enroll(config, fresh, now=NOW)
    assert "north" in p.enroll(config, fresh, new_key=True, now=NOW)[1].description.hospitals


def test_one_identity_is_one_party(tmp_path: Path) -> None:
    config = federation(tmp_path)
    p.provision(config, now=NOW)
    folder = tmp_path / "twin"
    folder.mkdir()
    (folder / "identity.key").write_bytes((kits(config) / "north" / "identity.key").read_bytes())
    (folder / "identity.key").chmod(0o600)
    with pytest.raises(ProvisionError, match="west: has the identity of hospital 'north'"):
        p.enroll(config, enroll.request("west", folder), now=NOW)
    (folder / "west.request").unlink()
    with pytest.raises(ProvisionError, match="south: has the identity of hospital 'north'"):
        p.enroll(config, enroll.request("south", folder), new_key=True, now=NOW)
    assert set(p.provision(config, now=NOW).description.hospitals) == set(TWO)  # nobody went


def test_a_listed_hospital_that_asks_gets_no_other_keys(tmp_path: Path) -> None:
    config = federation(tmp_path)
    request = enroll.request("north", tmp_path / "own")
    _, done = p.enroll(config, request, now=NOW)  # the first command of all
    assert [path.name for path in done.kits] == ["south"] and not (kits(config) / "north").exists()
    assert set(done.description.hospitals) == set(TWO)
    assert not p.provision(config, now=NOW).changed


def test_an_expired_enrolment_is_answered_anew(tmp_path: Path) -> None:
    config, late = federation(tmp_path), NOW + timedelta(days=500)
    request = enroll.request("east", tmp_path / "own")
    p.enroll(config, request, now=NOW)
    done = p.enroll(config, request, now=late)[1]
    assert enroll.accept(done.answers[0], tmp_path / "own", late).info.not_before < late


def test_a_kit_is_zipped_for_its_owner_only(tmp_path: Path) -> None:
    config = federation(tmp_path)
    kit = p.provision(config, now=NOW).kits[0]
    kit.joinpath("state").mkdir()
    kit.joinpath("state", "ledger").write_text("private")
    path = p.zip_kit(kit)
    assert path == kits(config) / "north.zip" and stat.S_IMODE(path.stat().st_mode) == 0o600
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == sorted(
            f"north/{name}" for name in p._KIT_FILES["hospital"]
        )
        archive.extractall(tmp_path / "out")
        modes = {info.filename: info.external_attr >> 16 & 0o777 for info in archive.infolist()}
    assert modes["north/client.key"] == modes["north/identity.key"] == 0o600
    for key in (tmp_path / "out" / "north").glob("*.key"):
        key.chmod(modes[f"north/{key.name}"])
    assert Kit.open(tmp_path / "out" / "north", NOW).name == "north"
    assert p.kits_with_keys(config) == [kits(config) / name for name in TWO]
    (kit / "identity.key").unlink()
    with pytest.raises(ProvisionError, match="identity.key: no such file"):
        p.zip_kit(kit)


def test_what_the_server_watches_is_written_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = federation(tmp_path)
    p.provision(config, now=NOW)
    written: list[Path] = []
    replace_file: Callable[..., None] = os.replace

    def note(source: Path, target: Path) -> None:
        written.append(target)
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", note)
    for command in (
        lambda: p.add(config, "west", NOW),
        lambda: p.renew(config, "server", now=NOW),
        lambda: p.revoke(config, "south", NOW),
    ):
        written.clear()
        command()
        assert written[-1] == signed_file(config) and written.count(signed_file(config)) == 1
