"""The two files of a privacy ledger, and how a row gets into them for good.

``client/privacy/ledger.py`` says what they promise together.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wardround.common.durable.files import hand_over, sync, write_atomically
from wardround.common.durable.private import denied, may_write, not_writable
from wardround.common.errors import PrivacyRefused

APPLICATION, VERSION = 0x5752_4C47, 3
"""'WRLG', which SQLite keeps in the file's header, and the format's version."""
WITHOUT_SETS = 1
"""Older versions: 1 knew no sets of patients and no kits, 2 no sides of an entry. They are read as
they are, and brought up with the next row."""
LEDGER = "ledger.sqlite"
"""The ledger's name in a kit's ``state/``, where ``site.toml`` names no other place."""
_BUSY_S = 30.0
_DISK = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
}
_TABLE = "CREATE TABLE rows (number INTEGER PRIMARY KEY, body TEXT NOT NULL, hash TEXT NOT NULL)"
_SETS = "CREATE TABLE IF NOT EXISTS sets (digest TEXT PRIMARY KEY, pseudonyms BLOB NOT NULL)"


@dataclass(frozen=True)
class Row:
    """A row of the table; the head file has the newest one.

    hash : of the row before, number and body
    """

    number: int
    hash: str
    body: str


def make_files(path: Path, body: str, durable: bool = True) -> None:
    """A new ledger with one row. Raises PrivacyRefused if there is one, or a used one's head.

    Raises OSError where the disk is full or fails. The head comes before the file's own name, so a
    crash in between leaves nothing that looks used.
    """
    head = head_path(path)
    if path.exists() or (head.exists() and read_head(head).number > 1):
        found = path if path.exists() else head
        raise PrivacyRefused(f"{found} exists: open this ledger, or move both its files away")
    new = path.with_name(path.name + ".new")
    for end in ("", "-wal", "-shm"):
        Path(f"{new}{end}").unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    first = Row(1, chain("", 1, body), body)
    try:
        with closing(connect(new, durable)) as connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(_TABLE)
            upgrade(connection)
            insert_row(connection, first)
    except sqlite3.Error as error:
        raise failed(path, error) from None
    if durable:
        sync(new)
    write_head(head, first, durable)
    hand_over(new)
    os.rename(new, path)
    if durable:
        sync(path.parent)


def head_path(path: Path) -> Path:
    """Beside the ledger."""
    return path.with_name(path.name + ".head")


def damaged(path: Path, what: str) -> PrivacyRefused:
    """The error for a file that can't be trusted, or is locked."""
    if "locked" in what:
        return PrivacyRefused(f"{path}: another process holds this privacy ledger; try again")
    return PrivacyRefused(
        f"{path}: this privacy ledger can't be trusted ({what}); restore it with its .head file "
        "from the newest backup, and add what was spent since: wardround client ledger KIT"
    )


def failed(path: Path, error: sqlite3.Error) -> OSError | PrivacyRefused:
    """The error for what SQLite says of a file: of a disk that is full, fails or may only be read
    the system's own, as by any other file on it; else the ledger can't be trusted."""
    number = _DISK.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    if number is not None:
        return OSError(number, os.strerror(number), str(path))
    return damaged(path, str(error))


def connect(path: Path, durable: bool = True) -> sqlite3.Connection:
    """Open an existing file.

    durable : every commit reaches the disk before it returns; else only the operating system,
        which the end of a process doesn't trouble

    Raises PrivacyRefused where this user may not write it, sqlite3.Error.
    """
    if not may_write(path) or not may_write(path.parent, folder=True):
        raise PrivacyRefused(f"can't use the privacy ledger {denied(not_writable(path))}")
    uri = path.resolve().as_uri() + "?mode=rw"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_S)
    try:
        connection.execute(f"PRAGMA journal_mode = {'WAL' if durable else 'PERSIST'}")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def insert_row(connection: sqlite3.Connection, row: Row) -> None:
    """Add a row to the table."""
    connection.execute("INSERT INTO rows VALUES (?, ?, ?)", (row.number, row.body, row.hash))


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring the file to the newest version; its rows stay as they are."""
    connection.execute(_SETS)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def insert_set(connection: sqlite3.Connection, digest: str, members: bytes) -> None:
    """Keep a set of pseudonyms, once."""
    connection.execute("INSERT OR IGNORE INTO sets VALUES (?, ?)", (digest, members))


def read_set(connection: sqlite3.Connection, digest: str) -> bytes | None:
    """A set of pseudonyms; None where a crash came before it. Raises ValueError for another."""
    query = "SELECT pseudonyms FROM sets WHERE digest = ?"
    found = connection.execute(query, (digest,)).fetchone()
    if found is None:
        return None
    members = bytes(found[0])
    if hashlib.sha256(members).hexdigest() != digest:
        raise ValueError("a set of patients isn't what was written")
    return members


def read_rows(connection: sqlite3.Connection, after: int) -> Iterator[Row]:
    """Rows with a number above this one, in order."""
    query = "SELECT number, hash, body FROM rows WHERE number > ? ORDER BY number"
    return (Row(*found) for found in connection.execute(query, (after,)))


def chain(before: str, number: int, body: str) -> str:
    """A row's hash, hexadecimal; ``before`` is the row's before."""
    return hashlib.sha256(f"{before}\n{number}\n{body}".encode()).hexdigest()


def dump(content: dict[str, Any]) -> str:
    """A row's text."""
    return json.dumps(content, sort_keys=True, allow_nan=False)


def read_head(path: Path) -> Row:
    """Raises PrivacyRefused if it is missing or unreadable."""
    try:
        content = json.loads(path.read_text())
        return Row(int(content["number"]), str(content["hash"]), str(content["body"]))
    except FileNotFoundError:
        raise damaged(path, "the head file is missing") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"the head file is unreadable: {error}") from None


def write_head(path: Path, head: Row, durable: bool = True) -> None:
    """At once or not at all; and durably, as in ``connect``."""
    text = dump(asdict(head)) + "\n"
    write_atomically(path, text.encode(), private=True, durable=durable)
