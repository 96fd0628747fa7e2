"""A chain of rows in a file, to which rows are only added: what every ledger is written on.

One SQLite file (mode 0600). Each row's hash covers the row before it. Beside it lies
``<file>.head``: number, hash and text of the newest row. Several processes of one machine and user
may share it: whatever is checked and written is so under SQLite's write lock, after rows of others
were taken in. What rows mean is for who derives from it.

Order of writing, under the lock: the head, then the row. So a crash at any instant leaves a head
that is at most one row ahead, which the next to open it adds; removed or changed rows, an emptied
file, a file or head that is missing are refused. With ``durable`` (WAL, synchronous=FULL) head and
row are on the disk before anything else happens; without, both outlive the process and no power
cut, which is enough for a simulation. A disk that is full or can't be written raises OSError: where
only the head was written, the row that it has counts all the same.
"""

from __future__ import annotations

import json
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from wardround.client.privacy.ledger_files import (
    APPLICATION,
    VERSION,
    WITHOUT_SETS,
    Row,
    chain,
    damaged,
    dump,
    failed,
    head_path,
    insert_row,
    read_head,
    read_rows,
    upgrade,
    write_head,
)
from wardround.common.errors import PrivacyRefused


class Chained(ABC):
    """An open file of rows; usable as a context manager. Not for several threads."""

    def __init__(self, path: Path, connection: sqlite3.Connection, durable: bool = True) -> None:
        self.path, self._connection, self._durable = path, connection, durable
        self._forget()

    def _forget(self) -> None:
        """Know of no row."""
        self._uncommitted = False
        self._hashes: list[str] = []
        self._forget_rows()

    @abstractmethod
    def _forget_rows(self) -> None:
        """What rows have said is as if there were none."""

    @abstractmethod
    def _understand(self, kind: str, content: dict[str, Any]) -> None:
        """Take in what a row says. Raises ValueError, KeyError or TypeError for what says
        nothing."""

    # --- reading ---------------------------------------------------------------------------------
    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the write lock, with all rows read, verified and no row missing at the end."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._check_format()
            self._read_rows()
            self._complete(read_head(head_path(self.path)))
            yield
            connection.execute("COMMIT")
            self._uncommitted = False
        except sqlite3.Error as error:
            raise failed(self.path, error) from None
        finally:
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            if self._uncommitted:
                self._forget()  # the next one reads again what the file really has

    def _check_format(self) -> None:
        found = [
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version")
        ]
        if found[0] == APPLICATION and found[1] > VERSION:
            raise PrivacyRefused(
                f"{self.path}: this privacy ledger has version {found[1]}, and this wardround "
                f"reads up to {VERSION}; install the version of wardround that wrote it"
            )
        if found[0] != APPLICATION or not WITHOUT_SETS <= found[1] <= VERSION:
            raise damaged(self.path, "it is no ledger of this version")
        self._version = int(found[1])

    def _read_rows(self) -> None:
        """Take in rows that were added since, by this process or another one."""
        for row in read_rows(self._connection, len(self._hashes)):
            number, before = self.head
            expected = chain(before, number + 1, row.body)
            if (row.number, row.hash) != (number + 1, expected):
                raise damaged(self.path, f"row {number + 1} isn't what was written")
            self._take_in(row)

    def _take_in(self, row: Row) -> None:
        try:
            content = json.loads(row.body)
            kind = content.pop("kind")
            if (row.number == 1) != (kind == "start"):
                raise ValueError("it isn't the first one")
            self._understand(kind, content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(self.path, f"row {row.number}: {error}") from None
        self._hashes.append(row.hash)

    def _complete(self, head: Row) -> None:
        """Compare with the head; add the row of which only the head was written."""
        number, last = self.head
        if (head.number, head.hash) == (number, last):
            return
        ahead = head.number == number + 1
        if number == 0 or not ahead or head.hash != chain(last, head.number, head.body):
            raise damaged(
                self.path, f"it has {number} rows, {head_path(self.path).name} says {head.number}"
            )
        self._take_in(head)
        self._insert(head)

    def _refresh(self) -> None:
        try:
            self._read_rows()
        except sqlite3.Error as error:
            raise failed(self.path, error) from None

    @property
    def head(self) -> tuple[int, str]:
        """Number of rows, and the newest one's hash."""
        return len(self._hashes), self._hashes[-1] if self._hashes else ""

    def goes_on_from(self, number: int, digest: str) -> bool:
        """Whether row ``number`` is here and has this hash, and so all rows before it."""
        return 0 < number <= len(self._hashes) and self._hashes[number - 1] == digest

    # --- writing ---------------------------------------------------------------------------------
    def _append(self, content: dict[str, Any]) -> None:
        """Durably add a row. The caller holds the lock; the row is committed when it lets go."""
        if self._version < VERSION:
            upgrade(self._connection)
            self._version = VERSION
        number, before = self.head
        body = dump(content)
        row = Row(number + 1, chain(before, number + 1, body), body)
        write_head(head_path(self.path), row, self._durable)
        self._insert(row)
        self._take_in(row)

    def _insert(self, row: Row) -> None:
        self._uncommitted = True
        insert_row(self._connection, row)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
