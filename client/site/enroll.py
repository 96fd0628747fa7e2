"""A member that makes its own keys, so that they never leave: request, then accept the answer.

The folder becomes a kit of one role. Keys are made once and never replaced. The answer is believed
only as far as it fits the member's own keys, role and name; the authority that it brings is to be
compared by phone, and a folder that has one takes no other.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from wardround.client.site.kit import KITS, MemberKit
from wardround.common.durable.private import (
    private_folder,
    read_private,
    read_public,
    write_private,
    write_public,
)
from wardround.common.errors import ProvisionError
from wardround.common.names import ROLES, Role
from wardround.common.trust import pki
from wardround.common.trust.credentials import (
    CA,
    DESCRIPTION,
    IDENTITY,
    NAMES,
    SITE,
    check_membership,
    identity_text,
    read_identity,
    site_text,
)
from wardround.common.trust.description import Description, is_signed_description
from wardround.common.trust.enrolment import Answer, SigningRequest, check_name
from wardround.common.trust.identity import Identity

_FIRST = "enroll NAME FOLDER first (wardround client, or of a researcher wardround study)"


def request(name: str, folder: Path, role: Role = "hospital") -> Path:
    """Make this member's keys, if the folder has none, and <name>.request to hand over.

    Raises ProvisionError for an impossible name, or a folder of another member.
    """
    check_name(name, role)
    _check_own(role, name, folder)
    private_folder(folder)
    key_path, identity_path = folder / NAMES[role].key, folder / IDENTITY
    if not key_path.exists():
        write_private(key_path, pki.key_to_pem(pki.generate_key()))
    if not identity_path.exists():
        write_private(identity_path, identity_text(Identity.generate()))
    key = pki.read_key(read_private(key_path, _FIRST), str(key_path))
    path = folder / f"{name}.request"
    identity = read_identity(identity_path, _FIRST)
    write_public(path, SigningRequest.make(name, key, identity, role))
    return path


def fingerprint(request_path: Path) -> str:
    """What the coordinator's screen must show for this request. Raises ProvisionError."""
    return SigningRequest.read(read_public(request_path, _FIRST), str(request_path)).fingerprint


def accept(answer_path: Path, folder: Path, now: datetime | None = None) -> MemberKit:
    """Complete the kit with the coordinator's answer, renew its certificate, or, given a newer
    ``federation.signed``, its description; returns the kit.

    ``authority_fingerprint`` is what to compare by phone. Nothing is written unless everything
    fits together. The policy is this installation's own text and never replaced. Raises
    ProvisionError.
    """
    mend = "the coordinator writes it: wardround provision FILE --request NAME.request"
    data, file, now = read_public(answer_path, mend), str(answer_path), now or pki.now_utc()
    if is_signed_description(data):
        return KITS[_role_of(folder)].open(folder, now).update_description(data, now)
    answer = Answer.read(data, file)
    pki.authority_federation(answer.ca_pem, now, file)
    _check_authority(answer.ca_pem, folder, file)
    pem = answer.certificate_pem
    info = pki.read_certificate(pem, file)
    pki.check_issued(pem, answer.ca_pem, file, file)
    pki.check_validity(info, now, file)
    role = _role_of(folder)
    _check_keys(pem, info, role, folder, file)
    _check_own(role, info.name, folder)
    description = Description.read(answer.description, answer.ca_pem, file)
    check_membership(info, description, file)
    write_public(folder / CA, answer.ca_pem)
    if description.order >= _held(folder, answer.ca_pem):
        write_public(folder / DESCRIPTION, answer.description)
    if role == "hospital" and not (folder / SITE).exists():
        write_public(folder / SITE, site_text(info.federation))
    # the certificate last: until it is there the folder is no kit, and takes the answer again
    write_public(folder / NAMES[role].certificate, pem)
    return KITS[role].open(folder, now)


def _role_of(folder: Path) -> Role:
    """Whose keys the folder has; a hospital's where it has none, and what is read next says so."""
    return next((role for role in ROLES if (folder / NAMES[role].key).exists()), "hospital")


def _check_keys(pem: bytes, info: pki.CertificateInfo, role: Role, folder: Path, file: str) -> None:
    """Raise ProvisionError unless it is this member's certificate, and not an older one."""
    path = folder / NAMES[role].key
    key = pki.read_key(read_private(path, _FIRST), str(path)).public_key()
    identity = read_identity(folder / IDENTITY, _FIRST)
    same_key = pki.key_bytes(key) == pki.key_bytes(pki.certificate_key(pem, file))
    if not same_key or (info.kind, info.identity) != (role, identity.public):
        raise ProvisionError(
            f"{file}: the certificate of {info} is not for the keys in {folder}; give the answer "
            "to this folder's own request"
        )
    path = folder / NAMES[role].certificate
    if path.exists() and pki.read_certificate(path.read_bytes()).not_after > info.not_after:
        raise ProvisionError(f"{file}: older than {path}, which stays; ask for a new answer")


def _check_own(role: Role, name: str, folder: Path) -> None:
    """Raise ProvisionError if the folder's keys, request or certificate are of another role or
    name."""
    for other in ROLES:
        if other != role and (folder / NAMES[other].key).exists():
            raise ProvisionError(
                f"{folder}: has the keys of a {other}; give each member its own folder"
            )
    others = [path.stem for path in folder.glob("*.request") if path.stem != name]
    path = folder / NAMES[role].certificate
    if path.exists():
        found = pki.read_certificate(read_public(path, _FIRST), str(path)).name
        others += [found] if found != name else []
    if others:
        raise ProvisionError(
            f"{folder}: has the keys of {role} '{others[0]}', not of '{name}'; give each "
            f"{role} its own folder"
        )


def _check_authority(ca_pem: bytes, folder: Path, file: str) -> None:
    path = folder / CA
    if path.exists() and pki.fingerprint(read_public(path, _FIRST), str(path)) != pki.fingerprint(
        ca_pem, file
    ):
        raise ProvisionError(
            f"{file}: comes from another authority than {path}; if the consortium has a new one, "
            "enroll again in a new folder"
        )


def _held(folder: Path, ca_pem: bytes) -> tuple[int, str]:
    """The order of the folder's description, the lowest without one: an answer that lay about for a
    while may bring an older one than the server has sent since."""
    path = folder / DESCRIPTION
    if not path.exists():
        return (0, "")
    return Description.read(read_public(path, _FIRST), ca_pem, str(path)).order
