"""What a party has of linkages: links that it keeps at home, and how often it has helped to look.

A link is which of a party's own rows are of persons whom all parties have, in an order that all
agree on. It never leaves the party; ``client/links`` keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

ROWS, ORDER = "rows", "order"
"""Arrays of a linkage's ``Turn.kept``: the party's own row numbers (int64) in the agreed order, and
32 bytes (uint8) that stand for that order, the same at all parties."""
Keys = Sequence[bytes | None]
"""The normal form of each row's identifiers (``LinkedRows.keys``); None of a row that has none."""


@dataclass(frozen=True)
class Link:
    """One that was opened for a later study.

    rows : (n,) int64, the party's own row numbers, in the agreed order
    digest : 32 bytes, the same at all parties: who has another one has another link, and must not
        compute with these
    """

    rows: NDArray[np.int64]
    digest: bytes


class Links(Protocol):
    """The links of one party; ``Me.links``."""

    def helps(self, session: bytes, step: int, asked: Mapping[str, int]) -> None:
        """Before a party works on identifiers of others: count them, durably.

        session : of the run: the same step of one session counts once, however often it is made
        asked : by party, how many of its identifiers are worked on

        Raises JointRefused where this party helps with no more.
        """

    def keep(self, session: bytes, kept: Mapping[str, NDArray[Any]], keys: Keys) -> None:
        """Keep what a linkage has found, under its study's name, durably.

        kept : ``ROWS`` and ``ORDER``
        keys : of all rows that ``ROWS`` numbers

        Raises JointRefused where it can't be kept.
        """

    def open(self, name: str, study: str, keys: Keys) -> Link:
        """The link of a linkage, for a study that it was made for.

        keys : of the rows that there are now: in another order, or with others among them

        Raises JointRefused where there is no such link, it isn't for this study, or a person whom
        it has is not among the rows any more.
        """
