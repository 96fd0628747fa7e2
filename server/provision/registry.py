"""The authority's folder, and the record of all it issued, from which the roster follows.

    provision/authority/
        ca.pem ca.key        the authority
        issued.jsonl         one line for each certificate issued, renewed or revoked, fsynced
        certificates/        each certificate, by serial number (no secret)
        federation.signed    the newest description; the server and the kits have copies of it

A line is durable before its certificate is anywhere else, so a crash leaves nothing valid that the
record doesn't know. Roster and revocations of the next description are computed from the record:
whatever was cut short is finished by the next run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from wardround.common.address import split_address
from wardround.common.config.load import Config
from wardround.common.durable.files import append_lines
from wardround.common.durable.lock import try_lock
from wardround.common.durable.private import private_folder, read_public, why, write_public
from wardround.common.durable.versioned import Format
from wardround.common.errors import ProvisionError
from wardround.common.names import ROLES, SERVER, Kind, Role
from wardround.common.trust import pki
from wardround.common.trust.credentials import DESCRIPTION
from wardround.common.trust.description import Description, shared_toml
from wardround.common.trust.lifetime import is_ahead, is_due, stamp

_LOST = "restore it from the backup"
_FORMAT = Format("record of a certificate", _LOST)
_ACTIONS = ("issued", "renewed", "revoked")


@dataclass(frozen=True)
class Row:
    """A line of ``issued.jsonl``; serial and identity in hexadecimal, times ISO 8601."""

    time: str
    action: str
    kind: Kind
    name: str
    serial: str
    identity: str
    not_after: str


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder of all that is provisioned, made if there is none.

    Raises ProvisionError if another process holds it, or the disk refuses something meanwhile.
    """
    private_folder(folder)
    try:
        lock = try_lock(folder / ".lock")
        if lock is None:
            raise ProvisionError(
                f"{folder}: another wardround provision is at work in it; try again"
            )
        with lock:
            yield
    except OSError as error:
        path = Path(error.filename or folder)
        raise ProvisionError(f"{path}: {why(error, path)}") from None


class Registry:
    """The authority with its record. Every method of one ``only_one`` block at most."""

    def __init__(self, folder: Path, authority: pki.Authority, now: datetime) -> None:
        self.folder, self.authority, self.now = folder, authority, now
        self.signed_path = folder / DESCRIPTION
        self._record = folder / "issued.jsonl"
        self._certificates = private_folder(folder / "certificates")
        self.rows = self._read_rows()
        self.previous = self._read_previous()
        self._check_whole()

    @classmethod
    def open(cls, folder: Path, federation: str, now: datetime) -> Registry:
        """The authority of the folder, made if there is none and never was."""
        if folder.exists():
            return cls(folder, pki.Authority.open(folder, federation, now), now)
        if (made := folder.parent / "server").exists():
            raise ProvisionError(
                f"{folder}: no such folder, but {made} is there; {_LOST}: a new authority means a "
                "new kit for every hospital"
            )
        return cls(folder, pki.Authority.create(folder, federation, now), now)

    # --- the record ----------------------------------------------------------------------------
    def last(self, kind: Kind, name: str) -> Row | None:
        """The newest line of a party."""
        return next(reversed(self._rows(kind, name)), None)

    def parties(self) -> list[Row]:
        """The newest line of each party: the server, then hospitals and other members by name."""
        newest = {(row.kind, row.name): row for row in self.rows}
        order: tuple[Kind, ...] = ("server", *ROLES)
        return sorted(newest.values(), key=lambda row: (order.index(row.kind), row.name))

    def role_of(self, name: str) -> Role | None:
        """The role that a name stands for, also of one that was revoked; None for a new name."""
        found = {row.name: row.kind for row in self.rows if row.name == name}
        return next((role for role in ROLES if found.get(name) == role), None)

    def is_revoked(self, role: Role, name: str) -> bool:
        """Whether the member was revoked and not admitted again."""
        row = self.last(role, name)
        return row is not None and row.action == "revoked"

    def roster(self, role: Role) -> dict[str, bytes]:
        """Name and identity of every member of a role that is not revoked, by name."""
        rows = [row for row in self.parties() if row.kind == role and row.action != "revoked"]
        return {row.name: bytes.fromhex(row.identity) for row in rows}

    def revoked_serials(self) -> tuple[int, ...]:
        """Of hospitals and of the server, ascending. What a researcher or a coordinator had is not
        accepted as its keys are in the roster no more, nor ever again (``check_identity``): a
        serial number would be a new version of the description, and plans accepted anew."""
        rows = [row for row in self.rows if row.action == "revoked"]
        counted = [row for row in rows if row.kind in (SERVER, "hospital")]
        return tuple(sorted({int(row.serial, 16) for row in counted}))

    def newest_certificate(self, kind: Kind, name: str) -> bytes | None:
        """PEM of the party's newest certificate; None for one that has none."""
        row = self.last(kind, name)
        if row is None:
            return None
        return read_public(self._certificates / f"{row.serial}.pem", _LOST)

    # --- changes ---------------------------------------------------------------------------------
    def issue(
        self,
        kind: Kind,
        name: str,
        key: pki.PublicKey,
        identity: bytes,
        host: str = "",
        action: str = "issued",
    ) -> bytes:
        """A certificate, PEM, recorded first; ``host``: where the server is dialled.

        Raises ProvisionError for a name or an identity that another party has, or an identity that
        was revoked.
        """
        self.check_name(kind, name)
        self.check_identity(kind, name, identity)
        if kind == "server":
            pem = self.authority.issue_server(host, key, identity, self.now, former=self._dialled())
        else:
            pem = self.authority.issue_member(kind, name, key, identity, self.now)
        info = pki.read_certificate(pem)
        # a file without its line is nobody's; a line without its file would stop the next command
        write_public(self._certificates / f"{info.serial:x}.pem", pem)
        self._append([self._row(action, info)])
        return pem

    def _dialled(self) -> str:
        """Where hospitals that don't have the next description yet look for the server."""
        return split_address(self.previous.address)[0] if self.previous is not None else ""

    def check_name(self, kind: Kind, name: str) -> None:
        """Raise ProvisionError for a name that a party of another role has, or had, or that differs
        from one in upper and lower case only: a name is one party's for good."""
        for row in self.rows:
            same = (row.kind, row.name) == (kind, name)
            if row.name.casefold() == name.casefold() and not same:
                raise ProvisionError(
                    f"'{name}' can't be a {kind}'s name: {row.kind} '{row.name}' is, or was, a "
                    "member; names of all roles are in one name space, so choose another"
                )

    def check_identity(self, kind: Kind, name: str, identity: bytes) -> None:
        """Raise ProvisionError for an identity of another party, or a revoked one."""
        for row in self.rows:
            if row.identity != identity.hex():
                continue
            if (row.kind, row.name) != (kind, name):
                raise ProvisionError(
                    f"{name}: has the identity of {row.kind} '{row.name}'; each "
                    "party makes its own keys"
                )
            if row.action == "revoked":
                raise ProvisionError(
                    f"{row.name}: these keys were revoked; make new ones, in a new folder"
                )

    def certificate_for(
        self, kind: Kind, name: str, key: pki.PublicKey, identity: bytes, host: str = ""
    ) -> bytes:
        """The party's newest certificate if it is for these keys and valid, else a new one."""
        pem = self.newest_certificate(kind, name)
        row = self.last(kind, name)
        if pem is not None and row is not None and row.action != "revoked":
            info = pki.read_certificate(pem)
            same_key = pki.key_bytes(pki.certificate_key(pem)) == pki.key_bytes(key)
            same = same_key and info.identity == identity and (not host or host in info.hosts)
            if same and self.now <= info.not_after:
                return pem
        return self.issue(kind, name, key, identity, host)

    def revoke(self, kind: Kind, name: str) -> None:
        """Record every certificate of a party as revoked, expired ones too; those that are already
        get no second line."""
        held = {row.serial: row for row in self._rows(kind, name) if row.action != "revoked"}
        done = {row.serial for row in self.rows if row.action == "revoked"}
        when = self.now.isoformat(timespec="seconds")
        self._append(
            [
                Row(when, "revoked", row.kind, row.name, row.serial, row.identity, row.not_after)
                for serial, row in held.items()
                if serial not in done
            ]
        )

    def publish(self, config: Config, server: bytes) -> Description:
        """The description of what the record and the configuration say, signed and durable.

        What says the same as the previous one is the previous one, or, once half of that one's
        life is over, its version with later dates; so it is with other researchers and
        coordinators. Raises ProvisionError if this clock is behind
        the previous one's date: hospitals keep no description that was signed before theirs.
        """
        before, life = self.previous, timedelta(days=config.server.description_days)
        now = stamp(self.now)
        if before is not None and before.issued > now:
            if is_ahead(before, self.now):
                raise ProvisionError(
                    f"{self.signed_path}: signed at {before.issued}, which is later than this "
                    f"machine's clock ({now}); set the clock, or, if it was wrong then, restore "
                    "the folder from the backup: no hospital has kept what is of the future"
                )
            now = before.issued
        new = Description(
            config.federation.name,
            before.version + 1 if before else 1,
            config.server.address,
            shared_toml(config),
            server,
            self.roster("hospital"),
            self.revoked_serials(),
            now,
            stamp(datetime.fromisoformat(now) + life),
            self.roster("researcher"),
            self.roster("coordinator"),
        )
        if before is not None and _says(before) == _says(new):
            if not is_due(before, life, self.now):
                return before
        if before is not None and before.digest() == replace(new, version=before.version).digest():
            if before.issued < now:  # within one second only a version tells the two apart
                new = replace(new, version=before.version)
        write_public(self.signed_path, new.signed(self.authority))
        self.previous = new
        return new

    # --- inside --------------------------------------------------------------------------------
    def _rows(self, kind: Kind, name: str) -> list[Row]:
        return [row for row in self.rows if (row.kind, row.name) == (kind, name)]

    def _row(self, action: str, info: pki.CertificateInfo) -> Row:
        return Row(
            self.now.isoformat(timespec="seconds"),
            action,
            info.kind,
            info.name,
            f"{info.serial:x}",
            info.identity.hex(),
            info.not_after.isoformat(),
        )

    def _append(self, rows: Sequence[Row]) -> None:
        """Add lines and make them durable."""
        if not rows:
            return
        text = "".join(json.dumps(_FORMAT.seal(asdict(row))) + "\n" for row in rows).encode()
        append_lines(self._record, text)
        self.rows.extend(rows)

    def _read_rows(self) -> list[Row]:
        rows: list[Row] = []
        if not self._record.exists():
            return rows
        lines = self._record.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                stored = json.loads(line)
            except ValueError:  # torn by a crash
                continue
            row = _FORMAT.make(Row, stored, ProvisionError, f"{self._record}:{number}")
            try:
                bytes.fromhex(row.identity), int(row.serial, 16), row.not_after.strip()
            except (ValueError, TypeError, AttributeError):
                continue
            if row.action not in _ACTIONS or row.kind not in (SERVER, *ROLES):
                raise ProvisionError(f"{self._record}:{number}: unknown action or role; {_LOST}")
            rows.append(row)
        return rows

    def _read_previous(self) -> Description | None:
        """The newest description, of the authority's folder, or of the server's where that is lost:
        versions must not begin at 1 again, since hospitals never go back to a lower one."""
        copies = (self.signed_path, self.folder.parent / "server" / DESCRIPTION)
        for path in copies:
            if path.exists():
                data = read_public(path, _LOST)
                return Description.read(data, self.authority.ca_pem, str(path))
        return None

    def _check_whole(self) -> None:
        """Raise ProvisionError if the record forgot what the description knows, or the reverse."""
        if self.previous is None:
            return
        known = {(row.kind, row.name) for row in self.rows}
        members = {(role, name) for role in ROLES for name in self.previous.members(role)}
        if members - known or not set(self.previous.revoked) <= set(self.revoked_serials()):
            raise ProvisionError(
                f"{self._record}: lacks certificates that {self.signed_path} knows of; {_LOST}"
            )


def _says(one: Description) -> tuple[object, ...]:
    members = [one.members(role) for role in ROLES]
    return (one.address, one.config_toml, one.server, members, one.revoked)
