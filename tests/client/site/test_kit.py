"""A start-up kit opens only if all of it fits together, and only moves forward."""

from __future__ import annotations

import shutil
import stat
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.provisioning import NOW, Site, federation, handed_over, signed_file
from wardround.client.site.kit import Kit
from wardround.common.errors import ProvisionError
from wardround.common.trust import pki
from wardround.common.trust.identity import Identity
from wardround.common.trust.lifetime import stamp
from wardround.server.provision import kits as provision

LATER = NOW + timedelta(days=300)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return handed_over(tmp_path)


def refused(kit: Path, message: str, now: datetime = NOW) -> None:
    with pytest.raises(ProvisionError, match=message) as caught:
        Kit.open(kit, now)
    assert "\n" not in str(caught.value) and str(kit) in str(caught.value)


# --- a kit ---------------------------------------------------------------------------------------
def test_a_kit_opens_with_all_that_it_holds(site: Site) -> None:
    kit = Kit.open(site.kit, NOW)
    assert kit.name == "north" and kit.info.kind == "hospital" and kit.info.federation == "heart"
    assert kit.identity.public == kit.info.identity == kit.description.roster["north"]
    assert kit.description.version == 1 and kit.description.config().federation.name == "heart"
    assert kit.site_path.read_text().count('federations = ["heart"]') == 1
    assert kit.authority_fingerprint == pki.fingerprint(site.authority.ca_pem)
    assert not (site.kit / "state").exists()
    assert stat.S_IMODE(kit.state.stat().st_mode) == 0o700 and kit.state == site.kit / "state"


def test_its_repr_shows_no_key(site: Site) -> None:
    kit = Kit.open(site.kit, NOW)
    shown = repr(kit)
    assert "PRIVATE" not in shown and kit.identity.secret_bytes().hex() not in shown
    assert repr(kit.identity.secret_bytes())[2:-1] not in shown


@pytest.mark.parametrize(
    "name", ["ca.pem", "client.pem", "client.key", "identity.key", "federation.signed"]
)
def test_a_missing_or_damaged_file_is_named(site: Site, name: str) -> None:
    path = site.kit / name
    path.write_bytes(b"garbage")
    path.chmod(0o600)
    refused(site.kit, name)
    path.unlink()
    refused(site.kit, f"{name}: no such file; .*ask the coordinator")


@pytest.mark.parametrize("name", ["client.key", "identity.key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_secret_that_others_may_read_is_refused(site: Site, name: str, mode: int) -> None:
    (site.kit / name).chmod(mode)
    refused(site.kit, f"{name}: others on this machine may read.*run: chmod 600 {site.kit}/{name}")
    (site.kit / name).chmod(0o400)
    assert Kit.open(site.kit, NOW).name == "north"


def test_files_of_two_kits_are_not_mixed(site: Site, tmp_path: Path) -> None:
    south = site.config.folder / "provision" / "kits" / "south"
    other = provision.provision(federation(tmp_path / "other"), now=NOW).kits[0]
    lung = provision.provision(federation(tmp_path / "lung", "lung"), now=NOW).kits[0]
    for folder, name, message in [
        (south, "client.key", "client.key: not the key that .*client.pem is for"),
        (south, "identity.key", "identity.key: not the identity that .*client.pem is for"),
        (south, "client.pem", "client.key: not the key that"),
        (other, "ca.pem", "client.pem: not signed by the authority"),
        (other, "client.pem", "client.pem: not signed by the authority"),
        (lung, "ca.pem", "client.pem: not signed by the authority"),
        (other, "federation.signed", "federation.signed: not signed by the authority"),
    ]:
        kept = (site.kit / name).read_bytes()
        shutil.copy(folder / name, site.kit / name)
        refused(site.kit, message)
        (site.kit / name).write_bytes(kept)
    assert Kit.open(site.kit, NOW)


def test_a_certificate_of_another_role_or_federation_is_refused(site: Site) -> None:
    kit = Kit.open(site.kit, NOW)
    key = pki.read_key(kit.key_pem).public_key()
    server = site.authority.issue_server("localhost", key, kit.info.identity, NOW)
    (site.kit / "client.pem").write_bytes(server)
    refused(site.kit, "client.pem: the certificate of the server of federation 'heart', where a")
    site.authority.federation = "lung"  # an authority that lies
    pem = site.authority.issue_member("hospital", "north", key, kit.info.identity, NOW)
    (site.kit / "client.pem").write_bytes(pem)
    refused(site.kit, "of federation 'lung', where a hospital's of 'heart'")


def test_time_is_checked_with_a_hint_at_the_clock(site: Site) -> None:
    refused(site.kit, "expired on 2027-03-04.*--renew north", NOW + timedelta(days=366))
    refused(site.kit, "clock", NOW - timedelta(hours=1))
    authority = site.authority
    kit = Kit.open(site.kit, NOW)
    key = pki.read_key(kit.key_pem).public_key()
    pem = authority.issue_member("hospital", "north", key, kit.info.identity, LATER)
    (site.kit / "client.pem").write_bytes(pem)
    refused(site.kit, "client.pem: .*not valid before 2026-12-29.*set the clock")


def test_a_hospital_that_was_shut_out_is_told(site: Site) -> None:
    kit, path = Kit.open(site.kit, NOW), site.kit / "federation.signed"
    one, rest = kit.description, {"south": kit.description.hospitals["south"]}
    for changed, message in [
        (replace(one, revoked=(kit.info.serial,)), "is revoked; ask the coordinator for a new kit"),
        (replace(one, hospitals=rest), "'north' is not in the roster"),
        (
            replace(one, hospitals=rest | {"north": Identity.generate().public}),
            "lists hospital 'north' with another identity",
        ),
        (replace(one, federation="lung"), "describes federation 'lung'"),
    ]:
        path.write_bytes(changed.signed(site.authority))
        refused(site.kit, f"federation.signed: .*{message}")


def test_no_folder_is_no_kit(tmp_path: Path) -> None:
    refused(tmp_path / "none", "no such folder; .*ask the coordinator")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "no such folder")


# --- newer descriptions ----------------------------------------------------------------------
def test_a_newer_description_is_kept(site: Site) -> None:
    kit = Kit.open(site.kit, NOW)
    provision.add(site.config, "west", NOW)
    data = signed_file(site.config).read_bytes()
    new = kit.update_description(data, NOW)
    assert new.description.version == 2 and "west" in new.description.hospitals
    assert (site.kit / "federation.signed").read_bytes() == data
    assert (
        Kit.open(site.kit, NOW).description
        == new.description
        == new.update_description(data, NOW).description
    )


def test_an_older_or_foreign_description_changes_nothing(site: Site, tmp_path: Path) -> None:
    kit, path = Kit.open(site.kit, NOW), site.kit / "federation.signed"
    first = path.read_bytes()
    two = replace(kit.description, version=2)
    new = kit.update_description(two.signed(site.authority), NOW)
    held = path.read_bytes()
    other = provision.provision(federation(tmp_path / "other"), now=NOW).folder
    twin = replace(two, address="evil.example.org:1").signed(site.authority)
    foreign = replace(two, federation="lung", version=9).signed(site.authority)
    for data, message in [
        (first, "version 1 came, and .* has 2"),
        ((other / "server" / "federation.signed").read_bytes(), "not signed by the authority"),
        (twin, "another description of version 2"),
        (foreign, "federation 'lung' came"),
        (held[:-1], "not a signed description"),
        (b"", "not a signed description"),
    ]:
        for one in (new, kit):  # what lies on the disk counts, too
            with pytest.raises(ProvisionError, match=message):
                one.update_description(data, NOW)
        assert path.read_bytes() == held


def test_of_one_version_the_one_that_was_signed_last_is_kept(site: Site) -> None:
    """Signed anew with later dates; not an earlier one, one of another content, nor one of a clock
    that is ahead of the hospital's."""
    kit, path = Kit.open(site.kit, NOW), site.kit / "federation.signed"
    one, late = kit.description, NOW + timedelta(days=15)

    def dated(at: datetime, days: int = 30, **changes: Any) -> bytes:
        dates = {"issued": stamp(at), "valid_until": stamp(at + timedelta(days=days))}
        return replace(one, **dates, **changes).signed(site.authority)

    anew = kit.update_description(dated(late), late)
    held = path.read_bytes()
    assert anew.description.version == 1 and anew.description.issued == stamp(late)
    for data, message in [
        (dated(NOW), "an older one is never kept"),
        (dated(late - timedelta(seconds=1), days=90), "an older one is never kept"),
        (dated(late - timedelta(seconds=1), version=2), "an older one is never kept"),
        (dated(late, days=90), "another description of version 1"),
        (dated(late + timedelta(seconds=1), address="evil.example.org:1"), "another description"),
        (dated(late + timedelta(hours=2)), "later than this machine's clock; it is not kept"),
        (dated(late + timedelta(hours=2), version=2), "later than this machine's clock"),
    ]:
        for opened in (anew, kit):
            with pytest.raises(ProvisionError, match=message):
                opened.update_description(data, late)
        assert path.read_bytes() == held
    # the authority may let it end sooner
    sooner = anew.update_description(dated(late + timedelta(minutes=1), days=7), late)
    assert sooner.description.valid_until < anew.description.valid_until
    path.write_bytes(dated(late + timedelta(minutes=2)))  # brought by hand
    assert sooner.brought() == path.read_bytes()


@pytest.mark.parametrize("change", ["revoked", "gone"])
def test_being_shut_out_is_kept_and_told(site: Site, change: str) -> None:
    kit = Kit.open(site.kit, NOW)
    one = replace(kit.description, version=2)
    if change == "revoked":
        one = replace(one, revoked=(kit.info.serial,))
    else:
        one = replace(one, hospitals={})
    with pytest.raises(ProvisionError, match="revoked|not in the roster"):
        kit.update_description(one.signed(site.authority), NOW)
    refused(site.kit, "revoked|not in the roster")
