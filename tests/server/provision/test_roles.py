"""Researchers and coordinators are provisioned as hospitals are, and a name is one member's."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.provisioning import NOW, federation, kits, signed_file
from wardround.client.site import enroll
from wardround.client.site.kit import CoordinatorKit, Kit, ResearcherKit, open_kit
from wardround.common.config.load import Config, load_config
from wardround.common.errors import ConfigError, ProvisionError
from wardround.common.names import ROLES, Role
from wardround.common.process.main import app
from wardround.common.trust import pki
from wardround.common.trust.description import Description
from wardround.server.provision import kits as p


@pytest.fixture
def config(tmp_path: Path) -> Config:
    federation(tmp_path)
    members = ["server.researchers=['anna', 'Köln Lab']", "server.coordinators=['office']"]
    return load_config(tmp_path / "federation.toml", members)


def test_each_role_gets_its_kit(config: Config) -> None:
    done = p.provision(config, now=NOW)
    assert [path.name[:4] for path in done.kits] == ["nort", "sout", "anna", "Koln", "offi"]
    assert set(done.description.hospitals) == {"north", "south"}
    assert "anna" in done.description.researchers and len(done.description.researchers) == 2
    assert set(done.description.coordinators) == {"office"}
    for name, kind in (("north", Kit), ("anna", ResearcherKit), ("office", CoordinatorKit)):
        kit = open_kit(kits(config) / name, NOW)
        assert type(kit) is kind and kit.name == name and kit.info.kind == kit.role
        assert (kit.folder / "site.toml").exists() == (kind is Kit)
        other = ResearcherKit if kind is not ResearcherKit else CoordinatorKit
        with pytest.raises(ProvisionError, match="no such file"):
            other.open(kit.folder, NOW)
    again = p.provision(config, now=NOW)
    assert not again.changed and not again.notes[1:]  # what 'Köln Lab' is called here


def test_a_certificate_says_its_role_and_another_roles_roster_lacks_it(config: Config) -> None:
    p.provision(config, now=NOW)
    folder = kits(config) / "anna"
    for old, new in (("researcher.pem", "client.pem"), ("researcher.key", "client.key")):
        shutil.copy(folder / old, folder / new)
    with pytest.raises(ProvisionError, match=r"of the researcher 'anna'.*where a hospital's"):
        Kit.open(folder, NOW)
    with pytest.raises(ProvisionError, match=r"holds client.pem and researcher.pem; each role"):
        open_kit(folder, NOW)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("researchers=['north']", "researchers: 'north' stands in hospitals too"),
        ("researchers=['NORTH']", "'north' and 'NORTH' would both be 'NORTH'"),
        ("coordinators=['a', 'a']", "coordinators: a name stands there twice"),
        ("coordinators=[' ']", "coordinators: ' ' is no name"),
    ],
)
def test_names_of_all_roles_are_in_one_name_space(
    tmp_path: Path, override: str, message: str
) -> None:
    federation(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "federation.toml", [f"server.{override}"])


@pytest.mark.parametrize("role", ["researcher", "coordinator"])
def test_own_keys_are_enrolled_as_a_hospitals(config: Config, tmp_path: Path, role: Role) -> None:
    p.provision(config, now=NOW)
    folder = tmp_path / "own"
    request = enroll.request("bert", folder, role)
    asked, done = p.enroll(config, request, now=NOW)
    assert (asked.role, asked.name) == (role, "bert")
    assert asked.fingerprint == enroll.fingerprint(request)
    kit = enroll.accept(done.answers[0], folder, NOW)
    assert kit.role == role and not (folder / "site.toml").exists()
    assert done.description.members(role)["bert"] == kit.identity.public
    with pytest.raises(ProvisionError, match=f"has the keys of a {role}; give each member"):
        enroll.request("bert", folder)
    p.revoke(config, "bert", NOW)
    with pytest.raises(ProvisionError, match="is not in the roster"):
        kit.update_description(signed_file(config).read_bytes(), NOW)
    with pytest.raises(ProvisionError, match="these keys were revoked"):
        p.enroll(config, request, now=NOW)


def test_a_request_for_anothers_name_is_refused(config: Config, tmp_path: Path) -> None:
    p.provision(config, now=NOW)
    for name in ("north", "Anna", "OFFICE"):
        request = enroll.request(name, tmp_path / name, "coordinator")
        with pytest.raises(ProvisionError, match="names of all roles are in one name space"):
            p.enroll(config, request, now=NOW)


NAMES = ("north", "anna", "Anna", "bert")
STEPS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(ROLES), st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(["revoke", "renew", "again"]), st.none(), st.sampled_from(NAMES)),
)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEPS, min_size=2, max_size=7))
def test_the_roster_follows_from_the_record(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Role | None, str]]
) -> None:
    """Whatever was added, revoked, renewed and admitted again: members are as a dict would have
    them, each with its newest key; a version is new where hospitals are others, only there."""
    config = federation(tmp_path_factory.mktemp("network"), hospitals=())
    p.provision(config, now=NOW)
    roles: dict[str, Role] = {}
    members: set[str] = set()
    found = described(config)
    for minute, (step, role, name) in enumerate(steps, 1):
        now, before = NOW + timedelta(minutes=minute), found
        try:
            if step == "add" and role is not None:
                p.add(config, name, now, role)
                assert roles.setdefault(name, role) == role
                assert name.casefold() not in {one.casefold() for one in roles if one != name}
                members |= {name} - gone_names(config)
            elif step == "revoke":
                p.revoke(config, name, now)
                members.discard(name)
            else:
                p.renew(config, name, new_key=step == "again", now=now)
                assert step == "again" or name in members
                members.add(name)
        except ProvisionError as error:
            refused = str(error)
            taken = {one.casefold() for one in roles}
            known = name in roles
            assert (
                (step == "add" and name.casefold() in taken and "one name space" in refused)
                or (step != "add" and not known)
                or (step == "renew" and name not in members and "was revoked" in refused)
            ), refused
        found = described(config)
        assert {(r, n) for r in ROLES for n in found.members(r)} == {(roles[n], n) for n in members}
        assert set(before.revoked) <= set(found.revoked)
        assert found.order > before.order or found == before
        told = (before.hospitals, before.revoked) == (found.hospitals, found.revoked)
        assert told == (found.version == before.version) == (found.digest() == before.digest())
        for one in members:
            kit = open_kit(kits(config) / one, now)
            assert found.key_of(roles[one], one) == kit.identity.public
            assert kit.info.serial not in found.revoked


def described(config: Config) -> Description:
    ca = (config.folder / "provision" / "server" / "ca.pem").read_bytes()
    return Description.read(signed_file(config).read_bytes(), ca)


def gone_names(config: Config) -> set[str]:
    return {one.name for one in p.standings(config, NOW) if one.state == "revoked"}


def test_the_command_adds_lists_and_revokes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation(tmp_path)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["provision", "federation.toml", *arguments])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    refused = CliRunner().invoke(app, ["provision", "federation.toml", "--researcher", "anna"])
    assert refused.exit_code and "add a table [network]" in str(refused.exception)
    assert not Path("provision").exists()
    with Path("federation.toml").open("a") as file:
        file.write("[network]\n")
    first = call("--researcher", "anna")
    assert "1 researcher," in first and "wrote provision/kits/anna\n" in first
    assert "hand over provision/kits/anna" in first.splitlines()[-1]
    assert "anna" not in Path("federation.toml").read_text()
    assert "wrote provision/kits/office.zip" in call("--coordinator", "office", "--zip")
    later = call()  # the record has them, whatever the file says
    assert "2 hospitals, 1 researcher, 1 coordinator" in later
    assert "not in server.researchers, but members until --revoke: anna" in later
    assert "revoked" in call("--revoke", "anna")
    table = call("--list").splitlines()
    for name, role, state in (("north", "hospital", "valid"), ("anna", "researcher", "revoked")):
        (line,) = [line for line in table if f" {name} " in line]
        assert role in line and state in line
    again = call("--researcher", "anna")
    assert "admit it again: --renew anna --new-key" in again
    request = enroll.request("cleo", tmp_path / "cleo", "researcher")
    shown = call("--request", str(request))
    assert f"request of researcher cleo: {enroll.fingerprint(request)}" in shown
    assert "wardround study enroll KIT --answer FILE" in shown.splitlines()[-1]
    assert pki.fingerprint((tmp_path / "provision/server/ca.pem").read_bytes()) in shown
