"""A real port: TLS 1.3, certificates, what is slow, and a process that is ended."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.client.serving.made import SIGNERS, Made
from wardround.client.serving import serving
from wardround.client.serving.listening import Tls
from wardround.client.serving.patience import patient_protocol
from wardround.client.serving.serving import Asking, Reach, Trusting, opened

ROW = json.dumps({"rows": [{"age": 50, "ward": "2"}]})
HEAD = {"content-type": "application/json"}


def certificates(folder: Path) -> None:
    """``ca``, and of it ``here`` (a server's, for localhost) and ``ward`` (a client's)."""
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "here", "ward")}
    now = datetime.now(UTC)
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    for name, key in keys.items():
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(name == "ca", None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(keys["ca"].public_key()),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(keys["ca"], hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        own = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (folder / f"{name}.key").write_bytes(own)
        (folder / f"{name}.key").chmod(0o600)


@contextmanager
def running(asking: Asking) -> Iterator[int]:
    """The port that it is served at."""
    with opened(asking) as (app, listening, _):
        server = serving.server(app, asking.reach.tls)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listening.socket]}, daemon=True
        )
        thread.start()
        try:
            yield listening.socket.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive(), "it ends"


def test_who_has_a_certificate_of_the_authority_is_answered_and_nobody_else(
    model: Made, tmp_path: Path
) -> None:
    certificates(tmp_path)
    tls = Tls(tmp_path / "here.pem", tmp_path / "here.key", tmp_path / "ca.pem")
    asking = Asking(model.export, Reach("127.0.0.1:0", tls=tls), Trusting(signers=SIGNERS))
    with running(asking) as port:
        trusts = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        known = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        known.load_cert_chain(tmp_path / "ward.pem", tmp_path / "ward.key")
        connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=known)
        for _ in range(2):  # on one connection
            connection.request("POST", "/predict", ROW, HEAD)
            answer = connection.getresponse()
            assert answer.status == 200 and json.load(answer)["predictions"]
        assert connection.sock.version() == "TLSv1.3"
        connection.close()
        nobody = http.client.HTTPSConnection("localhost", port, timeout=20, context=trusts)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            nobody.request("GET", "/health")
            nobody.getresponse()
        nobody.close()
        known.minimum_version, known.maximum_version = (ssl.TLSVersion.TLSv1_2,) * 2
        older = http.client.HTTPSConnection("localhost", port, timeout=20, context=known)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            older.request("GET", "/health")
        older.close()


def test_a_head_that_doesnt_come_is_waited_for_no_longer(
    model: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is the one of a second request on the same connection."""
    monkeypatch.setattr(serving, "patient_protocol", lambda: patient_protocol(0.1))
    with running(Asking(model.export, Reach("127.0.0.1:0"), Trusting(signers=SIGNERS))) as port:
        for first in (b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as slow:
                slow.sendall(first)
                if first:
                    assert slow.recv(1000).startswith(b"HTTP/1.1 200")
                slow.sendall(b"POST /predict HTTP/1.1\r\nHo")
                rest = b"".join(iter(lambda: slow.recv(1000), b""))  # noqa: B023
                assert rest == b"" or first and rest.endswith(b'{"status":"ok"}')


def test_the_command_serves_without_torch_and_ends_in_order(model: Made, tmp_path: Path) -> None:
    """As a process of its own, which may not import torch."""
    program = (
        "import sys\n"
        "class No:\n"
        "    def find_spec(self, name, *more):\n"
        "        if name.partition('.')[0] == 'torch':\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, No())\n"
        "from wardround.common.process.main import main\n"
        "sys.argv = ['wardround', *sys.argv[1:]]; main()"
    )
    words = ["serve", str(model.export), "--listen", "127.0.0.1:0"]
    signers = [word for key in SIGNERS for word in ("--signer", key)]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words, *signers],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        lines = [process.stdout.readline() for _ in range(2)]
        assert "good until" in lines[0], process.stderr.read() if not lines[0] else lines
        port = int(lines[1].strip().rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("POST", "/predict", ROW, HEAD)
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in error, error
