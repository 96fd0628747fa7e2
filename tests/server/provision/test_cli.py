"""``wardround provision`` says what it did, and what to do next in its last line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.provisioning import federation, kits
from wardround.client.site import enroll
from wardround.client.site.kit import Kit
from wardround.common.errors import ConfigError, ProvisionError, WardroundError
from wardround.common.process.main import app


def call(*arguments: str) -> list[str]:
    """The command's lines. Raises what it raises."""
    done = CliRunner().invoke(app, ["provision", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    federation(tmp_path)
    monkeypatch.chdir(tmp_path)
    return "federation.toml"


def test_the_first_time_says_what_to_hand_over_and_what_comes_next(file: str) -> None:
    lines = call(file)
    assert "2 hospitals" in lines[0] and "localhost:8443" in lines[0]
    assert "wrote provision/kits/north" in lines and "wrote provision/kits/south" in lines
    assert any("by a secure way" in line and "delete" in line for line in lines)
    assert lines[-1].startswith("next: wardround server federation.toml")
    assert "wardround client KIT --data SHARD" in lines[-1]
    shown = next(line for line in lines if line.startswith("authority"))
    assert shown.endswith(Kit.open(Path("provision/kits/north")).authority_fingerprint)
    assert "nothing was missing, nothing was changed" in call()  # ./federation.toml


def test_a_request_is_shown_to_be_compared_by_phone(file: str, tmp_path: Path) -> None:
    request = enroll.request("east", tmp_path / "own")
    lines = call(file, "--request", str(request))
    assert f"request of east: {enroll.fingerprint(request)}" in lines
    assert any("by phone" in line and "--revoke east" in line for line in lines)
    assert lines[-1].startswith("next: send provision/kits/east.answer")
    assert enroll.accept(tmp_path / "provision/kits/east.answer", tmp_path / "own").name == "east"


def test_renew_revoke_list_and_zip(file: str, tmp_path: Path) -> None:
    assert "wrote provision/kits/north.zip" in call(file, "--zip")
    assert "wrote provision/kits/north.answer" in call(file, "--renew", "north")
    lines = call(file, "--renew", "north", "--new-key", "--zip")
    assert (
        "wrote provision/kits/north.zip" in lines and "wrote provision/kits/south.zip" not in lines
    )
    assert any("revoked" in line for line in call(file, "--revoke", "south"))
    table = "\n".join(call(file, "--list"))
    for name, state in (("server", "valid"), ("north", "valid"), ("south", "revoked")):
        (line,) = [line for line in table.splitlines() if f" {name} " in line]
        assert state in line
    assert Kit.open(tmp_path / "provision/kits/north").info.serial > 0


def test_a_federation_without_hospitals_is_told_how_to_get_some(tmp_path: Path) -> None:
    config = federation(tmp_path, hospitals=())
    lines = call(str(tmp_path / "federation.toml"))
    assert "server.hospitals" in lines[-1] and list(kits(config).iterdir()) == []
    lines = call(str(tmp_path / "federation.toml"), "--set", "server.hospitals=['west']")
    assert "1 hospital," in lines[0]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["--renew", "north", "--revoke", "north"], ConfigError, "--renew and --revoke: give one"),
        (["--new-key"], ConfigError, "--new-key: goes with"),
        (["--list", "--new-key"], ConfigError, "--new-key: goes with"),
        (["--revoke", "north", "--zip"], ConfigError, "--zip: writes kits, and --revoke makes"),
        (["--renew", "west"], ProvisionError, "no certificate to renew"),
        (["--request", "none.request"], ProvisionError, "none.request: no such file; the hospital"),
        (["--list"], ProvisionError, "run wardround provision FILE first"),
        (["--set", "server.address=nowhere"], ConfigError, "--set server.address"),
    ],
)
def test_a_mistake_is_one_line(
    file: str, arguments: list[str], kind: type[WardroundError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        call(file, *arguments)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="no such file"):
        call("none.toml")
