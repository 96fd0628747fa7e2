"""host:port, IPv6 literals too: settings, certificates, TLS."""

from __future__ import annotations

import dataclasses
import socket
import ssl
import threading
from pathlib import Path

import pytest

from tests.provisioning import federation
from wardround.client.site.enroll import accept
from wardround.client.site.kit import Kit
from wardround.client.transport.diagnose import diagnose
from wardround.common.address import join_address, split_address
from wardround.common.config.load import Config, load_config, parse_config
from wardround.common.errors import ConfigError
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision
from wardround.server.provision.kits import load_server_folder


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("fl.example.org:8443", ("fl.example.org", 8443)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("[::1]:8443", ("::1", 8443)),
        ("[2001:DB8:0::1]:9", ("2001:db8::1", 9)),
        (":8443", ("", 8443)),
    ],
)
def test_an_address_has_a_host_and_a_port(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts
    assert split_address(join_address(*parts)) == parts


@pytest.mark.parametrize("text", ["::1:8443", "[::1]", "[nobody]:1", "a:70000", "[fe80::1%lo]:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write host:port|no IPv6|zone|at most 65535"):
        split_address(text)
    with pytest.raises(ConfigError, match="server.address"):
        parse_config(f'[server]\naddress = "{text}"\n')


def test_a_server_at_an_ipv6_address_is_reached_by_its_certificate(tmp_path: Path) -> None:
    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listening:
        port = listening.getsockname()[1]
        config = federation(tmp_path, hospitals=("north", "south", "east"))
        config = at(config.folder, f"[0:0::1]:{port}")
        assert config.server.address == f"[::1]:{port}"
        kit = Kit.open(provision.provision(config, now=now_utc()).kits[0])
        server = load_server_folder(config)
        assert "::1" in server.info.hosts and kit.description.address == config.server.address
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server.folder / "server.pem", server.folder / "server.key")

        def answer() -> None:
            connection, _ = listening.accept()
            with context.wrap_socket(connection, server_side=True) as secure:
                secure.sendall(b"x")

        thread = threading.Thread(target=answer)
        thread.start()
        assert diagnose(kit) == ""
        thread.join(10)
        assert "[::1]:1 refused the connection" in diagnose(moved(kit))


def at(folder: Path, address: str) -> Config:
    return load_config(folder / "federation.toml", [f'server.address="{address}"'])


def moved(kit: Kit) -> Kit:
    description = dataclasses.replace(kit.description, address="[::1]:1")
    return dataclasses.replace(kit, description=description)


def test_a_server_that_moves_is_told_at_both_ends(tmp_path: Path) -> None:
    config = federation(tmp_path, hospitals=("north", "south", "east"))
    handed_over = tmp_path / "kit"
    made = provision.provision(config, now=now_utc())
    made.kits[0].rename(handed_over)
    config = at(config.folder, "fl.example.org:8443")
    (note,) = [x for x in provision.provision(config, now=now_utc()).notes if "server.address" in x]
    signed = config.folder / "provision" / "server" / "federation.signed"
    assert "enroll KIT --answer federation.signed" in note and str(signed) in note
    hosts = load_server_folder(config).info.hosts
    assert {"localhost", "fl.example.org"} <= set(hosts)  # who dials the old name is let in
    assert accept(signed, handed_over).description.address == "fl.example.org:8443"
    assert Kit.open(handed_over).description.address == "fl.example.org:8443"
