"""Products with a matrix whose columns lie at several parties, opened once under one mask.

X = E + U, (columns, rows): a party's mask of its columns is known to it and to the dealer, E to all
parties. Of a vector r in shares, D = r - V is opened, and

    X r = E D + E V + U D + U V

where E D is public, E V and U D are made by the parties that know V's parts and U's rows, and U V
is dealt: a few words. Each of these texts has a party's half and a dealer's half, of as many steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wardround.common.vertical.ring import Words, product
from wardround.common.vertical.room import Bank, Seat


class Columns:
    """One party's view of the matrix.

    opened : E, (all columns, rows), party after party
    mask : U of its own columns, (own columns, rows)
    own : which of all columns are its own
    """

    def __init__(self, opened: Words, mask: Words, own: slice) -> None:
        self.opened, self.mask, self.own = opened, mask, own
        self.count = len(opened)

    def gram(self, seat: Seat, dealt: Words | None, label: str) -> Words:
        """This party's share of X X^T, (columns, columns); its own sums are in it as they are."""
        share = seat.hand.share(f"{label} gram", (self.count, self.count), dealt)
        mixed = np.zeros_like(share)
        mixed[:, self.own] = product(self.opened, self.mask)
        share = share + mixed + mixed.T
        if seat.first:
            share += product(self.opened, self.opened)
        return share


def open_columns(seat: Seat, plain: Words, counts: Sequence[int], label: str = "columns") -> Any:
    """A party's step that opens its columns under their mask. Gives its ``Columns`` and, at
    party 0, the correction of their Gram matrix.

    plain : (own columns, rows); counts : of columns at each party
    """
    mask: Words = seat.hand.mask(label, plain.shape)
    total, start = sum(counts), sum(counts[: seat.position])

    def block() -> Any:
        parts, given = yield from seat.exchange(
            plain - mask,
            total * total if seat.first else 0,
            [count * seat.rows for count in counts],
        )
        return {"opened": np.concatenate(parts).reshape(total, seat.rows), "gram": given}

    found = yield from seat.memory.once(label, block())
    columns = Columns(found["opened"], mask, slice(start, start + len(plain)))
    return columns, found["gram"] if seat.first else None


def deal_columns(bank: Bank, counts: Sequence[int], label: str = "columns") -> Any:
    """The dealer's half of ``open_columns``. Gives all masks, (columns, rows)."""
    masks = np.concatenate(bank.deck.masks(label, [(count, bank.rows) for count in counts]))
    yield from bank.give({0: [bank.deck.deal(f"{label} gram", product(masks, masks))]})
    return masks


def sums(
    seat: Seat,
    columns: Columns,
    row_share: Words,
    extra: Words,
    label: str,
    note: bytes = b"",
) -> Any:
    """A party's step of X r, and its share of it followed by ``extra``: (columns + extras,).

    row_share : its share of r, (rows,)
    extra : its shares of sums that need no product, which are hidden by fresh shares of zero
    note : for the dealer
    """
    mask = seat.hand.mask(label, (seat.rows,))
    size = columns.count + len(extra)
    (opened,), given = yield from seat.opened(row_share - mask, size if seat.first else 0, note)
    share = seat.hand.share(f"{label} sums", (size,), given if seat.first else None)
    share = share.copy()
    share[: columns.count] += product(columns.opened, mask + opened if seat.first else mask)
    share[columns.own] += product(columns.mask, opened)
    share[columns.count :] += extra
    return share


def deal_sums(bank: Bank, masks: Words, extras: int, label: str) -> Any:
    """The dealer's half of ``sums``."""
    mask = bank.deck.total(label, (bank.rows,))
    value = np.concatenate([product(masks, mask), np.zeros(extras, np.uint64)])
    return (yield from bank.give({0: [bank.deck.deal(f"{label} sums", value)]}))


def weighted_gram(
    seat: Seat, columns: Columns, weight_share: Words, label: str, beside: Columns | None = None
) -> Any:
    """A party's two steps of X diag(w) X^T, and its share of it, (columns, columns).

    weight_share : its share of w, (rows,). First w X is made in shares, which are opened under a
    mask of their own, then the product with X. Its fixed point is w's and twice the columns'.
    beside : others, whose products with w X stand below: (columns + beside, columns)
    """
    rows, first, count = seat.rows, seat.first, columns.count
    mask = seat.hand.mask(f"{label} weight", (rows,))
    to = len(seat.table.parties) - 1
    last = seat.position == to
    (opened,), given = yield from seat.opened(weight_share - mask, count * rows if last else 0)
    scaled = seat.hand.share(f"{label} scaled", (count, rows), given if last else None, to).copy()
    scaled += columns.opened * (mask + opened if first else mask)
    scaled[columns.own] += columns.mask * opened
    mask = seat.hand.mask(f"{label} columns", (count, rows))
    scaled -= mask
    total = count + (0 if beside is None else beside.count)
    (opened,), given = yield from seat.opened(scaled, total * count if first else 0)
    share = seat.hand.share(f"{label} gram", (total, count), given if first else None).copy()
    known = mask + opened if first else mask
    for part, above in ((columns, 0), (beside, count)):
        if part is not None:
            share[above : above + part.count] += product(part.opened, known)
            share[above + part.own.start : above + part.own.stop] += product(part.mask, opened)
    return share


def deal_weighted_gram(bank: Bank, masks: Words, label: str, beside: Words | None = None) -> Any:
    """The dealer's half of ``weighted_gram``; ``beside``: masks of the others."""
    weight = bank.deck.total(f"{label} weight", (bank.rows,))
    to = len(bank.table.parties) - 1
    scaled = bank.deck.deal(f"{label} scaled", masks * weight, to)
    yield from bank.give({to: [scaled]})
    mask = bank.deck.total(f"{label} columns", masks.shape)
    both = masks if beside is None else np.concatenate([masks, beside])
    return (yield from bank.give({0: [bank.deck.deal(f"{label} gram", product(both, mask))]}))
