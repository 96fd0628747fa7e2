"""Who goes on being asked, where each sum is had once: those who were in all sums before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wardround.server.members.member import Member
from wardround.server.observer import Observer


class Staying:
    """The members of steps that follow each other.

    names : who was in the last one; None before the first
    """

    def __init__(self, observer: Observer, names: Iterable[str] | None = None) -> None:
        self._observer = observer
        self.names = None if names is None else set(names)

    def of(self, members: Sequence[Member], what: str) -> list[Member]:
        """Those of these members who were there before; that others left is told.

        what : was going on, for people
        """
        if self.names is None:
            return list(members)
        left = [member for member in members if member.name in self.names]
        if gone := sorted(self.names - {member.name for member in left}):
            who = f"{gone[0]} {'has' if len(gone) == 1 else f'and {len(gone) - 1} others have'}"
            self._observer.warnings(
                [f"{who} left while {what}: the steps that are left go on without it"]
            )
        return left

    def note(self, members: Iterable[Member]) -> None:
        """These were in a step that is done."""
        self.names = {member.name for member in members}
