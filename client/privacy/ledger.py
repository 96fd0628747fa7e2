"""A hospital's privacy ledger: everything that its patients' records have ever paid for.

One SQLite file (WAL, synchronous=FULL, mode 0600) to which rows are only added. Each row's hash
covers the row before it. Beside it lies ``<file>.head``: number, hash and text of the newest row.
Several kits of one hospital may share it, in several processes of one machine and user: whatever is
checked and written is so under SQLite's write lock, after rows of others were taken in.

Order of writing, under the lock: the head (fsync, rename, fsync of the folder), then the row
(committed and synced), then the caller may draw noise. So:

- a crash at any instant leaves a head that is at most one row ahead. The next ``open`` adds that
  row: it counts as spent, though nothing may have been released for it. Never the other way round.
- removed rows, changed rows, an emptied file, a file or head that is missing: ``PrivacyRefused``.
  A ledger never starts at zero by itself; only ``create`` makes one.

What it can't detect by itself: both files put back together from an older backup, or both deleted
and made anew, or a writer who calculates all hashes again. The hashes are no signature. For that
its head stands in each kit's audit log (``witness.py``), which holds it against the ledger.

*Units.* A limit is for one unit; ``accounting.unit_epsilon`` says what entries for other units
count for it, ``entries.py`` which entries count for one patient.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from wardround.client.privacy.entries import Entry, Limit, Spent, check_unit, hold
from wardround.client.privacy.ledger_files import (
    APPLICATION,
    VERSION,
    WITHOUT_SETS,
    Row,
    chain,
    connect,
    damaged,
    dump,
    head_path,
    insert_row,
    insert_set,
    make_files,
    read_head,
    read_rows,
    read_set,
    upgrade,
    write_head,
)
from wardround.client.privacy.pseudonyms import (
    check_value,
    key_path,
    make_key,
    pseudonyms,
    read_key,
)
from wardround.common.errors import PrivacyRefused
from wardround.common.privacy.accounting import UNITS

__all__ = ["UNITS", "Entry", "Ledger", "Limit", "hospital_of"]

_KEY = "pseudonyms"
"""The fact that tells the ledger's key from another one."""


class Ledger:
    """Open with ``create`` or ``open``; usable as a context manager. Not for several threads."""

    def __init__(
        self, path: Path, hospital: str, connection: sqlite3.Connection, durable: bool = True
    ) -> None:
        self.path, self.hospital, self._connection = path, hospital, connection
        self._durable = durable
        self._forget()

    def _forget(self) -> None:
        self._uncommitted = False
        self._hashes: list[str] = []
        self._owners: dict[tuple[str, str], None] = {}
        self._entries: list[Entry] = []
        self._requests: dict[str, Entry] = {}
        self._facts: dict[str, str] = {}
        self._spent = Spent()

    # --- opening ---------------------------------------------------------------------------------
    @classmethod
    def create(cls, path: Path | str, hospital: str, durable: bool = True) -> Ledger:
        """A new, empty ledger. Raises PrivacyRefused if there is one, or a used one's head.

        durable : False for a simulated hospital, whose ledger must outlive the process, not a power
            cut
        """
        path = Path(path)
        start = dump({"kind": "start", "hospital": hospital, "id": os.urandom(16).hex()})
        make_files(path, start, durable)
        return cls.open(path, hospital, durable)

    @classmethod
    def open(cls, path: Path | str, hospital: str, durable: bool = True) -> Ledger:
        """The ledger at ``path``, all of it verified; ``durable`` as in ``create``.

        Raises PrivacyRefused if it is missing, damaged, cut short or of none of this hospital's
        kits.
        """
        path = Path(path)
        if not path.is_file():
            raise PrivacyRefused(
                f"{path}: {hospital}'s privacy ledger is missing; restore it with its .head file "
                "from the newest backup (see: wardround client ledger KIT)"
            )
        try:
            connection = connect(path, durable)
        except sqlite3.Error as error:
            raise damaged(path, str(error)) from None
        self = cls(path, hospital, connection, durable)
        try:
            with self._locked():
                pass
            self._check_owner()
        except BaseException:
            connection.close()
            raise
        return self

    def _check_owner(self) -> None:
        names = list(dict.fromkeys(name for name, _ in self._owners))
        if self.hospital not in names:
            raise PrivacyRefused(
                f"{self.path} is the privacy ledger of {', '.join(names)}, not of {self.hospital}; "
                "use each hospital's own"
            )

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
            raise damaged(self.path, str(error)) from None
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
            if kind == "entry":
                self._count(Entry.of(content))
            elif kind == "fact":
                self._facts[content["key"]] = content["value"]
            elif kind in ("start", "kit"):
                self._owners[content["hospital"], content.get("federation", "")] = None
            elif kind != "mended":
                raise ValueError(f"unknown kind '{kind}'")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(self.path, f"row {row.number}: {error}") from None
        self._hashes.append(row.hash)

    def _count(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._requests[entry.request] = entry
        self._spent.add(entry)

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

    def spend(self, entry: Entry, limit: Limit, patients: Iterable[str] | None = None) -> float:
        """Check, then write down for good; epsilon afterwards, as ``check`` gives it.

        patients : identifiers of those whom it touches; None or none at all: it counts for
            everybody

        Raises PrivacyRefused, with nothing written, where the limit forbids it.
        """
        who = list(patients or ())
        members = pseudonyms(self._key(), who) if who else None
        if members is not None:
            entry = replace(entry, units=hashlib.sha256(members).hexdigest())
        with self._locked():
            if members is not None:
                insert_set(self._connection, entry.units, members)
            after = hold(self._spent, entry, limit, self.hospital, self._members)
            entry = replace(entry, time=entry.time or time.time())
            self._append({"kind": "entry", **entry.content()})
        return after

    def _key(self) -> bytes:
        """The key of the pseudonyms, made at the first need. Raises PrivacyRefused for another."""
        path = key_path(self.path)
        with self._locked():
            known = self._facts.get(_KEY)
            key = read_key(path) if known else make_key(path)
            if known is None:
                self._append({"kind": "fact", "key": _KEY, "value": check_value(key)})
            elif known != check_value(key):
                raise PrivacyRefused(
                    f"{path}: this is the key of another ledger; restore its own, or set "
                    "ledger_units = 'all' in site.toml"
                )
        return key

    def remember(self, key: str, value: str) -> None:
        """Keep a fact that is drawn once. Raises PrivacyRefused if it is known to be another."""
        with self._locked():
            known = self._facts.get(key)
            if known is None:
                self._append({"kind": "fact", "key": key, "value": value})
            elif known != value:
                raise PrivacyRefused(f"{self.path}: '{key}' is already {known}; it stays")

    def join(self, hospital: str, federation: str) -> None:
        """Write down that a kit, by what the hospital is called in it, uses the ledger."""
        with self._locked():
            if (hospital, federation) not in self._owners:
                self._append({"kind": "kit", "hospital": hospital, "federation": federation})

    def mend(self, lost: Iterable[Entry], reason: str) -> int:
        """Add what was spent and isn't here, whatever limits say, and why; how many were added.

        Two entries are one if all but their sets of patients is the same. What is added counts for
        everybody: its set isn't known any more.
        """
        with self._locked():
            here = {one.bare() for one in self._entries}
            missing = dict.fromkeys(one.bare() for one in lost)
            added = [one for one in missing if one not in here]
            for one in added:
                self._append({"kind": "entry", **one.content()})
            self._append({"kind": "mended", "reason": reason, "added": len(added)})
        return len(added)

    # --- reading ---------------------------------------------------------------------------------
    @property
    def head(self) -> tuple[int, str]:
        """Number of rows, and the newest one's hash."""
        return len(self._hashes), self._hashes[-1] if self._hashes else ""

    def goes_on_from(self, number: int, digest: str) -> bool:
        """Whether row ``number`` is here and has this hash, and so all rows before it."""
        return 0 < number <= len(self._hashes) and self._hashes[number - 1] == digest

    def kits(self) -> list[tuple[str, str]]:
        """Hospital and federation of each kit that uses it; '' for the federation where none was
        written down."""
        return list(self._owners)

    def recall(self, key: str) -> str | None:
        """A remembered fact."""
        self._refresh()
        return self._facts.get(key)

    def check(self, entry: Entry, limit: Limit) -> float:
        """Epsilon at ``limit.delta`` after this entry for the limit's unit, over all entries; with
        ``limit.each_patient`` the largest one of the patients whom it touches. Changes nothing.

        Raises PrivacyRefused above the limit.
        """
        self._refresh()
        return hold(self._spent, entry, limit, self.hospital, self._members)

    def _members(self, name: str) -> bytes | None:
        try:
            return None if self._version == WITHOUT_SETS else read_set(self._connection, name)
        except (sqlite3.Error, ValueError) as error:
            raise damaged(self.path, str(error)) from None

    def spent(
        self, delta: float, unit: str, federation: str | None = None, run: str | None = None
    ) -> float:
        """Epsilon so far, as if one unit had been in all: of all entries, or of one federation's
        or run's alone."""
        check_unit(unit)
        self._refresh()
        if federation is None and run is None:
            return self._spent.epsilon(unit, delta)
        chosen = (
            one
            for one in self._entries
            if federation in (None, one.federation) and run in (None, one.run)
        )
        return Spent(chosen).epsilon(unit, delta)

    def worst(self, delta: float, unit: str) -> float:
        """Epsilon so far of the patient who has spent most, where it is known who was in what."""
        check_unit(unit)
        self._refresh()
        return self._spent.worst(unit, delta, self._members)

    def entries(self) -> list[Entry]:
        """All, oldest first."""
        self._refresh()
        return list(self._entries)

    def find(self, request: str) -> Entry | None:
        """The newest entry of a request, by its digest."""
        self._refresh()
        return self._requests.get(request)

    def _refresh(self) -> None:
        try:
            self._read_rows()
        except sqlite3.Error as error:
            raise damaged(self.path, str(error)) from None

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def hospital_of(path: Path | str) -> str:
    """Whose ledger this is, by its first row. Raises PrivacyRefused if it can't be told."""
    path = Path(path)
    try:
        connection = connect(path)
        try:
            first = next(read_rows(connection, 0))
        finally:
            connection.close()
        return str(json.loads(first.body)["hospital"])
    except (sqlite3.Error, StopIteration, ValueError, KeyError, TypeError) as error:
        raise damaged(path, str(error) or "it is empty") from None
