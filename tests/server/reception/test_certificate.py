"""The server's certificate is renewed while it listens: the next handshake shows the new one."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from tests.provisioning import federation
from wardround.common.transport import tls
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision
from wardround.server.provision.kits import load_server_folder
from wardround.server.reception.certificate import Certificate


@pytest.fixture
def site(tmp_path: Path):
    config = federation(tmp_path, hospitals=("north", "south"))
    return config, provision.provision(config, now=now_utc()).kits[0]


def shown_serial(port: int, kit: Path) -> int:
    """The serial number of the certificate in a handshake."""
    context = ssl.create_default_context(cafile=kit / "ca.pem")
    context.load_cert_chain(kit / "client.pem", kit / "client.key")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        der = secure.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def test_a_renewed_certificate_is_shown_without_a_restart(site) -> None:
    config, kit = site
    own = Certificate(load_server_folder(config))
    server = grpc.server(futures.ThreadPoolExecutor(1))
    credentials = tls.server_credentials(own.files, own.renewed)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        first = shown_serial(port, kit)
        assert first == load_server_folder(config).info.serial
        provision.renew(config, "server")
        second = shown_serial(port, kit)
        assert second == load_server_folder(config).info.serial != first
    finally:
        server.stop(None).wait()


def test_a_renewal_that_does_not_fit_is_not_taken_up(site) -> None:
    config, kit = site
    own = Certificate(load_server_folder(config))
    assert own.renewed() is None
    path = config.folder / "provision" / "server" / "server.pem"
    path.write_bytes((kit / "client.pem").read_bytes())
    assert own.renewed() is None and own.renewed() is None


def test_handshakes_while_it_is_renewed_all_succeed(site) -> None:
    config, kit = site
    own = Certificate(load_server_folder(config))
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", tls.server_credentials(own.files, own.renewed))
    server.start()
    serials: list[int] = []
    try:
        dial = threading.Thread(
            target=lambda: serials.extend(shown_serial(port, kit) for _ in range(20))
        )
        dial.start()
        provision.renew(config, "server")
        dial.join()
    finally:
        server.stop(None).wait()
    assert len(serials) == 20 and len(set(serials)) <= 2


LISTEN = """
import sys
from concurrent import futures
from pathlib import Path
from wardround.common.transport.only_tls13 import hold_to_tls13
hold_to_tls13()
import wardround.common.transport.tls as tls
import grpc
folder = Path(sys.argv[1])
names = ("ca.pem", "server.pem", "server.key")
files = tls.Files(*((folder / name).read_bytes() for name in names))
server = grpc.server(futures.ThreadPoolExecutor(1))
print(server.add_secure_port("127.0.0.1:0", tls.server_credentials(files)), flush=True)
server.start()
sys.stdin.read()
"""


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_nothing_below_tls_1_3_comes_about(site, version: str) -> None:
    config, kit = site
    command = [sys.executable, "-c", LISTEN, str(config.folder / "provision" / "server")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        context = ssl.create_default_context(cafile=kit / "ca.pem")
        context.load_cert_chain(kit / "client.pem", kit / "client.key")
        context.maximum_version = context.minimum_version = ssl.TLSVersion[version]
        context.set_alpn_protocols(["h2"])
        with socket.create_connection(("127.0.0.1", port)) as plain:
            if version == "TLSv1_2":
                with pytest.raises(ssl.SSLError):
                    context.wrap_socket(plain, server_hostname="localhost")
            else:
                context.wrap_socket(plain, server_hostname="localhost").close()
        process.kill()
