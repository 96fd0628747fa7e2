"""How a hospital pays: the ledger opened and held against its witness, written, witnessed.

The order is: the ledger is what it was when the kit's audit log last heard of it; the limit holds;
the row is on the disk; the audit log has its head; only then is anything trained or drawn.
"""

from __future__ import annotations

from collections.abc import Collection

from wardround.client.data.hospital import Hospital
from wardround.client.data.witness import Anchor
from wardround.client.privacy.book import Page, SharedBook
from wardround.client.privacy.entries import Entry, Limit
from wardround.client.privacy.ledger import Ledger
from wardround.common.errors import PrivacyRefused

_MEND = (
    "restore both its files from the newest backup, then see what is missing: wardround client "
    "ledger KIT"
)


def book_of(hospital: Hospital) -> SharedBook | None:
    """Where a simulated hospital's ledger is together with others'; None where it has its own.
    Raises PrivacyRefused for a hospital that isn't simulated: its budget stands beside nobody's."""
    if not isinstance(hospital.book, SharedBook):
        return None
    if not hospital.simulated:
        raise PrivacyRefused(
            f"{hospital.name}: a book of many hospitals' ledgers is a simulation's"
        )
    return hospital.book


def open_ledger(hospital: Hospital) -> Ledger | Page:
    """The hospital's ledger; of many simulated ones its page in their book. Raises PrivacyRefused
    if it is missing, damaged, another's, or not what the kit's audit log knows."""
    if (book := book_of(hospital)) is not None:
        return book.open().page(hospital.name)
    if hospital.ledger_path is None:
        raise PrivacyRefused(f"{hospital.name} has no privacy ledger, so it can't train privately")
    anchor = hospital.witness.newest() if hospital.witness is not None else None
    ledger = Ledger.open(hospital.ledger_path, hospital.name, durable=not hospital.simulated)
    try:
        if anchor is not None:
            check_anchor(ledger, anchor)
    except BaseException:
        ledger.close()
        raise
    return ledger


def check_anchor(ledger: Ledger, anchor: Anchor) -> None:
    """Raise PrivacyRefused unless the ledger goes on from where it was."""
    rows, _ = ledger.head
    if rows < anchor.number:
        raise PrivacyRefused(
            f"{ledger.path}: this privacy ledger has {rows} rows, and this kit's audit log knows "
            f"{anchor.number}: it is an older one, or was emptied; {_MEND}"
        )
    if not ledger.goes_on_from(*anchor):
        raise PrivacyRefused(
            f"{ledger.path}: this is another privacy ledger than this kit's audit log knows; "
            f"{_MEND}"
        )


def limit_of(hospital: Hospital) -> Limit:
    """The hospital's own limit, over everything its ledger knows of; infinite without
    ``privacy.epsilon_limit`` or ``privacy.epsilon``. Of hospitals none is held by patient: there
    are no rows of one alone in such a release."""
    table = hospital.config.privacy
    each = hospital.each_patient and table.unit != "hospital"
    return Limit(table.limit, table.delta, table.unit, each)


def pay(hospital: Hospital, ledger: Ledger | Page, entry: Entry, splits: Collection[str]) -> None:
    """Write down what is about to be released, of the rows in these splits, for good.

    Raises PrivacyRefused where the hospital's limit forbids it; nothing is written then.
    """
    limit = limit_of(hospital)
    ledger.spend(entry, limit, hospital.patients(splits) if limit.each_patient else None)
    if hospital.witness is not None:
        paid = ledger.find(entry.request) or entry
        hospital.witness.add(Anchor(*ledger.head), paid.content())
