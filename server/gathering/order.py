"""What comes from hospitals in any order, handed on in a fixed one."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import Generic, TypeVar

MOST_HELD_BYTES = 256 << 20

T = TypeVar("T")


class InOrder(Generic[T]):
    """Hands on what came from each of ``names`` in their order, as soon as all before it are here.

    What waits is kept, so it should lie on a disk where it is large. If it takes over
    ``MOST_HELD_BYTES`` of memory, all that is here is handed on: then the order is that of arrival.

    >>> order = InOrder[int](["east", "north", "south"])
    >>> order.put("north", 2), order.put("east", 1), order.put("south", None)
    ([], [1, 2], [])
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._order = list(names)
        self._waiting: dict[str, tuple[T | None, int]] = {}

    def put(self, name: str, item: T | None, memory_bytes: int = 0) -> list[T]:
        """Take what came from one (None: nothing will come), and give what is next, if anything.
        Each name comes once; one that never comes holds back all behind it.

        memory_bytes : what the item keeps occupied
        """
        self._waiting[name] = item, memory_bytes
        if sum(size for _, size in self._waiting.values()) > MOST_HELD_BYTES:
            ready = [one for one in self._order if one in self._waiting]
        else:
            ready = list(takewhile(self._waiting.__contains__, self._order))
        items = [self._waiting.pop(one)[0] for one in ready]
        self._order = [one for one in self._order if one not in ready]
        return [one for one in items if one is not None]
