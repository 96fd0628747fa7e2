"""The file of who may sign in: each with roles, and either a password's hash or, for who signs in
at a provider, the value of a claim there (a person's e-mail, a group).

Private (0600), replaced whole. A running dashboard looks at it again at each request, so that who
is removed, or gets another password or role, is so at once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wardround.common.durable.lock import try_lock
from wardround.common.durable.private import private_folder, read_private, why, write_private
from wardround.common.durable.versioned import Format
from wardround.common.errors import ProvisionError, WardroundError
from wardround.server.dashboard.sign_in.passwords import looks_hashed
from wardround.server.dashboard.sign_in.roles import Role, read_roles

log = logging.getLogger("wardround.dashboard")

Way = Literal["password", "provider"]
FORMAT = Format("accounts of the dashboard", "make the accounts again (wardround account add)")
LONGEST_NAME, MOST = 200, 10_000
_MEND = "make one: wardround account add NAME --role coordinator"


@dataclass(frozen=True, kw_only=True)
class Account:
    """Who may sign in, and how; ``hash`` is '' for who does so at the provider."""

    name: str
    way: Way
    roles: frozenset[Role]
    hash: str = ""

    @property
    def mark(self) -> str:
        """Changes with the password: sessions of an earlier one end."""
        return hashlib.sha256(f"{self.way} {self.name} {self.hash}".encode()).hexdigest()


Accounts = Mapping[tuple[Way, str], Account]


def read_accounts(path: Path) -> dict[tuple[Way, str], Account]:
    """Those of a file. Raises ProvisionError: it is missing, damaged, or others may read it."""
    data = read_private(path, _MEND)
    try:
        stored = json.loads(data)
    except (ValueError, RecursionError):
        stored = None
    rows = FORMAT.read(stored, ProvisionError, str(path)).get("accounts")
    if not isinstance(rows, list) or len(rows) > MOST:
        raise ProvisionError(f"{path}: is damaged", mend=FORMAT.mend)
    found = [_account(row, path) for row in rows]
    return {(one.way, one.name): one for one in found}


def _account(row: object, path: Path) -> Account:
    try:
        if not isinstance(row, dict) or set(row) != {"name", "way", "roles", "hash"}:
            raise ValueError
        name, way, roles, kept = row["name"], row["way"], row["roles"], row["hash"]
        fits = looks_hashed(kept) if way == "password" else way == "provider" and kept == ""
        if not is_account_name(name) or not fits or not isinstance(roles, list):
            raise ValueError
        return Account(name=name, way=way, roles=read_roles(map(str, roles)), hash=kept)
    except (ValueError, WardroundError):
        raise ProvisionError(f"{path}: is damaged", mend=FORMAT.mend) from None


def is_account_name(name: object) -> bool:
    """Whether an account may be called so, or a claim have this value."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= LONGEST_NAME
        and name.isprintable()
        and name == name.strip()
    )


@contextmanager
def changing(path: Path) -> Iterator[dict[tuple[Way, str], Account]]:
    """The accounts of a file, none where there is no file; written back when the block ends well.

    Raises ProvisionError as ``read_accounts`` does, or where another command is at it.
    """
    private_folder(path.parent)
    try:
        lock = try_lock(path.with_name(f".{path.name}.lock"))
    except OSError as error:
        raise ProvisionError(f"{path}: {why(error, path)}") from None
    if lock is None:
        raise ProvisionError(f"{path}: another wardround account is at it; try again")
    with lock:
        accounts = read_accounts(path) if path.exists() else {}
        yield accounts
        write_private(path, _text(accounts.values()))


def _text(accounts: Iterable[Account]) -> bytes:
    rows = [
        {"name": one.name, "way": one.way, "roles": sorted(map(str, one.roles)), "hash": one.hash}
        for one in sorted(accounts, key=lambda one: (one.name, one.way))
    ]
    return (
        json.dumps(FORMAT.seal({"accounts": rows}), indent=1, ensure_ascii=False).encode() + b"\n"
    )


class LiveAccounts:
    """The accounts as they are now. A file that can't be read lets nobody in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._accounts: Accounts = {}

    def now(self) -> Accounts:
        """Read again if the file is another one than before."""
        seen: tuple[int, ...] = ()
        with suppress(OSError):
            found = os.stat(self._path)
            seen = (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode)
        if seen != self._seen:
            accounts: Accounts = {}
            try:
                accounts = read_accounts(self._path)
            except WardroundError as error:
                log.warning("nobody can sign in: %s", error)
            self._seen, self._accounts = seen, accounts
        return self._accounts

    def of_password(self, name: str) -> Account | None:
        """A local account."""
        return self.now().get(("password", name))

    def of_claims(self, values: Iterable[str]) -> list[Account]:
        """Those that any of a claim's values stands for."""
        accounts = self.now()
        found = (accounts.get(("provider", value)) for value in values)
        return [one for one in found if one is not None]
