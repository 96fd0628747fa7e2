"""Every problem of a file in one error, each with place and mend: up to twenty, then a count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from wardround.common.errors import DataError

MOST_SHOWN = 20
MOST_LINES = 5


class Problems:
    """What is wrong with a file, collected; ``check`` raises it all at once.

    One problem reads as it always did; several are numbered lines under a count.
    """

    def __init__(self, file: object) -> None:
        self._file, self._found = str(file), list[str]()
        self._told = dict[str, None]()
        self._more = 0

    def add(self, problem: str, told: str = "") -> None:
        """A problem: place, what is wrong, mend, in one line; ``told`` as an error has it."""
        if told:
            self._told[told] = None
        if problem in self._found:
            return
        if len(self._found) < MOST_SHOWN:
            self._found.append(problem)
        else:
            self._more += 1

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Adds what a DataError within says, and goes on behind."""
        try:
            yield
        except DataError as error:
            self.add(str(error), error.told)

    def check(self) -> None:
        """Raise DataError with all that was added; nothing where nothing was."""
        if self._found:
            raise DataError(self._text(), told="; ".join(list(self._told)[:MOST_LINES]))

    def _text(self) -> str:
        if len(self._found) == 1 and not self._more:
            return self._found[0]
        lines = [f"{self._file}: {len(self._found) + self._more} problems"]
        lines += [f"  {number}. {text}" for number, text in enumerate(self._found, start=1)]
        return "\n".join([*lines, *([f"  and {self._more} more"] if self._more else [])])


def numbered(lines: Sequence[int], more: int) -> str:
    """Further lines for a message: ' (also lines 7, 9 and 12 more)', '' for none."""
    if not lines:
        return ""
    shown = ", ".join(str(line) for line in lines)
    rest = f" and {more} more" if more else ""
    return f" (also line{'s' if len(lines) > 1 or more else ''} {shown}{rest})"
