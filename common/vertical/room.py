"""How parties open values together, and how a dealer gives its corrections: one step each.

Party and dealer run texts of the same steps. What is sent has a size that both know, so nothing is
framed, and a letter of another size is refused.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import JointRefused
from wardround.common.joint.party import Turn
from wardround.common.vertical.deal import Deck, Hand
from wardround.common.vertical.machine import Letters, Memory
from wardround.common.vertical.ring import Words

Exchange = Generator[Turn, Letters, tuple[list[NDArray[Any]], Words]]
Opening = Generator[Turn, Letters, Words]
WORD = np.dtype("<u8")


def read(letters: Letters, sender: str, size: int, kind: Any = WORD) -> NDArray[Any]:
    """``size`` numbers of a sender's letter. Raises JointRefused where it has others."""
    letter = letters.get(sender, b"")
    kind = np.dtype(kind).newbyteorder("<")
    if len(letter) != size * kind.itemsize:
        raise JointRefused("a letter isn't of the size that follows from the plan")
    return np.frombuffer(letter, kind).astype(kind.newbyteorder("="), copy=False)


def written(array: NDArray[Any]) -> bytes:
    """The numbers of an array, little-endian, as ``read`` has them."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


class Table:
    """What the parties of one run know of it; parties: those with columns, in their order."""

    def __init__(self, parties: Sequence[str], dealer: str, rows: int) -> None:
        self.parties, self.dealer, self.rows = tuple(parties), dealer, rows


class Seat:
    """A party with columns at the table.

    rows : padded, as all letters have them
    secret : its own, which the dealer hasn't
    """

    def __init__(
        self, table: Table, name: str, hand: Hand, memory: Memory, secret: bytes = b""
    ) -> None:
        self.table, self.name, self.hand, self.memory = table, name, hand, memory
        self.secret = secret
        self.position, self.rows = table.parties.index(name), table.rows

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(name for name in self.table.parties if name != self.name)

    @property
    def first(self) -> bool:
        """Whether it is the party that adds what is public to its share."""
        return self.position == 0

    def exchange(
        self,
        mine: NDArray[Any],
        dealt: int = 0,
        sizes: Sequence[int] | None = None,
        note: bytes = b"",
        to: Sequence[str] | None = None,
    ) -> Exchange:
        """All parties' arrays, flat and in their order, and ``dealt`` words of the dealer.

        sizes : of each party's array, where they differ
        note : for the dealer
        to : who is sent it; None is everyone. Others get an empty array from this party
        """
        sizes = sizes or [mine.size] * len(self.table.parties)
        outgoing = {name: written(mine) for name in self.others if to is None or name in to}
        if note:
            outgoing[self.table.dealer] = note
        letters = yield Turn(outgoing)
        found = []
        for name, size in zip(self.table.parties, sizes, strict=True):
            if name == self.name:
                found.append(mine.ravel())
            elif to is None or self.name in to:
                found.append(read(letters, name, size, mine.dtype))
            else:
                found.append(np.zeros(0, mine.dtype))
        given = read(letters, self.table.dealer, dealt) if dealt else np.zeros(0, np.uint64)
        return found, given

    def opened(self, share: NDArray[Any], dealt: int = 0, note: bytes = b"") -> Exchange:
        """([the sum of all parties' shares, in their shape], dealt words)."""
        parts, given = yield from self.exchange(share, dealt, note=note)
        total = parts[0].copy()
        for part in parts[1:]:
            total += part
        return [total.reshape(share.shape)], given

    def opened_to(self, share: Words, receiver: str) -> Opening:
        """The sum of all parties' shares at one party; an empty array at the others."""
        parts, _ = yield from self.exchange(share, to=[receiver])
        if self.name != receiver:
            return np.zeros(0, np.uint64)
        total: Words = sum(parts[1:], parts[0].copy())
        return total.reshape(share.shape)

    def my_part(self, sizes: Sequence[int]) -> int:
        """Words that this party is dealt, of what each is."""
        return sizes[self.position]


class Bank:
    """The dealer at the table: it has all parties' seeds, and sees none of their shares."""

    def __init__(self, table: Table, deck: Deck, memory: Memory) -> None:
        self.table, self.deck, self.memory, self.rows = table, deck, memory, table.rows

    def give(self, corrections: Mapping[int, Sequence[Words]] | None = None) -> Any:
        """A step of the dealer: to parties, by their number, the corrections of this step, one
        after the other. Gives the letters that it got."""
        letters = yield Turn(
            {
                self.table.parties[to]: b"".join(written(one) for one in words)
                for to, words in (corrections or {}).items()
            }
        )
        return letters
