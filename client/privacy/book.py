"""The ledgers of all simulated hospitals in one file: thousands pay in one transaction.

What a hospital has of its own, and a file each, costs more here than the training of a small
model. So the book has one chain of rows (``chained.py``), and a row says who pays, and what. Each
hospital's sum is held against its limit just as in a ledger of its own, by the same functions
(``entries.py``), and a refusal has the same words. ``page`` is one hospital's ledger in it.

Sums are shared: hospitals that have paid the same, in the same order, have one ``_Sum``, and
whatever follows from it is worked out once. So a round costs as much as there are different sums,
and a few lookups for each hospital.

A simulation's only: nobody else's rows may lie beside a hospital's own, and no patients are named
here, as simulated limits are for whoever was in everything.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from wardround.client.privacy.chained import Chained
from wardround.client.privacy.entries import Entry, Limit, Spent, check_unit, hold, of_run
from wardround.client.privacy.ledger_files import connect, dump, failed, make_files
from wardround.common.errors import PrivacyRefused

BOOK = "_hospitals.sqlite"
"""The book's name in a run's folder of ledgers. No hospital's name begins so: a ledger of its own
is called by its hospital."""


class Balance(NamedTuple):
    """What a hospital's claim says.

    epsilon : of all that its ledger knows
    more : the same once more would stay within its limit
    """

    epsilon: float
    more: bool


@dataclass(eq=False)
class _Sum:
    """What some hospitals have spent, and the sums that follow by what they pay next."""

    spent: Spent
    after: dict[tuple[Any, ...], _Sum] = field(default_factory=dict)

    def then(self, entry: Entry) -> _Sum:
        """The sum with this entry, too."""
        key = (entry.unit, entry.releases, entry.side, entry.units)
        found = self.after.get(key)
        if found is None:
            spent = self.spent.copy()
            spent.add(entry)
            found = self.after[key] = _Sum(spent)
        return found


class Book(Chained):
    """Open with ``create`` or ``open``. Not for several threads."""

    @classmethod
    def create(cls, path: Path) -> Book:
        """A new, empty book. Raises PrivacyRefused if there is one, or a used one's head."""
        make_files(path, dump({"kind": "start", "id": os.urandom(16).hex()}), durable=False)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Book:
        """The book at ``path``, all of it verified. Raises PrivacyRefused if it is missing,
        damaged or cut short."""
        if not path.is_file():
            raise PrivacyRefused(f"{path}: the simulated hospitals' privacy ledger is missing")
        try:
            connection = connect(path, durable=False)
        except sqlite3.Error as error:
            raise failed(path, error) from None
        self = cls(path, connection, durable=False)
        try:
            with self._locked():
                pass
        except BaseException:
            connection.close()
            raise
        return self

    def _forget_rows(self) -> None:
        self._nothing = _Sum(Spent())
        self._sums: dict[str, _Sum] = {}
        self._requests: dict[str, list[tuple[Entry, frozenset[str]]]] = {}
        self._facts: dict[tuple[str, str], str] = {}
        self._cohorts: dict[frozenset[str], frozenset[str]] = {}

    def _understand(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "paid":
            for one in content["entries"]:
                entry, names = Entry.of(one["entry"]), frozenset(map(str, one["hospitals"]))
                names = self._cohorts.setdefault(names, names)  # often the same, round by round
                self._requests.setdefault(entry.request, []).append((entry, names))
                for name in names:
                    self._sums[name] = self._sum_of(name).then(entry)
        elif kind == "fact":
            self._facts[content["hospital"], content["key"]] = content["value"]
        elif kind != "start":
            raise ValueError(f"unknown kind '{kind}'")

    def _sum_of(self, hospital: str) -> _Sum:
        return self._sums.get(hospital, self._nothing)

    # --- one hospital ----------------------------------------------------------------------------
    def page(self, hospital: str) -> Page:
        """The ledger of this hospital."""
        return Page(self, hospital)

    def hospitals(self) -> list[str]:
        """Those that have paid for anything."""
        self._refresh()
        return sorted(self._sums)

    def spent_by(self, hospital: str) -> Spent:
        """What a hospital has spent."""
        self._refresh()
        return self._sum_of(hospital).spent

    def entries_of(self, hospital: str) -> list[Entry]:
        """All of a hospital, oldest first."""
        self._refresh()
        every = (pair for pairs in self._requests.values() for pair in pairs)
        found = (entry for entry, names in every if hospital in names)
        return sorted(found, key=lambda entry: entry.time)

    def find(self, request: str, hospital: str) -> Entry | None:
        """A hospital's newest entry of a request, by its digest."""
        self._refresh()
        return self._find(request, hospital)

    def _find(self, request: str, hospital: str) -> Entry | None:
        for entry, names in reversed(self._requests.get(request, ())):
            if hospital in names:
                return entry
        return None

    def recall(self, key: str, hospital: str) -> str | None:
        """A fact that a hospital remembers."""
        self._refresh()
        return self._facts.get((hospital, key))

    def remember(self, key: str, value: str, hospital: str) -> None:
        """Keep a fact of a hospital that is drawn once. Raises PrivacyRefused if it is known to be
        another."""
        with self._locked():
            known = self._facts.get((hospital, key))
            if known is None:
                fact = {"hospital": hospital, "key": key, "value": value}
                self._append({"kind": "fact", **fact})
            elif known != value:
                raise PrivacyRefused(f"{self.path}: '{key}' is already {known}; it stays")

    # --- many ------------------------------------------------------------------------------------
    def spend(
        self, asked: Mapping[Entry, Sequence[str]], limit: Limit, *, once: bool = False
    ) -> dict[str, PrivacyRefused]:
        """Hold what hospitals want to spend against their limits, and write down what is within
        them, for good, in one row; why others may not.

        once : who has an entry of the same request pays for no second one
        """
        refused: dict[str, PrivacyRefused] = {}
        now = time.time()
        with self._locked():
            paid = []
            for entry, names in asked.items():
                if once:
                    names = [one for one in names if self._find(entry.request, one) is None]
                if kept := self._within(entry, names, limit, refused):
                    timed = replace(entry, time=entry.time or now)
                    paid.append({"entry": timed.content(), "hospitals": kept})
            if paid:
                self._append({"kind": "paid", "entries": paid})
        return refused

    def _within(
        self, entry: Entry, names: Sequence[str], limit: Limit, refused: dict[str, PrivacyRefused]
    ) -> list[str]:
        """Those whose limit allows it; a sum is worked out once, but for who is refused."""
        good: set[_Sum] = set()
        kept = []
        for name in names:
            found = self._sum_of(name)
            if found not in good:
                try:
                    hold(found.spent, entry, limit, name, _no_members)
                except PrivacyRefused as error:
                    refused[name] = error
                    continue
                good.add(found)
            kept.append(name)
        return kept

    def balances(self, asked: Mapping[Entry, Sequence[str]], limit: Limit) -> dict[str, Balance]:
        """What hospitals have spent, and whether each may spend its entry once more."""
        self._refresh()
        known: dict[tuple[_Sum, Entry], Balance] = {}
        found = {}
        for entry, names in asked.items():
            for name in names:
                own = self._sum_of(name)
                balance = known.get((own, entry))
                if balance is None:
                    balance = known[own, entry] = balance_of(own.spent, entry, limit, name)
                found[name] = balance
        return found


def balance_of(spent: Spent, entry: Entry, limit: Limit, hospital: str) -> Balance:
    """Of one hospital that has spent so much and asks whether it may spend the entry again."""
    try:
        hold(spent, entry, limit, hospital, _no_members)
        more = True
    except PrivacyRefused:
        more = False
    return Balance(spent.epsilon(limit.unit, limit.delta), more)


class Page:
    """One hospital's ledger in a book; as ``Ledger`` where a simulated hospital uses it."""

    def __init__(self, book: Book, hospital: str) -> None:
        self._book, self.hospital, self.path = book, hospital, book.path

    @property
    def head(self) -> tuple[int, str]:
        """The book's."""
        return self._book.head

    def recall(self, key: str) -> str | None:
        """A remembered fact."""
        return self._book.recall(key, self.hospital)

    def remember(self, key: str, value: str) -> None:
        """Keep a fact that is drawn once. Raises PrivacyRefused if it is known to be another."""
        self._book.remember(key, value, self.hospital)

    def find(self, request: str) -> Entry | None:
        """The newest entry of a request, by its digest."""
        return self._book.find(request, self.hospital)

    def spend(self, entry: Entry, limit: Limit, patients: object = None) -> float:
        """As ``Ledger.spend``; nobody's patients are told apart here."""
        refused = self._book.spend({entry: [self.hospital]}, limit)
        for error in refused.values():
            raise error
        return self.spent(limit.delta, limit.unit)

    def check(self, entry: Entry, limit: Limit) -> float:
        """Epsilon once this entry is spent, too. Raises PrivacyRefused above the limit."""
        spent = self._book.spent_by(self.hospital)
        return hold(spent, entry, limit, self.hospital, _no_members)

    def spent(
        self, delta: float, unit: str, federation: str | None = None, run: str | None = None
    ) -> float:
        """Epsilon so far: of all entries, or of one federation's or run's alone."""
        check_unit(unit)
        if federation is None and run is None:
            return self._book.spent_by(self.hospital).epsilon(unit, delta)
        return Spent(of_run(self.entries(), federation, run)).epsilon(unit, delta)

    def entries(self) -> list[Entry]:
        """All, oldest first."""
        return self._book.entries_of(self.hospital)

    def close(self) -> None:
        """The book stays open: the next page is another hospital's."""

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SharedBook:
    """Where the book of a simulation's hospitals lies; each process that needs it opens its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: dict[int, Book] = {}

    def create(self) -> None:
        """A new, empty book, unless there is one."""
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            Book.create(self.path).close()

    def open(self) -> Book:
        """The book. Raises PrivacyRefused as ``Book.open``."""
        process = os.getpid()  # a connection that a fork has inherited isn't to be used
        if process not in self._opened:
            self._opened[process] = Book.open(self.path)
        return self._opened[process]


def _no_members(name: str) -> bytes | None:
    return None
