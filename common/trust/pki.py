"""The consortium's certificates: one authority, the server's certificate, one per member.

X.509 with ECDSA P-256 (RFC 5280; gRPC's TLS takes no Ed25519). A certificate *is* an identity: its
one URI names federation, role, name and the Ed25519 key that signs everything else,

    wardround://<federation>/server/<64 hex digits>
    wardround://<federation>/<hospital, researcher or coordinator>/<name>/<64 hex digits>

and nothing else in it decides anything. The authority signs certificates and the federation's
description with the same key; a description's signature has a prefix that no certificate starts
with, so neither can stand for the other.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wardround.common.durable.files import sync
from wardround.common.durable.private import (
    private_folder,
    read_private,
    read_public,
    write_private,
    write_public,
)
from wardround.common.errors import ProvisionError
from wardround.common.names import HOSPITAL_NAME, ROLES, SERVER, Kind, Role
from wardround.common.trust.certificate_form import (
    builder,
    host_name,
    key_usage,
    purpose_of,
    self_signed,
)
from wardround.common.trust.identity import KEY_BYTES

CERTIFICATE_DAYS = 365
"""How long a certificate is valid; no party's beyond its authority's."""

PublicKey = ec.EllipticCurvePublicKey
PrivateKey = ec.EllipticCurvePrivateKey

_DESCRIPTION = b"wardround federation description 1\n"
_NAME = HOSPITAL_NAME.pattern
_URI = re.compile(
    rf"wardround://({_NAME})/(?:(server)|({'|'.join(ROLES)})/({_NAME}))/([0-9a-f]{{64}})"
)
_LOCAL = ("localhost", "127.0.0.1", "::1")
_LOST = "restore it from the backup: a new authority means a new kit for every member"


@dataclass(frozen=True)
class CertificateInfo:
    """What a certificate says of its owner.

    identity : Ed25519 public key
    hosts : names and addresses under which a server is reached
    """

    kind: Kind
    federation: str
    name: str
    identity: bytes
    serial: int
    not_before: datetime
    not_after: datetime
    hosts: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "server" if self.kind == "server" else f"{self.kind} '{self.name}'"


def now_utc() -> datetime:
    """This machine's clock, in UTC."""
    return datetime.now(UTC)


# --- keys -------------------------------------------------------------------------------------
def generate_key() -> PrivateKey:
    """A new TLS key from the operating system's generator."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: PrivateKey) -> bytes:
    """PKCS #8, not encrypted: for a file that only its owner can read."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def read_key(pem: bytes, file: str = "key") -> PrivateKey:
    """The P-256 key in a PEM file. Raises ProvisionError."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ProvisionError(f"{file}: not a private key in PEM form without password") from None
    if not isinstance(key, PrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ProvisionError(f"{file}: not an ECDSA P-256 key")
    return key


def key_bytes(public: PublicKey) -> bytes:
    """The key's SubjectPublicKeyInfo, DER."""
    return public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


# --- certificates -----------------------------------------------------------------------------
def read_certificate(pem: bytes, file: str = "certificate") -> CertificateInfo:
    """What a server's or member's certificate says; not whether it is valid.

    Raises ProvisionError if it isn't exactly one certificate of the form that ``Authority`` issues.
    """
    certificate = _load(pem, file)
    try:
        extensions = certificate.extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        raise ProvisionError(f"{file}: not a certificate of a wardround federation") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    match = _URI.fullmatch(uris[0]) if len(uris) == 1 else None
    if match is None or constraints.ca:
        raise ProvisionError(f"{file}: not a certificate of a wardround federation")
    kind: Kind = next((role for role in ROLES if role == match[3]), "server")
    name = match[4] or SERVER
    if list(usage) != [purpose_of(kind)] or _common_name(certificate.subject) != name:
        raise ProvisionError(f"{file}: the certificate contradicts itself on whose it is")
    return CertificateInfo(
        kind,
        match[1],
        name,
        bytes.fromhex(match[5]),
        certificate.serial_number,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        tuple(str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)),
    )


def certificate_key(pem: bytes, file: str = "certificate") -> PublicKey:
    """The P-256 key that a certificate is for. Raises ProvisionError."""
    try:
        key = _load(pem, file).public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, PublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ProvisionError(f"{file}: not the certificate of an ECDSA P-256 key")
    return key


def check_validity(info: CertificateInfo, now: datetime, file: str = "certificate") -> None:
    """Raise ProvisionError if a certificate has expired or isn't valid yet."""
    if now < info.not_before:
        raise ProvisionError(
            f"{file}: the certificate of {info} is not valid before {_time(info.not_before)}, and "
            f"this machine's clock says {_time(now)}; set the clock"
        )
    if now > info.not_after:
        raise ProvisionError(
            f"{file}: the certificate of {info} expired on {_time(info.not_after)} (the clock says "
            f"{_time(now)}); the coordinator renews it: wardround provision FILE --renew "
            f"{info.name}"
        )


def check_issued(pem: bytes, ca_pem: bytes, file: str, ca_file: str = "ca.pem") -> None:
    """Raise ProvisionError unless the certificate is signed by the authority's."""
    try:
        _load(pem, file).verify_directly_issued_by(_load(ca_pem, ca_file))
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        raise ProvisionError(
            f"{file}: not signed by the authority of {ca_file}; the two are of different "
            "federations or kits: use the files of one kit"
        ) from None


def authority_federation(ca_pem: bytes, now: datetime | None = None, file: str = "ca.pem") -> str:
    """The federation whose authority this is. Raises ProvisionError also if it isn't valid now."""
    certificate, now = _load(ca_pem, file), now or now_utc()
    name = _common_name(certificate.subject)
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        is_ca = False
    if not is_ca or not HOSPITAL_NAME.fullmatch(name):
        raise ProvisionError(f"{file}: not the certificate of a federation's authority")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise ProvisionError(
            f"{file}: the authority is valid from {_time(certificate.not_valid_before_utc)} to "
            f"{_time(certificate.not_valid_after_utc)}, and this machine's clock says {_time(now)}"
        )
    return name


def fingerprint(pem: bytes, file: str = "ca.pem") -> str:
    """SHA-256 of a certificate as 'AB:CD:...', as ``openssl x509 -fingerprint -sha256`` says it."""
    return _load(pem, file).fingerprint(hashes.SHA256()).hex(":").upper()


def verify_signature(ca_pem: bytes, body: bytes, signature: bytes) -> bool:
    """Whether ``Authority.sign`` of the authority in ``ca_pem`` made this signature of ``body``.

    Raises ProvisionError if ``ca_pem`` isn't a certificate.
    """
    key = certificate_key(ca_pem, "ca.pem")
    try:
        key.verify(signature, _DESCRIPTION + body, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


class Authority:
    """The consortium's certificate authority; ``folder`` holds ``ca.pem`` and ``ca.key`` (0600)."""

    def __init__(self, federation: str, ca_pem: bytes, key: PrivateKey) -> None:
        self.federation, self.ca_pem = federation, ca_pem
        self._key, self._certificate = key, _load(ca_pem, "ca.pem")

    @classmethod
    def create(cls, folder: Path, federation: str, now: datetime | None = None) -> Authority:
        """A new authority in a new folder: a crash leaves all of it or nothing.

        Raises ProvisionError if the folder exists: an authority is never replaced.
        """
        if folder.exists():
            raise ProvisionError(f"{folder}: exists; an authority is never replaced")
        if not HOSPITAL_NAME.fullmatch(federation):
            raise ProvisionError(f"{federation[:80]!r} can't be a federation's name")
        key = generate_key()
        ca_pem = self_signed(federation, key, now or now_utc())
        new = folder.with_name(f".{folder.name}.new")
        try:
            shutil.rmtree(new, ignore_errors=True)
            private_folder(new)
            write_private(new / "ca.key", key_to_pem(key))
            write_public(new / "ca.pem", ca_pem)
            os.rename(new, folder)
            sync(folder.parent)
        except OSError as error:
            raise ProvisionError(f"{folder}: can't be made ({error.strerror})") from None
        return cls(federation, ca_pem, key)

    @classmethod
    def open(cls, folder: Path, federation: str, now: datetime | None = None) -> Authority:
        """What ``create`` made. Raises ProvisionError, also for another federation's."""
        ca_path, key_path = folder / "ca.pem", folder / "ca.key"
        ca_pem = read_public(ca_path, _LOST)
        key = read_key(read_private(key_path, _LOST), str(key_path))
        found = authority_federation(ca_pem, now, str(ca_path))
        if found != federation:
            raise ProvisionError(
                f"{ca_path}: the authority of federation '{found}', not of '{federation}'; give "
                "each federation its own server.folder"
            )
        if key_bytes(key.public_key()) != key_bytes(certificate_key(ca_pem, str(ca_path))):
            raise ProvisionError(f"{key_path}: not the key of {ca_path}; {_LOST}")
        return cls(federation, ca_pem, key)

    def issue_member(
        self,
        role: Role,
        name: str,
        public_key: PublicKey,
        identity: bytes,
        now: datetime | None = None,
    ) -> bytes:
        """A member's certificate, PEM: for its TLS key and its Ed25519 public key."""
        if not HOSPITAL_NAME.fullmatch(name) or name == SERVER:
            raise ProvisionError(f"{name[:80]!r} can't be a {role}'s name")
        return self._issue(role, name, public_key, identity, [], now)

    def issue_server(
        self,
        host: str,
        public_key: PublicKey,
        identity: bytes,
        now: datetime | None = None,
        former: str = "",
    ) -> bytes:
        """The server's certificate, PEM; ``host`` is the name or IP that hospitals dial,
        ``former`` one that some of them may still dial."""
        hosts = dict.fromkeys([*(_LOCAL if host in _LOCAL else (host,)), *filter(None, [former])])
        return self._issue("server", SERVER, public_key, identity, list(hosts), now)

    def sign(self, body: bytes) -> bytes:
        """ECDSA with SHA-256 over a description's body; ``verify_signature`` checks it."""
        return self._key.sign(_DESCRIPTION + body, ec.ECDSA(hashes.SHA256()))

    def __repr__(self) -> str:
        return f"Authority({self.federation!r})"

    def _issue(
        self,
        kind: Kind,
        name: str,
        public_key: PublicKey,
        identity: bytes,
        hosts: Sequence[str],
        now: datetime | None,
    ) -> bytes:
        if len(identity) != KEY_BYTES or not isinstance(public_key.curve, ec.SECP256R1):
            raise ProvisionError(f"{name}: needs a P-256 key and a {KEY_BYTES}-byte identity")
        middle = "/server/" if kind == "server" else f"/{kind}/{name}/"
        uri = f"wardround://{self.federation}{middle}{identity.hex()}"
        now = now or now_utc()
        end = min(now + timedelta(days=CERTIFICATE_DAYS), self._certificate.not_valid_after_utc)
        built = (
            builder(public_key, now, end)
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose_of(kind)]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName(
                    [*map(host_name, hosts), x509.UniformResourceIdentifier(uri)]
                ),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        signed = built.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)


def _load(pem: bytes, file: str) -> x509.Certificate:
    try:
        (certificate,) = x509.load_pem_x509_certificates(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ProvisionError(f"{file}: not one certificate in PEM form") from None
    return certificate


def _common_name(name: x509.Name) -> str:
    values = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(values[0].value) if len(values) == 1 else ""


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
