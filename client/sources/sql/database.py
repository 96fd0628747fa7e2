"""A database within one transaction: what a source and ``doctor`` ask of it, whichever it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import pyarrow as pa

from wardround.client.sources.sql.address import Address
from wardround.client.sources.sql.query import Query
from wardround.common.errors import DataError


class Database(Protocol):
    """Open, in a transaction that only reads and sees one moment. All methods raise DataError in
    words of ours."""

    address: Address

    def rows(self, query: Query) -> Iterator[pa.RecordBatch]:
        """Of one statement, typed and streamed; one batch at least, so that columns are known."""

    def ask(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """A small answer to a statement of ours; each ``?`` is bound to one of ``values``."""

    def version(self) -> str:
        """What it is, such as 'PostgreSQL 15.4'."""

    def estimate(self, query: Query) -> tuple[int, bool]:
        """Rows of an answer, and whether the number is exact. Also finds what is wrong with the
        statement."""

    def may_write(self) -> tuple[str, str]:
        """What the user could change in it, and the mend; '' where nothing, as far as can be
        told."""


class Deadline:
    """Interrupts a statement from another thread, for databases without a timeout of their own."""

    def __init__(self, seconds: float, interrupt: Callable[[], object]) -> None:
        self.passed = False
        self._seconds, self._interrupt = seconds, interrupt

    @contextmanager
    def running(self) -> Iterator[None]:
        """For one statement."""
        timer = threading.Timer(self._seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self) -> None:
        self.passed = True
        self._interrupt()


def too_long(address: Address, seconds: float) -> DataError:
    """The error of a statement that was ended."""
    return DataError(
        f"the query took longer than {seconds:g} s and was ended",
        who=address.name,
        mend="raise its statement_timeout_s, or make the query faster",
    )


def distinct(names: Sequence[str], address: Address) -> list[str]:
    """The columns of an answer. Raises DataError for a name that two have, or none."""
    seen: set[str] = set()
    for number, name in enumerate(names, 1):
        if not name:
            raise DataError(
                f"column {number} of the answer has no name", who=address.name, mend="AS one"
            )
        if name in seen:
            raise DataError(
                f"two columns of the answer are called '{name:.100}'",
                who=address.name,
                mend="name each differently (AS)",
            )
        seen.add(name)
    if not names:
        raise DataError("the query has no answer of rows", who=address.name, mend="write a SELECT")
    return list(names)


def unfit(address: Address, column: str, kind: str) -> DataError:
    """The error of a column whose type no table here has."""
    return DataError(
        f"column '{column:.100}' is of type {kind:.60}, which isn't for a table here",
        who=address.name,
        mend="leave it out of the query, or cast it (CAST(... AS text))",
    )
