"""One provisioning command at work: files are made first, then signed, then copied.

``server/provision/kits.py`` says what lies where. The order is what makes a crash harmless: keys,
the record's line, the certificate, the authority's description, the kits' copies, the server's
copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from wardround.common.address import split_address
from wardround.common.config.load import Config
from wardround.common.durable.files import write_atomically
from wardround.common.durable.private import (
    private_folder,
    read_private,
    write_private,
    write_public,
)
from wardround.common.errors import ProvisionError
from wardround.common.names import SERVER, Kind, Role
from wardround.common.trust import pki
from wardround.common.trust.credentials import (
    CA,
    DESCRIPTION,
    IDENTITY,
    NAMES,
    SITE,
    identity_text,
    read_identity,
    site_text,
)
from wardround.common.trust.description import Description
from wardround.common.trust.enrolment import Answer, check_name
from wardround.common.trust.identity import Identity
from wardround.server.provision.registry import Registry, only_one

Members = Sequence[tuple[Role, str]]
"""Of members, the role and the name."""


@dataclass(frozen=True)
class Provisioned:
    """What a command did.

    changed : the description has a new version, or a certificate is new
    kits, answers : made or renewed by this command
    notes : one line each, for people
    """

    folder: Path
    description: Description
    authority_fingerprint: str
    changed: bool
    kits: tuple[Path, ...] = ()
    answers: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class Work:
    """What one command changes; ``finish`` signs and copies it."""

    config: Config
    registry: Registry
    server_identity: bytes = b""
    kits: list[Path] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = folder_of(self.config)
        self.kits_folder = private_folder(self.folder / "kits")
        self._before = (len(self.registry.rows), self.registry.previous)
        self._certificates: dict[str, bytes] = {}
        self._make_server()

    def note(self, line: str) -> None:
        """A line for people."""
        self.notes.append(line)

    def make_kits(self, members: Members) -> None:
        """A kit for each name that never had a certificate."""
        for role, name in members:  # all before the first kit is made
            check_name(name, role)
            self.registry.check_name(role, name)
        for role, name in members:
            if self.registry.is_revoked(role, name):
                self.note(
                    f"{name}: revoked, so it gets no kit; take it out of server.{role}s, or "
                    f"admit it again: --renew {name} --new-key"
                )
            elif self.registry.last(role, name) is None:
                folder = private_folder(self.kits_folder / name)
                key, identity = _keys(folder, role)
                pem = self.registry.issue(role, name, key.public_key(), identity.public)
                write_public(folder / NAMES[role].certificate, pem)
                self.kits.append(folder)

    def renewed(self, kind: Kind, name: str) -> None:
        """A new certificate for the keys of the newest one."""
        old = self.registry.newest_certificate(kind, name) or b""
        info, key = pki.read_certificate(old), pki.certificate_key(old)
        host = host_of(self.config) if kind == "server" else ""
        pem = self.registry.issue(kind, name, key, info.identity, host, "renewed")
        if kind == "server":
            write_public(self.folder / "server" / NAMES["server"].certificate, pem)
        else:
            self.answer(name, pem)
            self.note(
                f"{name}: takes its new certificate with: wardround {command_of(kind)} enroll KIT "
                f"--answer {name}.answer"
            )

    def new_keys(self, kind: Kind, name: str) -> None:
        """Revoke a party's keys and give it new ones.

        The keys are written before the record knows them: then a crash leaves either a revoked
        party, or keys that the next command finds a certificate for.
        """
        own = kind == "server"
        folder = private_folder(self.folder / "server" if own else self.kits_folder / name)
        self.registry.revoke(kind, name)
        key, identity = pki.generate_key(), Identity.generate()
        write_private(folder / NAMES[kind].key, pki.key_to_pem(key))
        write_private(folder / IDENTITY, identity_text(identity))
        host = host_of(self.config) if own else ""
        pem = self.registry.issue(kind, name, key.public_key(), identity.public, host, "renewed")
        write_public(folder / NAMES[kind].certificate, pem)
        if own:
            self.server_identity = identity.public
        else:
            self.kits.append(folder)

    def answer(self, name: str, pem: bytes) -> None:
        """``finish`` writes an answer with this certificate."""
        self._certificates[name] = pem

    def finish(self, touch: bool = False) -> Provisioned:
        """Sign what changed, bring every copy up to date, the server's last.

        ``touch``: write the server's copy even if it says the same, to be noticed.
        """
        registry = self.registry
        ca = registry.authority.ca_pem
        description = registry.publish(self.config, self.server_identity)
        _, earlier = self._before
        if earlier is not None and earlier.address != description.address:
            self.note(_moved(earlier.address, description.address, self.folder / "server"))
        if (
            earlier is not None
            and earlier.digest() == description.digest()
            and (earlier.issued < description.issued)
        ):
            self.note(
                f"the description is signed anew, valid until {description.valid_until}: the "
                "server hands it on, and no plan is to be accepted again"
            )
        data = registry.signed_path.read_bytes()
        answers = []
        for name, pem in self._certificates.items():
            answers.append(self.kits_folder / f"{name}.answer")
            write_public(answers[-1], Answer(ca, pem, data).to_bytes())
        for row in registry.parties():
            if row.kind != "server":
                try:
                    self._complete(row.kind, row.name, ca, data)
                except ProvisionError as error:  # one kit keeps nothing from the server
                    self.note(str(error))
        server = self.folder / "server"
        write_public(server / CA, ca)
        if touch:
            write_atomically(server / DESCRIPTION, data)
        write_public(server / DESCRIPTION, data)
        rows, before = self._before
        return Provisioned(
            self.folder,
            description,
            pki.fingerprint(ca),
            len(registry.rows) > rows or description != before,
            tuple(self.kits),
            tuple(answers),
            tuple(self.notes),
        )

    def _complete(self, role: Role, name: str, ca: bytes, data: bytes) -> None:
        """Bring a kit with keys up to date, and finish one that a crash cut short. A kit that was
        handed over and deleted is left alone: who has it gets a description from the server."""
        kit, names = self.kits_folder / name, NAMES[role]
        if not (kit / names.key).exists():
            return
        write_public(kit / CA, ca)
        write_public(kit / DESCRIPTION, data)
        pem = self.registry.newest_certificate(role, name) or b""
        if _is_for_key(pem, kit / names.key):
            write_public(kit / names.certificate, pem)
        if (
            role == "hospital" and not (kit / SITE).exists()
        ):  # it is the hospital's: never written twice
            write_public(kit / SITE, site_text(self.config.federation.name))

    def _make_server(self) -> None:
        row = self.registry.last("server", SERVER)
        if row is not None and row.action == "revoked":  # a crash in the middle of new keys
            return self.new_keys("server", SERVER)
        folder = private_folder(self.folder / "server")
        key, identity = _keys(folder, "server")
        self.server_identity = identity.public
        if row is not None and row.identity != identity.public.hex():
            self.note("server: its keys were missing, so it has new ones")
        pem = self.registry.certificate_for(
            "server", SERVER, key.public_key(), identity.public, host_of(self.config)
        )
        write_public(folder / NAMES["server"].certificate, pem)


@contextmanager
def work_on(config: Config, now: datetime | None) -> Iterator[Work]:
    """A command's hold on the folder of all that is provisioned, with the server's part made."""
    if not split_address(config.server.address)[1]:
        raise config.error("server.address", "the port must be 1 to 65535")
    folder = folder_of(config)
    with only_one(folder):
        registry = Registry.open(folder / "authority", config.federation.name, now or pki.now_utc())
        yield Work(config, registry)


def command_of(kind: Kind) -> str:
    """The command that is a member's."""
    return "client" if kind == "hospital" else "study"


def folder_of(config: Config) -> Path:
    """Where everything that is provisioned lies."""
    return config.folder / config.server.folder


def host_of(config: Config) -> str:
    """The name or IP that hospitals dial."""
    return split_address(config.server.address)[0]


def _moved(old: str, new: str, server: Path) -> str:
    return (
        f"server.address was {old} and is {new}: hospitals that are connected get it by "
        f"themselves, so let the server answer at {old} until all were; send the others "
        f"{server / DESCRIPTION} (no secret): wardround client enroll KIT --answer {DESCRIPTION}"
    )


def _keys(folder: Path, kind: Kind) -> tuple[pki.PrivateKey, Identity]:
    """The folder's keys, made if it has none."""
    key_path, identity_path = folder / NAMES[kind].key, folder / IDENTITY
    if not key_path.exists():
        write_private(key_path, pki.key_to_pem(pki.generate_key()))
    if not identity_path.exists():
        write_private(identity_path, identity_text(Identity.generate()))
    mend = NAMES[kind].mend
    key = pki.read_key(read_private(key_path, mend), str(key_path))
    return key, read_identity(identity_path, mend)


def _is_for_key(pem: bytes, path: Path) -> bool:
    """Whether the folder has this certificate's key; a hospital that enrolled keeps its own."""
    if not path.exists():
        return False
    key = pki.read_key(read_private(path, "its owner has it"), str(path)).public_key()
    return pki.key_bytes(key) == pki.key_bytes(pki.certificate_key(pem))
