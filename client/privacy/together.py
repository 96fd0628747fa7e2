"""Many simulated hospitals pay for their part of one round, each within its own limit.

As ``PrivateRound.begin`` has it for one: checked, then written down for good, then trained. Those
whose ledgers are in one book pay in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wardround.client.privacy.account import book_of, limit_of
from wardround.client.privacy.book import Balance, SharedBook
from wardround.client.privacy.entries import Entry, Limit
from wardround.client.privacy.round import PrivateRound, side_of
from wardround.common.errors import PrivacyRefused


def settle_together(
    rounds: Sequence[PrivateRound], request: str
) -> tuple[dict[str, Balance], dict[str, PrivacyRefused]]:
    """Pay for these rounds, of hospitals of one configuration: what each one's claim says, and why
    others refuse; by name.

    request : digest of what they were asked, hexadecimal; who has paid for it pays once
    """
    found: dict[str, Balance] = {}
    refused: dict[str, PrivacyRefused] = {}
    books: dict[SharedBook, list[PrivateRound]] = {}
    for one in rounds:
        hospital = one.hospital
        try:
            if (book := book_of(hospital)) is not None:
                books.setdefault(book, []).append(one)
                continue
            found[hospital.name] = one.settle(request, limit_of(hospital))
        except PrivacyRefused as error:
            refused[hospital.name] = error
    for shared, those in books.items():
        asked, limit = _by_entry(those, request), limit_of(those[0].hospital)
        try:
            found |= _in_one_row(shared, asked, limit, refused)
        except PrivacyRefused as error:  # of the book itself
            refused |= dict.fromkeys((one.hospital.name for one in those), error)
    return found, refused


def _in_one_row(
    shared: SharedBook,
    asked: Mapping[Entry, Sequence[str]],
    limit: Limit,
    refused: dict[str, PrivacyRefused],
) -> dict[str, Balance]:
    book = shared.open()
    refused |= book.spend(asked, limit, once=True)
    paid = {entry: [x for x in names if x not in refused] for entry, names in asked.items()}
    return book.balances(paid, limit)


def _by_entry(rounds: Sequence[PrivateRound], request: str) -> dict[Entry, list[str]]:
    """Who pays what. Thousands have a few entries: one is made for each."""
    made: dict[tuple[object, ...], list[str]] = {}
    found: dict[Entry, list[str]] = {}
    for one in rounds:
        key = (one.proposal, one.schedule, side_of(one.hospital, "training"))
        names = made.get(key)
        if names is None:
            names = made[key] = found.setdefault(one.entry(request), [])
        names.append(one.hospital.name)
    return found
