"""Everything that a federation needs before it runs: authority, server folder, start-up kits.

    provision/               config.server.folder; all folders 0700, keys 0600
        authority/           server/provision/registry.py
        server/              common/trust/credentials.py
        kits/<name>/         a start-up kit, with the hospital's keys: hand over, then delete
        kits/<name>.answer   to a hospital that holds its own keys; no secret
        kits/<name>.zip      a kit to hand over (0600)

Each function may be repeated: it makes only what is missing, never the authority or a party's keys
again, and what a crash cut short is finished. The server's ``federation.signed`` is written last: a
running server watches it.
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from wardround.common.config.load import Config
from wardround.common.durable.private import read_public, write_private
from wardround.common.errors import ProvisionError
from wardround.common.names import SERVER
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
    Kind,
    read_credentials,
)
from wardround.common.trust.enrolment import SigningRequest
from wardround.server.provision.registry import Registry, Row, only_one
from wardround.server.provision.work import Provisioned, folder_of, host_of, work_on

_SOON = timedelta(days=30)
_KIT_FILES = (CA, *NAMES["hospital"][:2], IDENTITY, DESCRIPTION, SITE)


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
    serial: str
    expires: datetime
    state: str


def provision(
    config: Config, names: Sequence[str] | None = None, now: datetime | None = None
) -> Provisioned:
    """Make all that is missing; ``names`` defaults to ``[server].hospitals``.

    Raises ProvisionError; what was made stays, and the next call goes on from there.
    """
    with work_on(config, now) as work:
        titles = config.server.titles
        work.make_kits(list(titles) if names is None else names)
        for name, title in titles.items():
            if name != title:
                work.note(f"{title} is '{name}' in certificates, folders and logs")
        unlisted = sorted(set(work.registry.roster()) - set(titles))
        if names is None and unlisted:  # who takes a name out of the file may expect more of it
            work.note(f"not in server.hospitals, but members until --revoke: {', '.join(unlisted)}")
        return work.finish()


def add(config: Config, name: str, now: datetime | None = None) -> Provisioned:
    """Make a kit for one more hospital."""
    return provision(config, [name], now)


def enroll(
    config: Config, request_path: Path, new_key: bool = False, now: datetime | None = None
) -> tuple[SigningRequest, Provisioned]:
    """Answer a hospital's signing request; a repeated request gets the same certificate.

    ``new_key``: the request's keys replace the ones that the hospital had, which are revoked.
    Raises ProvisionError if the request doesn't prove its keys, or the name is another's.
    """
    data = read_public(request_path, "the hospital makes it: wardround client enroll NAME FOLDER")
    request = SigningRequest.read(data, str(request_path))
    name = request.name
    with work_on(config, now) as work:
        registry = work.registry
        registry.check_identity(name, request.identity)
        held = registry.roster().get(name)
        if registry.is_revoked(name) or held not in (None, request.identity):
            if not new_key:
                what = "was revoked" if held is None else "is enrolled already, with other keys"
                raise ProvisionError(
                    f"{request_path}: '{name}' {what}; if the hospital confirms by phone that this "
                    f"is its request ({request.fingerprint}), add --new-key: it revokes the old "
                    "keys"
                )
            registry.revoke(name)
        work.make_kits([one for one in config.server.titles if one != name])
        pem = registry.certificate_for(name, request.public_key, request.identity)
        work.answer(name, pem)
        return request, work.finish()


def renew(
    config: Config, name: str, new_key: bool = False, now: datetime | None = None
) -> Provisioned:
    """A new certificate for the same keys of a hospital or of 'server', expired or not.

    With ``new_key`` the party gets new keys and a new identity, the old ones are revoked, and a
    revoked hospital is admitted again. Raises ProvisionError.
    """
    kind: Kind = "server" if name == SERVER else "hospital"
    with work_on(config, now) as work:
        registry = work.registry
        if (row := registry.last(kind, name)) is None:
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
    """Accept none of a hospital's certificates any more, and take it out of the roster."""
    with work_on(config, now) as work:
        if work.registry.last("hospital", name) is None:
            known = ", ".join(work.registry.roster()) or "none"
            raise ProvisionError(f"'{name}' is no hospital of this federation; there are: {known}")
        work.registry.revoke(name)
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
    """Kits that were not deleted yet, of hospitals that are not revoked."""
    kits = folder_of(config) / "kits"
    return [
        kits / row.name
        for row in standings(config)
        if row.state != "revoked" and (kits / row.name / NAMES["hospital"].key).exists()
    ]


def zip_kit(kit: Path) -> Path:
    """The kit's files in <name>.zip beside it, 0600; raises ProvisionError if one is missing."""
    buffer, path = io.BytesIO(), kit.with_name(kit.name + ".zip")
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in _KIT_FILES:
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
    return Standing(row.name, row.serial, expires, state)
