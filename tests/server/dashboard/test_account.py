"""``wardround account``, and a dashboard with TLS of its own that lets its people in."""

from __future__ import annotations

import http.client
import json
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from tests.server.dashboard.people import PASSWORD
from wardround.common.config.load import load_config
from wardround.common.errors import ConfigError, ProvisionError
from wardround.server.dashboard.app import serve_dashboard
from wardround.server.dashboard.cli import commands
from wardround.server.dashboard.sign_in.passwords import is_password
from wardround.server.dashboard.sign_in.setup import open_sign_in
from wardround.server.display.board import Board


def run(*words: str, typed: str = "") -> str:
    """What a command says. Raises what it raises."""
    done = CliRunner().invoke(commands, ["account", *words], input=typed)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


@pytest.fixture
def toml(tmp_path: Path) -> str:
    (tmp_path / "federation.toml").write_text("")
    return str(tmp_path / "federation.toml")


def test_accounts_are_added_listed_changed_and_removed(toml: str) -> None:
    said = run("add", "office", toml, "--role", "coordinator", typed=f"{PASSWORD}\n")
    path = Path(toml).parent / "provision" / "server" / "accounts.json"
    assert "office: added, coordinator" in said and PASSWORD not in said
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    roles = ["--role", "researcher:anna", "--role", "hospital:north"]
    run("add", "anna@example.org", toml, *roles, "--provider")
    kept = json.loads(path.read_text())
    assert "note" not in said
    assert (kept["format"], kept["version"]) == ("accounts of the dashboard", 1)
    anna, office = kept["accounts"]
    assert anna == {
        "name": "anna@example.org",
        "way": "provider",
        "roles": ["hospital:north", "researcher:anna"],
        "hash": "",
    }
    assert is_password(PASSWORD, office["hash"]) and PASSWORD not in path.read_text()
    listed = run("list", toml)
    assert "office" in listed and "researcher:anna" in listed and "argon2" not in listed
    said = run("add", "office", toml, "--role", "hospital:nroth", typed="another long password\n")
    assert "office: changed, hospital:nroth" in said
    assert "note: no hospital 'nroth' is in" in said
    with pytest.raises(ConfigError, match="isn't in .*--provider"):
        run("remove", "anna@example.org", toml)
    run("remove", "anna@example.org", toml, "--provider")
    assert [row["name"] for row in json.loads(path.read_text())["accounts"]] == ["office"]


@pytest.mark.parametrize(
    ("words", "typed", "error", "what"),
    [
        (["add", "office"], PASSWORD, ConfigError, "coordinator, researcher:NAME"),
        (["add", "office", "--role", "boss"], PASSWORD, ConfigError, "role 'boss'"),
        (["add", "office", "--role", "coordinator"], "short", ConfigError, "12 to 200"),
        (["add", " x", "--role", "coordinator"], PASSWORD, ConfigError, "characters"),
        (["list"], "", ProvisionError, "wardround account add NAME"),
        (["remove", "office"], "", ProvisionError, "wardround account add NAME"),
    ],
)
def test_mistakes_make_nothing(
    toml: str, words: list[str], typed: str, error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        run(*words[:2], toml, *words[2:], typed=f"{typed}\n") if words[0] != "list" else run(
            "list", toml
        )
    assert not (Path(toml).parent / "provision" / "server" / "accounts.json").exists()


def certificate(folder: Path) -> None:
    """A certificate of localhost's own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def test_with_tls_of_its_own_others_may_reach_it(toml: str) -> None:
    folder = Path(toml).parent
    certificate(folder)
    Path(toml).write_text('server.dashboard = { certificate = "tls.pem", key = "tls.key" }')
    run("add", "office", toml, "--role", "coordinator", typed=f"{PASSWORD}\n")
    config = load_config(Path(toml))
    page = serve_dashboard(
        Board(),
        "0.0.0.0:0",
        settings=config.server.dashboard,
        sign_in=open_sign_in(config),
        folder=config.folder,
    )
    try:
        assert page.url.startswith("https://0.0.0.0:")
        trust = ssl.create_default_context(cafile=str(folder / "tls.pem"))
        port = int(page.url.rstrip("/").rpartition(":")[2])
        connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=trust)
        connection.request("GET", "/sign-in")
        answer = connection.getresponse()
        answer.read()
        cookie = str(answer.headers["set-cookie"])
        assert cookie.startswith("__Host-wardround-form=") and "; Secure" in cookie
        connection.request("GET", "/api/state")
        assert connection.getresponse().status == 401
        connection.close()
    finally:
        page.stop()
