"""What a federation is told by its host, and the host by it: who may be asked, and when to wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from wardround.server.gathering import Expected


@dataclass(frozen=True)
class Host:
    """The host of a federation.

    Parameters
    ----------
    on_model : is told, before the first round, what hospitals will be asked to send
    wait_ready : returns when enough hospitals can be asked; called before every attempt at a step.
        True: the others are waited for, too, as long as the host's settings say
    standing : gives something that changes when hospitals were told of another membership or other
        settings, so that what they had accepted is over
    go_on : how a run that stopped goes on, as the end of a sentence
    """

    on_model: Callable[[Expected], None] = lambda expected: None
    wait_ready: Callable[[bool], None] = lambda everyone: None
    standing: Callable[[], object] = lambda: None
    go_on: str = "go on with the same run directory"


class Attempts:
    """Attempts at a step, numbered, until ``most`` have failed by themselves.

    One during which a hospital was revoked, added or renewed isn't counted: what people may do at
    any time must not end a run.
    """

    def __init__(self, most: int, standing: Callable[[], object], first: int = 1) -> None:
        self.number, self._left, self._standing = first, max(1, most - first + 1), standing
        self._begun = standing()

    def __iter__(self) -> Iterator[int]:
        while True:
            self._begun = self._standing()
            yield self.number
            self.number += 1

    @property
    def disturbed(self) -> bool:
        """Whether the membership has changed since the present attempt began."""
        return self._standing() != self._begun

    def another(self) -> bool:
        """After a failure: whether there is another attempt."""
        self._left -= not self.disturbed
        return self._left > 0
