"""A member's kit: of a hospital the folder that ``wardround client`` is given.

What is in it, and what is checked, is in ``common/trust/credentials.py``. ``state/`` beside those
files is the hospital's own, made at first need. A kit's description only ever moves forward.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Self

from wardround.common.durable.private import private_folder, read_public, write_public
from wardround.common.errors import ProvisionError
from wardround.common.names import Role
from wardround.common.trust.credentials import (
    DESCRIPTION,
    NAMES,
    SITE,
    Credentials,
    check_membership,
    read_credentials,
)
from wardround.common.trust.description import Description
from wardround.common.trust.lifetime import is_ahead
from wardround.common.trust.pki import fingerprint, now_utc

AUDIT = "audit.jsonl"
"""A hospital's audit log, in its kit's state."""


@dataclass(frozen=True)
class MemberKit(Credentials):
    """A checked kit of whatever role. Its repr shows no key."""

    role: ClassVar[Role]
    """Whose kit it is: of a class for each role."""

    @classmethod
    def open(cls, folder: Path, now: datetime | None = None) -> Self:
        """The kit in ``folder``; ``now`` defaults to this machine's clock.

        Raises ProvisionError, in one line with file and mend, unless all of it fits together.
        """
        found = read_credentials(folder, cls.role, now)
        return cls(*(getattr(found, one.name) for one in dataclasses.fields(Credentials)))

    @property
    def name(self) -> str:
        """The member's name in the federation."""
        return self.info.name

    @property
    def authority_fingerprint(self) -> str:
        """SHA-256 of the authority's certificate, to compare with the coordinator's by phone."""
        return fingerprint(self.ca_pem)

    def brought(self) -> bytes | None:
        """The ``federation.signed`` that was brought to the folder since, e.g. as the server has
        moved; None if there is none. Raises ProvisionError if the file can't be used."""
        path = self.folder / DESCRIPTION
        data = read_public(path, NAMES[self.role].mend)
        found = Description.read(data, self.ca_pem, str(path))
        return data if found.order > self.description.order else None

    def update_description(self, data: bytes, now: datetime | None = None) -> Self:
        """Keep a newer ``federation.signed`` and return the kit with it; the same changes nothing.

        now : defaults to this machine's clock

        Raises ProvisionError, and keeps the old one, unless the kit's own authority signed it for
        this federation, not before the present one, with a version not below that, and not in this
        clock's future: else one from a wrong clock would keep all right ones out. A description
        that revokes this member or leaves it out is kept, so that the next start knows it, and
        raises too.
        """
        path = self.folder / DESCRIPTION
        new = Description.read(data, self.ca_pem, "the description that came")
        held = Description.read(read_public(path, NAMES[self.role].mend), self.ca_pem, str(path))
        # a person may have put a newer one there while this process runs with its own
        newest = max(held, self.description, key=lambda one: one.order)
        if new.federation != self.info.federation:
            raise ProvisionError(
                f"a description of federation '{new.federation}' came, and this kit is for "
                f"'{self.info.federation}'; it is not kept"
            )
        _check_newer(new, newest, path, now or now_utc())
        write_public(path, data)
        check_membership(self.info, new, str(path))
        return dataclasses.replace(self, description=new)


@dataclass(frozen=True)
class Kit(MemberKit):
    """A hospital's start-up kit."""

    role: ClassVar[Role] = "hospital"

    @property
    def state(self) -> Path:
        """The folder of what this hospital keeps between starts, made 0700 at first need."""
        return private_folder(self.folder / "state")

    @property
    def site_path(self) -> Path:
        """The hospital's policy."""
        return self.folder / SITE


@dataclass(frozen=True)
class ResearcherKit(MemberKit):
    """Of who submits studies."""

    role: ClassVar[Role] = "researcher"


@dataclass(frozen=True)
class CoordinatorKit(MemberKit):
    """Of who looks after all studies."""

    role: ClassVar[Role] = "coordinator"


KITS: dict[Role, type[MemberKit]] = {one.role: one for one in (Kit, ResearcherKit, CoordinatorKit)}


def open_kit(folder: Path, now: datetime | None = None) -> MemberKit:
    """The kit in ``folder``, of whatever role it is. Raises ProvisionError as ``MemberKit.open``,
    also for a folder without one, or with the files of two."""
    found = [role for role in KITS if (folder / NAMES[role].certificate).exists()]
    if len(found) > 1:
        raise ProvisionError(
            f"{folder}: holds {NAMES[found[0]].certificate} and {NAMES[found[1]].certificate}; "
            "each role has a kit of its own"
        )
    if not found:
        raise ProvisionError(
            f"{folder}: no kit is there; name the folder with --kit KIT, or as the environment "
            "variable WARDROUND_KIT"
        )
    return KITS[found[0]].open(folder, now)


def _check_newer(new: Description, held: Description, path: Path, now: datetime) -> None:
    """Raise ProvisionError unless a description is the one that is held, or a newer one.

    A newer one has a higher version, or says the same and was signed later.
    """
    if new.version < held.version:
        raise ProvisionError(
            f"a description of version {new.version} came, and {path} has {held.version}; "
            "an older one is never kept"
        )
    if new.issued < held.issued:
        raise ProvisionError(
            f"a description signed at {new.issued} came, and {path} is of {held.issued}; an older "
            "one is never kept"
        )
    if is_ahead(new, now):
        raise ProvisionError(
            f"a description signed at {new.issued} came, which is later than this machine's clock; "
            "it is not kept: set the clock, here or where it was signed"
        )
    anew = new.digest() == held.digest() and new.issued > held.issued
    if new.version == held.version and new != held and not anew:
        raise ProvisionError(
            f"another description of version {new.version} came than {path} has; the "
            "coordinator must give out one per version"
        )
