"""A hospital's privacy ledger: everything that its patients' records have ever paid for.

One SQLite file (WAL, synchronous=FULL, mode 0600) to which rows are only added. Each row's hash
covers the row before it. Beside it lies ``<file>.head``: number, hash and text of the newest row.

Order of writing, under SQLite's write lock: the head (fsync, rename, fsync of the folder), then the
row (committed and synced), then the caller may draw noise. So:

- a crash at any instant leaves a head that is at most one row ahead. The next ``open`` adds that
  row: it counts as spent, though nothing may have been released for it. Never the other way round.
- removed rows, changed rows, an emptied file, a file or head that is missing: ``PrivacyRefused``.
  A ledger never starts at zero by itself; only ``create`` makes one.

What it can't detect: both files put back together from an older backup, or both deleted and made
anew, or a writer who calculates all hashes again. The hashes are no signature. Whoever restores a
hospital from a backup must add what was spent since.

*Units.* A limit is for one unit; ``accounting.unit_epsilon`` says what entries for other units
count for it.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from wardround.client.privacy.ledger_files import (
    APPLICATION,
    VERSION,
    Row,
    chain,
    connect,
    damaged,
    dump,
    head_path,
    insert_row,
    make_files,
    read_head,
    read_rows,
    write_head,
)
from wardround.common.errors import PrivacyRefused
from wardround.common.privacy.accounting import UNITS, Release, unit_epsilon

__all__ = ["UNITS", "Entry", "Ledger", "Limit", "hospital_of"]

Totals = Counter[tuple[str, float, float]]
"""Steps by unit, noise multiplier and sampling rate."""


@dataclass(frozen=True)
class Limit:
    """What a hospital never passes, over all runs and federations together."""

    epsilon: float
    delta: float
    unit: str

    def __post_init__(self) -> None:
        _check_unit(self.unit)


@dataclass(frozen=True)
class Entry:
    """What one training request spends.

    request : hexadecimal digest of the request
    mechanism : for people, e.g. 'dp-sgd, own noise'
    releases : all that this request releases
    simulated : the noise came from a seed
    time : UTC, in seconds; the ledger sets it where it is 0
    """

    federation: str
    run: str
    round: int
    attempt: int
    request: str
    mechanism: str
    unit: str
    clipping_norm: float
    releases: tuple[Release, ...]
    simulated: bool
    time: float = 0.0

    def __post_init__(self) -> None:
        _check_unit(self.unit)


def _check_unit(unit: str) -> None:
    if unit not in UNITS:
        raise ValueError(f"unit '{unit}' must be one of {', '.join(UNITS)}")


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
        self._number, self._hash = 0, ""
        self._entries: list[Entry] = []
        self._requests: dict[str, Entry] = {}
        self._facts: dict[str, str] = {}
        self._totals: Totals = Counter()

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

        Raises PrivacyRefused if it is missing, damaged, cut short or another hospital's.
        """
        path = Path(path)
        if not path.is_file():
            raise PrivacyRefused(
                f"{path}: {hospital}'s privacy ledger is missing; restore it, or create a new one "
                "if these patients were never trained on"
            )
        try:
            connection = connect(path, durable)
        except sqlite3.Error as error:
            raise damaged(path, str(error)) from None
        self = cls(path, hospital, connection, durable)
        try:
            with self._locked():
                pass
        except BaseException:
            connection.close()
            raise
        return self

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
        if found != [APPLICATION, VERSION]:
            raise damaged(self.path, "it is no ledger of this version")

    def _read_rows(self) -> None:
        """Take in rows that were added since, by this process or another one."""
        for row in read_rows(self._connection, self._number):
            expected = chain(self._hash, self._number + 1, row.body)
            if (row.number, row.hash) != (self._number + 1, expected):
                raise damaged(self.path, f"row {self._number + 1} isn't what was written")
            self._take_in(row)

    def _take_in(self, row: Row) -> None:
        try:
            content = json.loads(row.body)
            kind = content.pop("kind")
            if row.number == 1:
                self._check_owner(kind, content)
            elif kind == "entry":
                self._count(_entry_from(content))
            elif kind == "fact":
                self._facts[content["key"]] = content["value"]
            else:
                raise ValueError(f"unknown kind '{kind}'")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(self.path, f"row {row.number}: {error}") from None
        self._number, self._hash = row.number, row.hash

    def _check_owner(self, kind: str, content: dict[str, Any]) -> None:
        if kind != "start":
            raise ValueError("it isn't the first one")
        if content["hospital"] != self.hospital:
            raise PrivacyRefused(
                f"{self.path} is the privacy ledger of {content['hospital']}, not of "
                f"{self.hospital}; use each hospital's own"
            )

    def _count(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._requests[entry.request] = entry
        _add(self._totals, entry.unit, entry.releases)

    def _complete(self, head: Row) -> None:
        """Compare with the head; add the row of which only the head was written."""
        if (head.number, head.hash) == (self._number, self._hash):
            return
        ahead = head.number == self._number + 1
        if self._number == 0 or not ahead or head.hash != chain(self._hash, head.number, head.body):
            raise damaged(
                self.path,
                f"it has {self._number} rows, {head_path(self.path).name} says {head.number}",
            )
        self._take_in(head)
        self._insert(head)

    # --- writing ---------------------------------------------------------------------------------
    def _append(self, content: dict[str, Any]) -> None:
        """Durably add a row. The caller holds the lock; the row is committed when it lets go."""
        body = dump(content)
        row = Row(self._number + 1, chain(self._hash, self._number + 1, body), body)
        write_head(head_path(self.path), row, self._durable)
        self._insert(row)
        self._take_in(row)

    def _insert(self, row: Row) -> None:
        self._uncommitted = True
        insert_row(self._connection, row)

    def spend(self, entry: Entry, limit: Limit) -> float:
        """Check, then write down for good; epsilon afterwards, as ``check`` gives it.

        Raises PrivacyRefused, with nothing written, where the limit forbids it.
        """
        with self._locked():
            after = self._check(entry.unit, entry.releases, limit, None)
            self._append(_entry_content(replace(entry, time=entry.time or time.time())))
        return after

    def remember(self, key: str, value: str) -> None:
        """Keep a fact that is drawn once. Raises PrivacyRefused if it is known to be another."""
        with self._locked():
            known = self._facts.get(key)
            if known is None:
                self._append({"kind": "fact", "key": key, "value": value})
            elif known != value:
                raise PrivacyRefused(f"{self.path}: '{key}' is already {known}; it stays")

    # --- reading ---------------------------------------------------------------------------------
    def recall(self, key: str) -> str | None:
        """A remembered fact."""
        self._refresh()
        return self._facts.get(key)

    def check(
        self, releases: Iterable[Release], limit: Limit, federation: str | None = None
    ) -> float:
        """Epsilon at ``limit.delta`` after these releases for the limit's unit; changes nothing.

        Composed with all entries, or with one federation's. Raises PrivacyRefused above the limit.
        """
        self._refresh()
        return self._check(limit.unit, tuple(releases), limit, federation)

    def _check(
        self, unit: str, releases: tuple[Release, ...], limit: Limit, federation: str | None
    ) -> float:
        totals = self._select(federation, None)
        asked = totals.copy()
        _add(asked, unit, releases)
        after = _compose(asked, limit.unit, limit.delta)
        if after <= limit.epsilon:
            return after
        where = f"at delta {limit.delta:g} per {limit.unit}"
        finer = [known for known, z, q in asked if UNITS.index(known) < UNITS.index(limit.unit)]
        if finer and math.isinf(after):
            raise PrivacyRefused(
                f"{self.hospital} refuses: no limit {where} can hold with releases that only "
                f"protect each {finer[0]}; set the limit and privacy.unit to the same unit"
            )
        spent = _compose(totals, limit.unit, limit.delta)
        left = max(0.0, limit.epsilon - spent)
        raise PrivacyRefused(
            f"{self.hospital} refuses: epsilon would be {after:.4g} {where}, its limit is "
            f"{limit.epsilon:g}; {spent:.4g} is spent, {left:.4g} remains"
        )

    def spent(
        self, delta: float, unit: str, federation: str | None = None, run: str | None = None
    ) -> float:
        """Epsilon so far: of all entries, or of one federation's or run's alone."""
        _check_unit(unit)
        self._refresh()
        return _compose(self._select(federation, run), unit, delta)

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

    def _select(self, federation: str | None, run: str | None) -> Totals:
        if federation is None and run is None:
            return self._totals
        totals: Totals = Counter()
        for entry in self._entries:
            if federation in (None, entry.federation) and run in (None, entry.run):
                _add(totals, entry.unit, entry.releases)
        return totals

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


def _add(totals: Totals, unit: str, releases: Iterable[Release]) -> None:
    for one in releases:
        totals[unit, one.noise_multiplier, one.sampling_rate] += one.steps


def _compose(totals: Totals, unit: str, delta: float) -> float:
    releases = [(known, Release(z, q, steps)) for (known, z, q), steps in totals.items()]
    return unit_epsilon(releases, unit, delta)


def _entry_content(entry: Entry) -> dict[str, Any]:
    return {"kind": "entry", **asdict(entry)}


def _entry_from(content: dict[str, Any]) -> Entry:
    releases = tuple(Release(**one) for one in content.pop("releases"))
    return Entry(**content, releases=releases)
