"""One number a row: vectors that are opened under a mask, and their products number by number.

    x = E + U,   y = F + V,   x y = E F + E V + F U + U V

E and F are opened, U and V are the parties' masks, and U V is dealt (Beaver 1991). A vector that
one party has in plain is opened by it alone; one in shares by all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wardround.common.vertical.ring import Words
from wardround.common.vertical.room import Bank, Seat


@dataclass(frozen=True)
class Masked:
    """A vector as one party has it once it is opened under its mask.

    opened : (rows,), E
    mask : (rows,), this party's part of U; None where it has none
    """

    opened: Words
    mask: Words | None


def open_owned(
    seat: Seat,
    mine: Words | None,
    owners: Sequence[int],
    label: str,
    dealt: int = 0,
    note: bytes = b"",
) -> Any:
    """A step in which each owner opens a vector of its own. Gives all of them, in the owners'
    order, and what was dealt.

    mine : (rows,), at an owner
    owners : positions of parties
    """
    sizes = [seat.rows * (place in owners) for place in range(len(seat.table.parties))]
    mask = seat.hand.mask(label, (seat.my_part(sizes),))
    sent = mask if mine is None else mine - mask
    parts, given = yield from seat.exchange(sent, dealt, sizes, note)
    masks = {seat.position: mask}
    return [Masked(parts[place], masks.get(place)) for place in owners], given


def open_shared(seat: Seat, share: Words, label: str, dealt: int = 0) -> Any:
    """A step in which all open a vector of which each has a share. Gives it, and what was dealt."""
    mask = seat.hand.mask(label, share.shape)
    (opened,), given = yield from seat.opened(share - mask, dealt)
    return Masked(opened, mask), given


def times(seat: Seat, left: Masked, right: Masked, dealt: Words, label: str) -> Words:
    """This party's share of the product; ``dealt``: what the dealer sent party 0 for it."""
    given = dealt if seat.first else None
    share: Words = seat.hand.share(label, left.opened.shape, given).copy()
    if right.mask is not None:
        share += left.opened * right.mask
    if left.mask is not None:
        share += right.opened * left.mask
    if seat.first:
        share += left.opened * right.opened
    return share


def deal_owned(bank: Bank, owners: Sequence[int], label: str) -> list[Words]:
    """The dealer's masks of ``open_owned``, in the owners' order."""
    parties = range(len(bank.table.parties))
    masks = bank.deck.masks(label, [(bank.rows * (place in owners),) for place in parties])
    return [np.asarray(masks[place]) for place in owners]
