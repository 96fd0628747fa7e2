"""What is said in the log once, and again only when it changes."""

from __future__ import annotations

import threading

MOST = 1000
"""Places that are remembered; the one that was looked at longest ago is forgotten first."""


class Said:
    """The last line of each place; of several threads."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}
        self._turn = threading.Lock()

    def is_new(self, place: str, line: str) -> bool:
        """Whether this isn't what was said last at a place; it is from now on."""
        with self._turn:
            before = self._lines.pop(place, None)
            self._lines[place] = line
            while len(self._lines) > MOST:
                self._lines.pop(next(iter(self._lines)))
            return before != line

    def forget(self, place: str) -> None:
        """What was said there holds no more: the next line is new, whatever it says."""
        with self._turn:
            self._lines.pop(place, None)
