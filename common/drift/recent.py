"""Counts of rows as they come to a model that is served: of all since it began, and in windows.

A window that is full is compared with the reference and forgotten but for what was found. No row
outlives the call that brings it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from wardround.common.drift.compare import Finding, compare
from wardround.common.drift.counts import Columns, Counts, none_of
from wardround.common.drift.field import Field

WINDOW = 200
"""Rows of a window: enough for what ``docs/monitoring.md`` lists, and few enough to be soon."""


@dataclass(frozen=True)
class Recently:
    """What is known now.

    counts : of all rows since the start
    findings : of the last full window; empty before there is one, or without a reference
    windows : how many were full
    """

    counts: Counts
    findings: tuple[Finding, ...]
    windows: int


class Recent:
    """May be used by several threads.

    reference : None: rows are counted, and compared with nothing
    window : rows of one
    """

    def __init__(
        self, fields: Sequence[Field], reference: Counts | None = None, window: int = WINDOW
    ) -> None:
        self._fields, self._reference, self._size = tuple(fields), reference, window
        self._all = self._now = none_of(fields)
        self._findings: tuple[Finding, ...] = ()
        self._windows, self._lock = 0, Lock()

    def add(self, columns: Columns) -> None:
        """Count the rows of a request, by ``Field.key``; of fields that it lacks none."""
        counts = Counts.of(self._fields, columns)
        with self._lock:
            self._all, self._now = self._all + counts, self._now + counts
            if self._now.rows() < self._size:
                return
            if self._reference is not None:
                self._findings = tuple(compare(self._reference, self._now))
            self._now, self._windows = none_of(self._fields), self._windows + 1

    def state(self) -> Recently:
        """What is known now."""
        with self._lock:
            return Recently(self._all, self._findings, self._windows)
