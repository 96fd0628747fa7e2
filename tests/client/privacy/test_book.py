"""The ledgers of a simulation's hospitals in one file: each is what one of its own would be."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.client.privacy.book import BOOK, Book, SharedBook
from wardround.client.privacy.entries import Entry, Limit
from wardround.client.privacy.ledger import Ledger
from wardround.common.errors import PrivacyRefused
from wardround.common.names import is_name
from wardround.common.privacy.accounting import Release

LIMIT = Limit(2.0, 1e-5, "example")
NAMES = ("a", "b", "c")
COSTS = ((Release(4.0, 1.0, 1),), (Release(2.0, 0.1, 20),), (Release(1.0, 1.0, 1),))


def entry(number: int, cost: int = 0, side: str = "") -> Entry:
    return Entry(
        federation="heart",
        run="r",
        round=number,
        attempt=0,
        request=f"{number:064x}",
        mechanism="update, no noise",
        unit="example",
        clipping_norm=1.0,
        releases=COSTS[cost],
        simulated=True,
        side=side,
    )


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book.create(tmp_path / BOOK)


one_payment = st.dictionaries(st.sampled_from(NAMES), st.integers(0, len(COSTS) - 1), min_size=1)
some_payments = st.lists(
    st.tuples(one_payment, st.sampled_from(["", "train r", "held-out r", "test r"])), max_size=7
)


@settings(max_examples=25)
@given(some_payments)
def test_each_hospital_pays_and_is_refused_as_by_a_ledger_of_its_own(
    tmp_path_factory: pytest.TempPathFactory,
    payments: list[tuple[dict[str, int], str]],
) -> None:
    folder = tmp_path_factory.mktemp("book")
    book = Book.create(folder / BOOK)
    own = {name: Ledger.create(folder / f"{name}.sqlite", name, durable=False) for name in NAMES}
    for number, (who, side) in enumerate(payments):
        asked: dict[Entry, list[str]] = {}
        for name, cost in who.items():
            asked.setdefault(entry(number, cost, side), []).append(name)
        refused = book.spend(asked, LIMIT)
        balances = book.balances(asked, LIMIT)
        for one, names in asked.items():
            for name in names:
                try:
                    own[name].spend(one, LIMIT)
                    assert name not in refused
                except PrivacyRefused as error:
                    assert str(error) == str(refused[name])
                assert balances[name].epsilon == own[name].spent(LIMIT.delta, LIMIT.unit)
                try:
                    own[name].check(one, LIMIT)
                    assert balances[name].more
                except PrivacyRefused:
                    assert not balances[name].more
    again = Book.open(book.path)
    for name in NAMES:
        page = again.page(name)
        assert page.spent(LIMIT.delta, "example") == own[name].spent(LIMIT.delta, "example")
        found = [replace(one, time=0.0) for one in page.entries()]
        assert found == [replace(one, time=0.0) for one in own[name].entries()]


def test_a_request_that_was_paid_for_is_paid_once_and_by_who_has_not(book: Book) -> None:
    one = entry(1)
    book.spend({one: ["a"]}, LIMIT, once=True)
    book.spend({one: ["a", "b"]}, LIMIT, once=True)
    assert [len(book.entries_of(name)) for name in NAMES] == [1, 1, 0]
    book.spend({one: ["a"]}, LIMIT)
    assert len(book.entries_of("a")) == 2
    assert book.find(one.request, "c") is None and book.hospitals() == ["a", "b"]


def test_no_hospitals_own_ledger_is_called_as_the_book() -> None:
    """One that was called 'hospitals' took the book's place: a run with it couldn't be gone on
    with, and its own ledger 'couldn't be trusted'."""
    assert not is_name(BOOK.removesuffix(".sqlite"))


def test_who_has_spent_all_is_refused_beside_those_who_have_not(book: Book) -> None:
    number = 0
    while not book.spend({entry(number): ["a"]}, LIMIT):
        number += 1
    assert number > 0  # one payment is within the limit, so b's and c's first are
    for beside in (["a", "b"], ["c", "a"]):
        assert set(book.spend({entry(number): beside}, LIMIT)) == {"a"}
    assert [len(book.entries_of(name)) for name in NAMES] == [number, 1, 1]


def test_facts_are_each_hospitals_own(book: Book) -> None:
    book.page("a").remember("sizes", "5 1 2")
    book.page("b").remember("sizes", "7 1 2")
    book.page("a").remember("sizes", "5 1 2")
    assert Book.open(book.path).page("b").recall("sizes") == "7 1 2"
    assert book.page("c").recall("sizes") is None
    with pytest.raises(PrivacyRefused, match="already"):
        book.page("a").remember("sizes", "6 1 2")


def test_two_processes_see_what_each_other_has_paid(book: Book, tmp_path: Path) -> None:
    other = Book.open(book.path)
    other.spend({entry(1): ["a"]}, LIMIT)
    assert book.page("a").spent(1e-5, "example") == other.page("a").spent(1e-5, "example") > 0
    shared = SharedBook(book.path)
    assert shared.open() is shared.open()
    shared.create()  # there is one: it stays
    assert len(shared.open().entries_of("a")) == 1


KILLED = """
import os, sys
from pathlib import Path
from test_book import LIMIT, Book, entry
from wardround.client.privacy import chained
real = chained.insert_row
def fatal(*arguments):
    real(*arguments)
    os.kill(os.getpid(), 9)
chained.insert_row = fatal
Book.open(Path(sys.argv[1])).spend({entry(2): ["a", "b"]}, LIMIT)
"""


def test_who_was_killed_after_the_head_has_paid(book: Book) -> None:
    book.spend({entry(1): ["a", "b"]}, LIMIT)
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + KILLED
    done = subprocess.run([sys.executable, "-c", code, str(book.path)], check=False)
    assert done.returncode == -9
    found = Book.open(book.path)
    assert [len(found.entries_of(name)) for name in NAMES] == [2, 2, 0]


@pytest.mark.parametrize("damage", ["missing", "emptied", "changed", "no head", "cut short"])
def test_a_book_that_can_not_vouch_is_refused(book: Book, damage: str) -> None:
    book.spend({entry(1): ["a"]}, LIMIT)
    path, head = book.path, book.path.with_name(book.path.name + ".head")
    before = path.read_bytes()
    book.spend({entry(2): ["a"]}, LIMIT)
    book.spend({entry(3): ["a"]}, LIMIT)
    book.close()
    if damage == "missing":
        path.unlink()
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "changed":
        path.write_bytes(path.read_bytes().replace(b'"round": 2', b'"round": 9'))
    elif damage == "no head":
        head.unlink()
    else:
        path.write_bytes(before)
    with pytest.raises(PrivacyRefused, match="ledger"):
        Book.open(path)
