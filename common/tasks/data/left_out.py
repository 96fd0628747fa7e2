"""What a reader left out of what it was given, by reason and count.

Reading data returns this beside what was read (``Task.left_out``), and ``Hospital.warnings`` is the
one place that says it, at the hospital. So whatever a reader passes over it must count: a method
that drops something asks for the reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class LeftOut:
    """So many of something, left out for one reason.

    what : in the plural: rows, images, files, columns, texts, ...
    reason : completes 'N rows were left out: ...'; quotes no cell and no file's name
    """

    count: int
    what: str
    reason: str

    def __str__(self) -> str:
        one = self.count == 1
        first, *rest = self.what.split(" ")
        what = " ".join([first.removesuffix("s") if one else first, *rest])
        return f"{self.count} {what} {'was' if one else 'were'} left out: {self.reason}"


def added(parts: Iterable[LeftOut]) -> tuple[LeftOut, ...]:
    """Counts of one reason added up, in the order of their first appearance; zeros vanish."""
    counts: dict[tuple[str, str], int] = {}
    for part in parts:
        key = (part.what, part.reason)
        counts[key] = counts.get(key, 0) + part.count
    return tuple(LeftOut(count, *key) for key, count in counts.items() if count)
