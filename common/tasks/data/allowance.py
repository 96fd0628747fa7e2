"""How much of its data a hospital lets be left out because it can't be read, and the list of it.

``left_out_share`` of ``[data.NAME]`` is the hospital's; where it says nothing a reader has a share
of its own. Whoever loads data says it around the call (``allowing``), so that tasks needn't know of
it. What is left out is listed in the hospital's own log, each by its place and without a cell; only
the count may be told. Beyond the share all of it is refused, in one error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from wardround.common.errors import DataError
from wardround.common.tasks.data.left_out import LeftOut

log = logging.getLogger("wardround.data")
OF_TABLES, OF_IMAGE_FILES = 0.0, 0.01
"""Where a hospital says nothing."""
REASON = "they can't be read; this hospital's log lists them"
_SHOWN = 20

_SHARE: ContextVar[float | None] = ContextVar("left_out_share", default=None)


@contextmanager
def allowing(share: float | None) -> Iterator[None]:
    """So much may be left out of what is read within; None: as each reader has it."""
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)


def allowed(otherwise: float) -> float:
    """The share that may be left out here; ``otherwise`` where nobody has said."""
    share = _SHARE.get()
    return otherwise if share is None else share


class Unread:
    """Items of one shard that can't be read, until it is known of how many.

    what : in the plural: rows, images
    share : of all items, that may be left out
    """

    def __init__(self, what: str, share: float) -> None:
        self._what, self._share = what, share
        self._problems: list[str] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, *problems: str) -> None:
        """An item, with one line ('place: what; mend') for each of its problems."""
        self._count += 1
        self._problems += problems

    def left_out(self, total: int) -> LeftOut:
        """The count of them, each listed in the log. Raises DataError where they are more than the
        share of ``total``; as the reader itself would where it is one problem alone."""
        if self._count > self._share * total:
            raise DataError(self._refused(total))
        for problem in self._problems:
            log.warning("left out: %s", problem)
        return LeftOut(self._count, self._what, REASON)

    def _refused(self, total: int) -> str:
        if len(self._problems) == 1:
            return self._problems[0]
        more = len(self._problems) - _SHOWN
        shown = " | ".join(self._problems[:_SHOWN]) + (f" | and {more} more" if more > 0 else "")
        return (
            f"{self._count} of {total} {self._what} can't be read, and left_out_share is "
            f"{100 * self._share:g} %: {shown}"
        )
