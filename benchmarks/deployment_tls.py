"""Certificates for the peers: an authority, a server for localhost and a client, ECDSA P-256."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey


class PeerFiles(NamedTuple):
    """The PEM files of one end."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def of(cls, folder: Path, name: str) -> PeerFiles:
        """Where ``make_certificates`` puts those of 'server' and 'client'."""
        return cls(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key")


def make_certificates(folder: Path) -> None:
    """Write an authority's certificate, and certificate and key of a server and of a client."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("benchmark authority", ca_key, None, ca_key)
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    for name in ("server", "client"):
        files, key = PeerFiles.of(folder, name), ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, key, ca, ca_key)
        files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files.key.touch(0o600)
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


def _certificate(name: str, key: Key, ca: x509.Certificate | None, ca_key: Key) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.subject if ca else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca is None, None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return builder.sign(ca_key, hashes.SHA256())


def write_node_key(path: Path) -> Path:
    """A key pair for Flower's node authentication, P-384, OpenSSH's form; gives the public one."""
    key = ec.generate_private_key(ec.SECP384R1())
    path.touch(0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    public = path.with_suffix(".pub")
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
    )
    return public


def server_credentials(files: PeerFiles) -> Any:
    """gRPC's, with a certificate asked of every client."""
    import grpc

    pair = (files.key.read_bytes(), files.certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], files.ca.read_bytes(), True)


def channel_credentials(files: PeerFiles) -> Any:
    """gRPC's, for a client."""
    import grpc

    parts = (files.ca, files.key, files.certificate)
    return grpc.ssl_channel_credentials(*(part.read_bytes() for part in parts))
