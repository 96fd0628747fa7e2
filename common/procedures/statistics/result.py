"""What an analysis shows: tables, plots and notes, and everything of it as values.

What stands here is published as it is: an analysis has hidden by then what tells of few persons.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wardround.common.settings.analyses import file_stem

Cell = str | int | float | None
"""None: not defined. What is hidden is a text that says so."""
FEW = "few"
"""Instead of a count of fewer persons than the smallest cell."""


@dataclass(frozen=True)
class Sheet:
    """A table.

    name : of its file, after the analysis' own; '' for the only or first one
    title : above it; '' for none
    head : of the columns
    rows : cells, as many as the head
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    name: str = ""
    title: str = ""

    def csv(self) -> str:
        """As a file: numbers in full, nothing where none is defined."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(map(_safe, self.head))
        writer.writerows([_written(cell) for cell in row] for row in self.rows)
        return out.getvalue()


@dataclass(frozen=True)
class Told:
    """Whose answers they are, and what may be shown of them.

    least : smallest cell, in persons
    hospitals : how many are in the sums
    noise : standard deviation of the noise on each number; 0 without privacy
    """

    least: int
    hospitals: int
    noise: float = 0.0


@dataclass(frozen=True)
class Result:
    """Of one analysis.

    sheets : tables, most telling first
    plots : as ``plots.py`` draws them, by their ``type``
    notes : sentences: which rows count, what was left out, the method's paper or library
    values : figures by name beside the tables' cells, for programs
    """

    sheets: Sequence[Sheet] = ()
    plots: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    def stored(self) -> dict[str, Any]:
        """For ``statistics.json``."""
        return {
            "tables": [
                {
                    "name": one.name,
                    "title": one.title,
                    "head": list(one.head),
                    "rows": [[_finite(cell) for cell in row] for row in one.rows],
                }
                for one in self.sheets
            ],
            "plots": [dict(one) for one in self.plots],
            "notes": list(self.notes),
            "values": dict(self.values),
        }


def file_name(analysis: str, sheet: str, ending: str = ".csv") -> str:
    """Of a table's or plot's file; the sheet's name behind a low line, which no analysis' has."""
    return "_".join(file_stem(name) for name in (analysis, sheet) if name) + ending


def _written(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return ""
    return _safe(cell) if isinstance(cell, str) else repr(cell)


def _safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula (names come from others' files)."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _finite(cell: Cell) -> Cell:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell
