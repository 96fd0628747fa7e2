"""Everything that a network needs before it runs: authority, server folder, its members' kits.

    provision/               config.server.folder; all folders 0700, keys 0600
        authority/           server/provision/registry.py
        server/              common/trust/credentials.py
        kits/<name>/         a member's kit, with its keys: hand over, then delete
        kits/<name>.answer   to a member that holds its own keys; no secret
        kits/<name>.zip      a kit to hand over (0600)

Each function may be repeated: it makes only what is missing, never the authority or a party's keys
again, and what a crash cut short is finished. The server's ``federation.signed`` is written last: a
running server watches it.
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from wardround.common.config.load import Config
from wardround.common.durable.private import read_public, write_private
from wardround.common.errors import ProvisionError
from wardround.common.names import ROLES, SERVER, Kind, Role
from wardround.common.run.shaping import differences
from wardround.common.secagg.content import shared_settings
from wardround.common.trust import pki
from wardround.common.trust.credentials import (
    CA,
    DESCRIPTION,
    IDENTITY,
    NAMES,
    SITE,
    Credentials,
    read_credentials,
)
from wardround.common.trust.enrolment import SigningRequest
from wardround.server.provision.registry import Registry, Row, only_one
from wardround.server.provision.work import (
    Members,
    Provisioned,
    Work,
    folder_of,
    host_of,
    work_on,
)

_SOON = timedelta(days=30)
_KIT_FILES: dict[Role, tuple[str, ...]] = {
    role: (CA, *NAMES[role][:2], IDENTITY, DESCRIPTION, *([SITE] if role == "hospital" else []))
    for role in ROLES
}


@dataclass(frozen=True)
class ServerFolder(Credentials):
    """The server's folder, checked."""

    @property
    def audit_path(self) -> Path:
        """The server's audit log."""
        return self.folder / "audit.jsonl"

    @property
    def description_path(self) -> Path:
        """What the running server watches."""
        return self.folder / DESCRIPTION


@dataclass(frozen=True)
class Standing:
    """One party in ``standings``: state is valid, expires soon, expired or revoked."""

    name: str
    role: Kind
    serial: str
    expires: datetime
    state: str


def provision(
    config: Config, members: Members | None = None, now: datetime | None = None
) -> Provisioned:
    """Make all that is missing; ``members`` defaults to those of ``[server]``.

    Raises ProvisionError; what was made stays, and the next call goes on from there.
    """
    with work_on(config, now) as work:
        work.make_kits(_listed(config) if members is None else members)
        for role in ROLES:
            for name, title in config.server.titles_of(role).items():
                if name != title:
                    work.note(f"{title} is '{name}' in certificates, folders and logs")
            if members is None:
                _note_unlisted(work, role)
        return work.finish()


def _listed(config: Config) -> Members:
    return [(role, name) for role in ROLES for name in config.server.titles_of(role)]


def _note_unlisted(work: Work, role: Role) -> None:
    """Who takes a name out of the file may expect more of it."""
    listed = set(work.config.server.titles_of(role))
    if unlisted := sorted(set(work.registry.roster(role)) - listed):
        work.note(f"not in server.{role}s, but members until --revoke: {', '.join(unlisted)}")


def add(
    config: Config, name: str, now: datetime | None = None, role: Role = "hospital"
) -> Provisioned:
    """Make a kit for one more member, which the record has from then on as it has the others."""
    return provision(config, [(role, name)], now)


def enroll(
    config: Config, request_path: Path, new_key: bool = False, now: datetime | None = None
) -> tuple[SigningRequest, Provisioned]:
    """Answer a member's signing request; a repeated request gets the same certificate.

    ``new_key``: the request's keys replace the ones that the member had, which are revoked.
    Raises ProvisionError if the request doesn't prove its keys, or the name is another's.
    """
    data = read_public(
        request_path, "the hospital makes it: wardround client enroll NAME FOLDER (others: study)"
    )
    request = SigningRequest.read(data, str(request_path))
    role, name = request.role, request.name
    with work_on(config, now) as work:
        registry = work.registry
        registry.check_name(role, name)
        registry.check_identity(role, name, request.identity)
        held = registry.roster(role).get(name)
        if registry.is_revoked(role, name) or held not in (None, request.identity):
            if not new_key:
                what = "was revoked" if held is None else "is enrolled already, with other keys"
                raise ProvisionError(
                    f"{request_path}: '{name}' {what}; if the {role} confirms by phone that this "
                    f"is its request ({request.fingerprint}), add --new-key: it revokes the old "
                    "keys"
                )
            registry.revoke(role, name)
        work.make_kits([one for one in _listed(config) if one != (role, name)])
        pem = registry.certificate_for(role, name, request.public_key, request.identity)
        work.answer(name, pem)
        return request, work.finish()


def renew(
    config: Config, name: str, new_key: bool = False, now: datetime | None = None
) -> Provisioned:
    """A new certificate for the same keys of a member or of 'server', expired or not.

    With ``new_key`` the party gets new keys and a new identity, the old ones are revoked, and a
    revoked member is admitted again. Raises ProvisionError.
    """
    with work_on(config, now) as work:
        registry = work.registry
        kind: Kind | None = "server" if name == SERVER else registry.role_of(name)
        if kind is None or (row := registry.last(kind, name)) is None:
            raise ProvisionError(
                f"'{name}' has no certificate to renew; add it to server.hospitals in "
                "federation.toml, or give its --request"
            )
        if new_key:
            work.new_keys(kind, name)
        elif row.action == "revoked":
            raise ProvisionError(
                f"'{name}' was revoked; --renew {name} --new-key admits it with new keys"
            )
        else:
            work.renewed(kind, name)
        return work.finish(touch=True)


def revoke(config: Config, name: str, now: datetime | None = None) -> Provisioned:
    """Accept none of a member's certificates any more, and take it out of the roster."""
    with work_on(config, now) as work:
        registry = work.registry
        if (role := registry.role_of(name)) is None:
            known = ", ".join(one for role in ROLES for one in registry.roster(role)) or "none"
            raise ProvisionError(f"'{name}' is no member of this federation; there are: {known}")
        registry.revoke(role, name)
        work.note(f"{name}: revoked; a running server ends its connection")
        return work.finish(touch=True)


def standings(config: Config, now: datetime | None = None) -> list[Standing]:
    """Every party's newest certificate, the server first. Raises ProvisionError."""
    now = now or pki.now_utc()
    folder = folder_of(config)
    if not (folder / "authority").is_dir():
        raise ProvisionError(f"{folder / 'authority'}: no such folder; {NAMES['server'].mend}")
    with only_one(folder):
        rows = Registry.open(folder / "authority", config.federation.name, now).parties()
    return [_standing(row, now) for row in rows]


def load_server_folder(config: Config, now: datetime | None = None) -> ServerFolder:
    """The server's credentials and the description it serves, of this very configuration.

    Raises ProvisionError also if the federation's name, address or shared settings are not the ones
    that were signed.
    """
    folder = folder_of(config) / "server"
    found = read_credentials(folder, "server", now)
    path, description = folder / DESCRIPTION, found.description
    again = "run wardround provision FILE again"
    if description.federation != config.federation.name:
        raise ProvisionError(
            f"{path}: of federation '{description.federation}', and federation.toml is of "
            f"'{config.federation.name}'; give each federation its own server.folder"
        )
    if description.address != config.server.address:
        raise ProvisionError(
            f"{path}: says that the server is at {description.address}, and server.address is "
            f"{config.server.address}; {again}"
        )
    if host_of(config) not in found.info.hosts:
        raise ProvisionError(f"{folder / 'server.pem'}: not for {host_of(config)}; {again}")
    signed, present = (shared_settings(one) for one in (description.config(), config))
    if others := differences(signed, present):
        raise ProvisionError(
            f"{path}: federation.toml has other settings than the ones that were signed: {others}; "
            f"{again}"
        )
    return ServerFolder(*(getattr(found, one.name) for one in dataclasses.fields(Credentials)))


def kits_with_keys(config: Config) -> list[Path]:
    """Kits that were not deleted yet, of members that are not revoked."""
    kits = folder_of(config) / "kits"
    return [
        kits / row.name
        for row in standings(config)
        if row.role != "server"
        and row.state != "revoked"
        and (kits / row.name / NAMES[row.role].key).exists()
    ]


def zip_kit(kit: Path) -> Path:
    """The kit's files in <name>.zip beside it, 0600; raises ProvisionError if one is missing."""
    buffer, path = io.BytesIO(), kit.with_name(kit.name + ".zip")
    role = next((one for one in ROLES if (kit / NAMES[one].key).exists()), ROLES[0])
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in _KIT_FILES[role]:
            entry = zipfile.ZipInfo(f"{kit.name}/{name}")
            entry.external_attr = (0o100600 if name.endswith(".key") else 0o100644) << 16
            mend = "only a kit with its keys can be handed over"
            archive.writestr(entry, read_public(kit / name, mend))
    write_private(path, buffer.getvalue())
    return path


def _standing(row: Row, now: datetime) -> Standing:
    expires = datetime.fromisoformat(row.not_after)
    state = "valid"
    if row.action == "revoked":
        state = "revoked"
    elif expires < now:
        state = "expired"
    elif expires - now < _SOON:
        state = "expires soon"
    return Standing(row.name, row.kind, row.serial, expires, state)
