"""What a party holds, in one folder: certificate, keys, and the federation's description.

    hospital (a start-up kit): ca.pem client.pem client.key identity.key federation.signed site.toml
    server:                    ca.pem server.pem server.key identity.key federation.signed
    researcher:                ca.pem researcher.pem researcher.key identity.key federation.signed
    coordinator:               ca.pem coordinator.pem coordinator.key identity.key federation.signed

The two ``.key`` files are secrets (0600). Nothing is used before all of it fits together: every
mistake is a ProvisionError that names the file and the mend.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from wardround.common.durable.private import read_private, read_public
from wardround.common.errors import ProvisionError
from wardround.common.names import Kind
from wardround.common.trust import pki
from wardround.common.trust.description import Description
from wardround.common.trust.identity import KEY_BYTES, Identity

CA, IDENTITY, DESCRIPTION, SITE = "ca.pem", "identity.key", "federation.signed", "site.toml"


class Names(NamedTuple):
    """What the TLS files of a party are called, and what to do if one is missing."""

    certificate: str
    key: str
    mend: str


_STUDY_KIT = "ask the coordinator for the kit, or make one: wardround study enroll NAME KIT"
NAMES: dict[Kind, Names] = {
    "hospital": Names(
        "client.pem",
        "client.key",
        "a start-up kit has it: ask the coordinator for the kit, or enroll again",
    ),
    "server": Names("server.pem", "server.key", "run wardround provision FILE first"),
    "researcher": Names("researcher.pem", "researcher.key", _STUDY_KIT),
    "coordinator": Names("coordinator.pem", "coordinator.key", _STUDY_KIT),
}


@dataclass(frozen=True)
class Credentials:
    """All that a party proves itself with; made by ``read_credentials`` only, which checks it."""

    folder: Path
    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes = field(repr=False)
    info: pki.CertificateInfo
    identity: Identity
    description: Description


def read_credentials(folder: Path, kind: Kind, now: datetime | None = None) -> Credentials:
    """A party's folder, whole and consistent; ``now`` defaults to this machine's clock.

    Each file is believed only by one that was looked at before: the authority, the certificate that
    it issued, the two keys that this is for, the description that the authority signed, and at last
    whether that still has this party.

    Raises ProvisionError for the first thing that is missing, readable by others, expired or not
    valid yet, of another key, identity, authority or federation, revoked, or not in the roster.
    """
    names, now = NAMES[kind], now or pki.now_utc()
    if not folder.is_dir():
        raise ProvisionError(f"{folder}: no such folder; {names.mend}")
    ca_path, path = folder / CA, folder / names.certificate
    ca_pem = read_public(ca_path, names.mend)
    federation = pki.authority_federation(ca_pem, now, str(ca_path))
    pem = read_public(path, names.mend)
    info = pki.read_certificate(pem, str(path))
    pki.check_issued(pem, ca_pem, str(path), str(ca_path))
    if info.kind != kind or info.federation != federation:
        raise ProvisionError(
            f"{path}: the certificate of the {info} of federation '{info.federation}', where a "
            f"{kind}'s of '{federation}' belongs; use the files of one kit"
        )
    pki.check_validity(info, now, str(path))
    key_pem = read_matching_key(folder / names.key, pem, path, names.mend)
    identity = read_identity(folder / IDENTITY, names.mend)
    if identity.public != info.identity:
        raise ProvisionError(
            f"{folder / IDENTITY}: not the identity that {path} is for; use the files of one kit"
        )
    signed_path = folder / DESCRIPTION
    description = Description.read(read_public(signed_path, names.mend), ca_pem, str(signed_path))
    check_membership(info, description, str(signed_path))
    return Credentials(folder, ca_pem, pem, key_pem, info, identity, description)


def read_party(folder: Path) -> Credentials:
    """``read_credentials`` of whoever's folder it is. Raises ProvisionError."""
    for kind, names in NAMES.items():
        if (folder / names.certificate).is_file():
            return read_credentials(folder, kind)
    raise ProvisionError(f"{folder}: no certificate; name a hospital's kit, or the server's folder")


def read_matching_key(path: Path, certificate: bytes, certificate_path: Path, mend: str) -> bytes:
    """The PEM of the key that the certificate is for. Raises ProvisionError."""
    pem = read_private(path, mend)
    found = pki.key_bytes(pki.read_key(pem, str(path)).public_key())
    if found != pki.key_bytes(pki.certificate_key(certificate, str(certificate_path))):
        raise ProvisionError(
            f"{path}: not the key that {certificate_path} is for; use the files of one kit"
        )
    return pem


def read_identity(path: Path, mend: str) -> Identity:
    """The Ed25519 identity in a file of 64 hexadecimal digits. Raises ProvisionError."""
    try:
        secret = bytes.fromhex(read_private(path, mend).decode("ascii").strip())
        if len(secret) != KEY_BYTES:
            raise ValueError
        return Identity.from_bytes(secret)
    except ValueError:
        raise ProvisionError(
            f"{path}: not an identity key ({2 * KEY_BYTES} hexadecimal digits); {mend}"
        ) from None


def identity_text(identity: Identity) -> bytes:
    """What ``read_identity`` reads. A secret."""
    return identity.secret_bytes().hex().encode() + b"\n"


def check_membership(info: pki.CertificateInfo, description: Description, file: str) -> None:
    """Raise ProvisionError unless the description still has the certificate's owner as it is.

    It must be of that federation, its serial number not revoked, and its identity the one that the
    description names.
    """
    if info.federation != description.federation:
        raise ProvisionError(
            f"{file}: describes federation '{description.federation}', and the certificate is of "
            f"'{info.federation}'; use the files of one kit"
        )
    if info.serial in description.revoked:
        raise ProvisionError(
            f"{file}: the certificate of {info} (serial {info.serial:x}) is revoked; ask the "
            "coordinator for a new kit"
        )
    listed = description.key_of(info.kind, info.name)
    if listed is None:
        raise ProvisionError(
            f"{file}: {info} is not in the roster (any more); ask the coordinator to add it"
        )
    if listed != info.identity:
        raise ProvisionError(
            f"{file}: lists {info} with another identity than its certificate; ask the coordinator "
            "for the newest kit"
        )


def site_text(federation: str) -> bytes:
    """The commented policy that a new kit of this federation starts with."""
    template = (Path(__file__).parents[1] / SITE).read_text("utf-8")
    return template.replace("{federation}", federation).encode()
