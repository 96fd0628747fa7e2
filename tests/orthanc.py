"""An Orthanc of the tests' own: a real archive with DICOMweb, C-FIND, C-GET and C-MOVE.

It listens on every interface, whatever it is told. So it runs in a network namespace that has a
loopback and nothing else; who talks to it does so from a thread that is in there too (``call``).
"""

from __future__ import annotations

import ctypes
import fcntl
import ipaddress
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

T = TypeVar("T")
BRING = "apt-get install -y --no-install-recommends orthanc orthanc-dicomweb"
TITLE, USER, PASSWORD = "ARCHIVE", "ward", "word-of-the-archive"
WEB_PORT, DICOM_PORT, MOVE_PORT = 8042, 4242, 11112
_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_NEW_NETWORK = 0x40000000
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1
_START_S = 30


def missing() -> str:
    """Why it can't run here, with the command that brings it; '' if it can."""
    if shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        return f"Orthanc isn't installed: {BRING}"
    if not _PLUGIN.exists():
        return f"Orthanc's DICOMweb isn't installed: {BRING}"
    with ThreadPoolExecutor(1) as inside:
        try:
            inside.submit(_enter).result()
        except OSError as error:
            return f"no network namespace ({error.strerror}): run the tests as root"
    return ""


class Orthanc:
    """One archive.

    call : runs a function where the archive is reached, and gives what it returns or raises
    """

    url = f"http://127.0.0.1:{WEB_PORT}/dicom-web"

    def __init__(self, folder: Path, inside: ThreadPoolExecutor, tls: Path | None = None) -> None:
        self._folder, self._inside, self._tls = folder, inside, tls

    def call(self, work: Callable[[], T]) -> T:
        return self._inside.submit(work).result()

    def _protected(self, tls: Path) -> dict[str, object]:
        """DICOM over TLS, which asks callers for a certificate; Debian's Orthanc falls at HTTPS."""
        modality = {"AET": "WARDROUND", "Host": "127.0.0.1", "Port": MOVE_PORT, "UseDicomTls": True}
        return {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(tls / "cert.pem"),
            "DicomTlsPrivateKey": str(tls / "key.pem"),
            "DicomTlsTrustedCertificates": str(tls / "ca.pem"),
            "DicomModalities": {"ward": modality},
        }

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, and wait until it answers."""
        settings: dict[str, object] = {
            "Name": "tests",
            "StorageDirectory": str(self._folder),
            "IndexDirectory": str(self._folder),
            "HttpPort": WEB_PORT,
            "DicomPort": DICOM_PORT,
            "DicomAet": TITLE,
            "DicomCheckCalledAet": True,
            "DicomModalities": {"ward": ["WARDROUND", "127.0.0.1", MOVE_PORT]},
            "RemoteAccessAllowed": True,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "Plugins": [str(_PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "HttpThreadsCount": 4,
        }
        if self._tls is not None:
            settings |= self._protected(self._tls)
        file = self._folder / "settings.json"
        file.write_text(json.dumps(settings))
        program = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        with open(self._folder / "log", "wb") as log:
            process = subprocess.Popen(
                [str(program), str(file)],
                env={**os.environ, "TCP_NODELAY": "1"},  # else each DICOM message takes 45 ms
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        for port in (WEB_PORT, DICOM_PORT):
            _wait(port, process, self._folder / "log")
        return process


def _enter() -> None:
    """This thread gets a network of its own. Raises OSError."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack("16sh", fcntl.ioctl(any_socket, _GET_FLAGS, name))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh", b"lo", flags | _UP))


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(_START_S * 20):
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"Orthanc doesn't answer: {log.read_text('utf-8', 'replace')[-2000:]}")


@contextmanager
def running(tls: Path | None = None) -> Iterator[Orthanc]:
    """An archive for as long as the block lasts. Raises FileNotFoundError where ``missing``.

    tls : a folder that ``certificates`` has made
    """
    if reason := missing():
        raise FileNotFoundError(reason)
    with (
        tempfile.TemporaryDirectory(prefix="ward-orthanc-") as name,
        ThreadPoolExecutor(1, initializer=_enter) as inside,
    ):
        archive = Orthanc(Path(name), inside, tls)
        process = archive.call(archive.start)
        try:
            yield archive
        finally:
            process.kill()  # there is nothing to keep
            process.wait()


def certificates(folder: Path) -> Path:
    """``ca.pem`` of an authority, ``cert.pem`` and ``key.pem`` of a certificate for 127.0.0.1."""
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    ca, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    uses = dict.fromkeys(
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
        "key_cert_sign crl_sign encipher_only decipher_only".split(),
        False,
    )
    for file, key, authority in (("ca.pem", ca, True), ("cert.pem", own, False)):
        subject = name if authority else x509.Name([])
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(authority, None), True)
        )
        if authority:
            made = made.add_extension(x509.KeyUsage(**uses | {"key_cert_sign": True}), True)
        else:
            made = made.add_extension(here, True)
        pem = made.sign(ca, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (folder / file).write_bytes(pem)
    (folder / "key.pem").touch(0o600)
    (folder / "key.pem").write_bytes(
        own.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder
