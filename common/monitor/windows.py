"""Which rows are looked at together: all, so many at a time, or those of a day, week or month."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.monitor.rows import cells_of
from wardround.common.tasks.data.table import Table

Every = Literal["day", "week", "month"]
_MOST = 10_000


@dataclass(frozen=True)
class Window:
    """Rows by position.

    name : for people: 'all rows', 'rows 1 to 200', '2026-11'
    """

    name: str
    rows: NDArray[np.int64]


def windows_of(
    raw: Any, total: int, size: int, column: str, every: Every
) -> tuple[list[Window], list[str]]:
    """By date where a column is named, else by size; and what to know of it. Raises DataError."""
    if not column:
        return by_size(total, size), []
    if size:
        raise DataError("--window and --by: give one of them, not both")
    windows, without = by_date(raw, column, every)
    return windows, [f"{without} rows have no date and are in no window"] if without else []


def by_size(total: int, size: int) -> list[Window]:
    """So many at a time, in the order of the files; the last may be smaller. ``size`` 0: all."""
    if size <= 0 or total <= size:
        return [Window("all rows", np.arange(total, dtype=np.int64))]
    starts = range(0, total, size)
    if len(starts) > _MOST:
        raise DataError(f"{len(starts):,} windows are too many: make them larger (--window)")
    return [
        Window(
            f"rows {start + 1} to {min(start + size, total)}",
            np.arange(start, min(start + size, total), dtype=np.int64),
        )
        for start in starts
    ]


def by_date(raw: Any, column: str, every: Every) -> tuple[list[Window], int]:
    """Those of each day, week or month that has some, in order, and how many rows have no date.

    Raises DataError for a column that isn't there, and by place for a cell that is no date
    (YYYY-MM-DD, whatever follows).
    """
    names, bad = _names(cells_of(raw, column), every)
    if len(bad):
        what = "no date of the form YYYY-MM-DD; mend the cell, or leave it empty"
        if isinstance(raw, Table):
            raise raw.wrong(bad, column, what)
        raise DataError(f"column '{column}', row {bad[0] + 1}: {what}")
    known = sorted(set(names) - {""})
    if not known:
        raise DataError(f"column '{column}' has no date", mend="name another with --by")
    if len(known) > _MOST:
        raise DataError(f"{len(known):,} windows are too many: use --every week or month")
    array = np.array(names, dtype=object)
    windows = [Window(name, np.flatnonzero(array == name).astype(np.int64)) for name in known]
    return windows, int((array == "").sum())


def _names(cells: Iterable[Any], every: Every) -> tuple[list[str], NDArray[np.int64]]:
    """Each row's window, '' without a date, and the rows whose cell is none."""
    found, bad, read = list[str](), list[int](), dict[str, str]()
    for row, cell in enumerate(cells):
        if cell is None:
            found.append("")
            continue
        text = str(cell)[:10]
        if text not in read:
            try:
                read[text] = _name(date.fromisoformat(text), every)
            except ValueError:
                read[text] = ""
                bad.append(row)
        found.append(read[text])
    return found, np.array(bad, dtype=np.int64)


def _name(day: date, every: Every) -> str:
    if every == "day":
        return day.isoformat()
    if every == "month":
        return f"{day:%Y-%m}"
    year, week, _ = day.isocalendar()
    return f"{year}-W{week:02}"
