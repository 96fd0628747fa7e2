"""What stands in a certificate whatever it is for: X.509 of one form, built in one place.

``common/trust/pki.py`` says what a certificate means here, issues and reads it.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wardround.common.names import Kind

AUTHORITY_DAYS = 3652
_BACKDATED = timedelta(minutes=5)  # a peer's clock may be a little behind


def self_signed(federation: str, key: ec.EllipticCurvePrivateKey, now: datetime) -> bytes:
    """An authority's certificate, PEM, for ``AUTHORITY_DAYS``."""
    built = (
        builder(key.public_key(), now, now + timedelta(days=AUTHORITY_DAYS))
        .subject_name(_authority_name(federation))
        .issuer_name(_authority_name(federation))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(authority=True), critical=True)
    )
    return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def builder(
    public_key: ec.EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    """A certificate that is begun: its key, a new serial number, and from when until when."""
    return (
        x509.CertificateBuilder()
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _authority_name(federation: str) -> x509.Name:
    """Never a hospital's whole name, whatever that hospital is called."""
    parts = {NameOID.ORGANIZATION_NAME: "wardround authority", NameOID.COMMON_NAME: federation}
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts.items()])


def key_usage(authority: bool) -> x509.KeyUsage:
    """What a certificate's key may be used for."""
    return x509.KeyUsage(
        digital_signature=True,  # the authority signs descriptions, the others their handshakes
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def purpose_of(kind: Kind) -> x509.ObjectIdentifier:
    """Which end of a connection a party may be: only the server is dialled."""
    if kind == "server":
        return ExtendedKeyUsageOID.SERVER_AUTH
    return ExtendedKeyUsageOID.CLIENT_AUTH


def host_name(host: str) -> x509.GeneralName:
    """A name or an IP address under which the server is reached."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
