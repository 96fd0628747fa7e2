"""Sums that are being opened: who has given shares takes part in no other of the same purpose.

So a sum whose opening fails is held for the next attempt, with all that goes with it; and of one
that can't be opened it is known who is out of the round.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from wardround.common.privacy.claims import Claim
from wardround.server.secagg.ring_sum import RingSum, Total


@dataclass(frozen=True)
class Pending:
    """A sum that is being opened: the survivor set is fixed, and hospitals may have given shares.

    requests : the UnmaskRequest of each survivor, by name
    cohort : who was asked for a vector
    sums : the SumsLayout, of a sum of named sums
    claims : what hospitals said of their privacy budgets, by name
    total : once it is open
    """

    masked: RingSum
    requests: Mapping[str, bytes]
    cohort: Sequence[str]
    sums: bytes = b""
    claims: Mapping[str, Claim] = field(default_factory=dict)
    total: Total | None = None


class PendingSums:
    """Those of one run's present round, by purpose."""

    def __init__(self) -> None:
        self._held: dict[str, Pending] = {}
        self._out: dict[str, set[str]] = {}
        self._spoiled: set[str] = set()

    def purposes(self) -> Iterable[str]:
        """Of all sums that are held."""
        return tuple(self._held)

    def find(self, purpose: str) -> Pending | None:
        """The sum of that purpose that this process has opened, or may open yet."""
        return self._held.get(purpose)

    def hold(self, purpose: str, pending: Pending) -> None:
        """A sum whose shares are about to be asked for."""
        self._held[purpose] = pending

    def opened(self, purpose: str, total: Total) -> None:
        """A held sum is open: whoever asks for it again gets this."""
        if purpose in self._held:
            self._held[purpose] = replace(self._held[purpose], total=total)

    def spoil(self, purpose: str) -> None:
        """A held sum was opened and is none. Who gave shares for it is out."""
        if pending := self._held.pop(purpose, None):
            self._out.setdefault(purpose, set()).update(pending.masked.answers)
        self._spoiled.add(purpose)

    def is_spoiled(self, purpose: str) -> bool:
        """Whether a sum of that purpose was opened and is none."""
        return purpose in self._spoiled

    def note_out(self, purpose: str, names: Collection[str]) -> None:
        """Remember who says that it gave shares for another sum of that purpose."""
        if names:
            self._out.setdefault(purpose, set()).update(names)

    def gave(self, purpose: str) -> set[str]:
        """Who has given shares for a held sum that isn't open yet."""
        pending = self._held.get(purpose)
        return set(pending.masked.answers) if pending and pending.total is None else set()

    def out(self, purpose: str) -> set[str]:
        """Who takes part in no further sum of that purpose: its one sum can't be had any more."""
        return self._out.get(purpose, set())

    def drop(self, purpose: str) -> None:
        """Forget a sum."""
        self._held.pop(purpose, None)

    def clear(self) -> None:
        """The round is committed."""
        self._held.clear()
        self._out.clear()
        self._spoiled.clear()
