"""Who is let in, under which name, with how much, and where it listens at all."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tests.client.serving.made import Made, asked
from wardround.client.serving.door import Door
from wardround.client.serving.guard import Guard, Limits
from wardround.client.serving.listening import Tls, listen, tls_of
from wardround.common.errors import ConfigError, ProvisionError

TOKEN, OTHER = "7d8f" * 10, "a1b2" * 10
ROW = {"rows": [{"age": 50}]}


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"# the second one goes next week\n{TOKEN}\n\n{OTHER}\n")
    path.chmod(0o600)
    return path


def test_who_has_no_token_gets_nothing_but_health(model: Made, token: Path) -> None:
    with asked(model.export, token_file=token) as (client, _):
        assert client.get("/health").status_code == 200
        for path in ("/model", "/metrics", "/cds-services", "/nowhere"):
            assert client.get(path).status_code == 401
        wrong = ["", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", TOKEN]
        for text in wrong:
            answer = client.post("/predict", json=ROW, headers={"authorization": text})
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        for one in (TOKEN, OTHER):
            head = {"authorization": f"Bearer {one}"}
            assert client.post("/predict", json=ROW, headers=head).status_code == 200


def test_two_tokens_in_one_request_are_none() -> None:
    door = Door([TOKEN.encode()])
    one = (b"authorization", f"Bearer {TOKEN}".encode())
    assert door.lets_in([one]) and not door.lets_in([one, one])


@pytest.mark.parametrize("text", ["", "# none\n", "short\n", "x" * 501, "ä" * 30, "a b" * 20])
def test_a_file_without_a_token_that_is_one(text: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="openssl rand"):
        Door.of_file(path)
    path.chmod(0o640)
    with pytest.raises(ProvisionError, match="may read this secret"):
        Door.of_file(path)


def test_names_of_others_and_pages_of_others_are_refused(model: Made) -> None:
    """A rebound name reaches this machine from a browser; so does another page's script."""
    with asked(model.export, names=["models.ward.example"]) as (client, _):

        def status(**headers: str) -> int:
            return client.get("/model", headers=headers).status_code

        for name in ("localhost:8090", "127.0.0.1", "[::1]:8090", "Models.Ward.Example:1"):
            assert status(host=name) == 200
        for name in ("evil.example", "localhost.evil.example", "10.0.0.7", "", "a:b:c"):
            assert status(host=name) == 421
        assert status(origin="http://evil.example") == 403
        answer = client.post("/predict", content=b"{}", headers={"content-type": "text/plain"})
        assert answer.status_code == 415, "what a form can send isn't read"


def test_so_many_at_once_and_no_more() -> None:
    """Of three, two are let in; a body that doesn't come is given up."""
    inside = 0

    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("no body came")

    told: list[int] = []
    limits = Limits(waiting=2, body_s=0.05)
    guard = Guard(
        app, frozenset({"here"}), False, Door(), limits, lambda _, status, __: told.append(status)
    )

    async def ask() -> None:
        async def never() -> dict[str, object]:
            await asyncio.sleep(60)
            raise AssertionError

        async def send(message: object) -> None:
            pass

        scope = {"type": "http", "path": "/predict", "headers": [(b"host", b"here")]}
        await guard(scope, never, send)  # type: ignore[arg-type]

    async def all_three() -> None:
        await asyncio.gather(ask(), ask(), ask())

    asyncio.run(all_three())
    assert sorted(told) == [408, 408, 503] and inside == 0


# --- where it listens -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("address", "match"),
    [
        ("8090", "write host:port"),
        (":8090", "name the host"),
        ("127.0.0.1:99999", "at most 65535"),
        ("no.such.host.invalid:1", "can't be resolved"),
    ],
)
def test_an_address_that_is_none(address: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        listen(address, Door())


def test_others_reach_it_with_all_that_it_takes_only(tmp_path: Path) -> None:
    door, tls = Door([TOKEN.encode()]), Tls(tmp_path / "c", tmp_path / "k")
    with pytest.raises(ConfigError, match="nobody has to say who they are"):
        listen("0.0.0.0:0", Door())
    with pytest.raises(ConfigError, match="nobody has to say who they are"):
        listen("0.0.0.0:0", Door(), tls)
    with pytest.raises(ConfigError, match="unencrypted"):
        listen("0.0.0.0:0", door)
    with pytest.raises(ConfigError, match="nobody has signed"):
        listen("0.0.0.0:0", door, plain=True, open_model=False)
    found = listen("0.0.0.0:0", door, plain=True)
    assert found.any_address and found.url.startswith("http://0.0.0.0:")
    found.socket.close()


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(ConfigError, match="in use"):
            listen(f"127.0.0.1:{taken.getsockname()[1]}", Door())


def test_half_of_tls_is_none(tmp_path: Path) -> None:
    assert tls_of(None, None, None) is None
    for given in ((tmp_path, None, None), (None, tmp_path, None), (None, None, tmp_path)):
        with pytest.raises(ConfigError, match="needs --tls-certificate and --tls-key"):
            tls_of(*given)
    key = tmp_path / "key"
    key.write_bytes(b"no key")
    with pytest.raises(ProvisionError, match="may read this secret"):
        key.chmod(0o644)
        Tls(key, key).context()
    key.chmod(0o600)
    with pytest.raises(ConfigError, match="can't be used"):
        Tls(key, key).context()
