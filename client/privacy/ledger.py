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
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from wardround.client.privacy.chained import Chained
from wardround.client.privacy.entries import Entry, Limit, Spent, check_unit, hold, of_run
from wardround.client.privacy.ledger_files import (
    WITHOUT_SETS,
    connect,
    damaged,
    dump,
    failed,
    insert_set,
    make_files,
    read_rows,
    read_set,
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


class Ledger(Chained):
    """Open with ``create`` or ``open``; usable as a context manager. Not for several threads."""

    def __init__(
        self, path: Path, hospital: str, connection: sqlite3.Connection, durable: bool = True
    ) -> None:
        self.hospital = hospital
        super().__init__(path, connection, durable)

    def _forget_rows(self) -> None:
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
            raise failed(path, error) from None
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

    def _understand(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "entry":
            self._count(Entry.of(content))
        elif kind == "fact":
            self._facts[content["key"]] = content["value"]
        elif kind in ("start", "kit"):
            self._owners[content["hospital"], content.get("federation", "")] = None
        elif kind != "mended":
            raise ValueError(f"unknown kind '{kind}'")

    def _count(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._requests[entry.request] = entry
        self._spent.add(entry)

    # --- writing ---------------------------------------------------------------------------------
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
        return Spent(of_run(self._entries, federation, run)).epsilon(unit, delta)

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
