"""A sweep in rows: means and deviations over seeds, as a table on the terminal and as CSV.

The deviation is that of a sample (n - 1), absent for a single seed. A run that failed counts for
nothing but its number.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from wardround.common.durable.files import write_atomically
from wardround.common.figures.figure import Better, Figure
from wardround.common.run.traffic import human_bytes
from wardround.simulations.search.combination import Combination
from wardround.simulations.search.scored import changes_scored_rows
from wardround.simulations.search.values import shown

FIGURES = ("validation", "test", "epsilon", "size_bytes", "seconds")

_SPREAD = ("validation", "test", "epsilon")
"""Whose deviations the terminal has room for; the CSV file has all."""


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, and the sample's standard deviation; None where there is none."""

    mean: float | None = None
    deviation: float | None = None


@dataclass(frozen=True)
class Row:
    """One point of the grid. ``figures`` has a Spread for each of ``FIGURES``; ``bounds`` the
    largest error bound of its runs by split, where one matters."""

    settings: dict[str, Any]
    primary: str
    better: Better
    complete: int
    failed: int
    figures: dict[str, Spread]
    bounds: dict[str, float] = field(default_factory=dict)


def summarise(runs: Sequence[Combination]) -> Row:
    """The row of one point's runs."""
    done = [one.figures for one in runs if one.figures is not None]
    values = {name: [getattr(one, name) for one in done] for name in FIGURES}
    return Row(
        settings=runs[0].settings,
        primary=done[0].primary if done else "",
        better=done[0].better if done else "none",
        complete=len(done),
        failed=sum(one.status == "failed" for one in runs),
        figures={name: _spread(values[name]) for name in FIGURES},
        bounds={
            split: max(one.bounds.get(split, 0.0) for one in done)
            for split in sorted({split for one in done for split in one.bounds})
        },
    )


def best(rows: Sequence[Row]) -> Row | None:
    """The row with the best mean on validation rows; test rows never choose. None where rows were
    scored on other data than each other."""
    known = [row for row in rows if row.figures["validation"].mean is not None]
    if not known or len({row.primary for row in known}) > 1:
        return None
    for key in filter(changes_scored_rows, known[0].settings):
        if len({shown(row.settings[key]) for row in known}) > 1:
            return None
    figure = Figure(known[0].primary, known[0].better)
    return max(known, key=lambda row: figure.goodness(row.figures["validation"].mean or 0.0))


def primary_of(rows: Sequence[Row]) -> str:
    """The primary figure's name, if all rows have the same one."""
    names = {row.primary for row in rows if row.primary}
    return names.pop() if len(names) == 1 else "primary figure"


def result_table(rows: Sequence[Row]) -> Table:
    """One line per point; the best on validation rows is bold and starred."""
    primary, chosen = primary_of(rows), best(rows)
    columns: dict[str, tuple[str, Callable[[float], str]]] = {
        "validation": (f"{primary}\nvalidation", lambda x: f"{x:.3f}"),
        "test": (f"{primary}\ntest", lambda x: f"{x:.3f}"),
        "epsilon": ("epsilon", lambda x: f"{x:.3g}"),
        "size_bytes": ("bytes", human_bytes),
        "seconds": ("seconds", lambda x: f"{x:.2f}"),
    }
    known = [n for n in FIGURES if any(row.figures[n].mean is not None for row in rows)]
    title = "Mean ± standard deviation over seeds"
    if any(row.bounds for row in rows):
        title += "; in brackets how far score bins may be off"
    table = Table(title=title, title_justify="left")
    for key in rows[0].settings:
        table.add_column(escape(key.replace(".", ".\n")))
    table.add_column("runs", justify="right")
    for name in known:
        table.add_column(columns[name][0], justify="right")
    failed = any(row.failed for row in rows)
    if failed:
        table.add_column("failed", justify="right")
    for row in rows:
        cells = [escape(shown(value)) for value in row.settings.values()]
        cells.append(str(row.complete))
        for name in known:
            star = "*" if name == "validation" and row is chosen else ""
            spread = row.figures[name] if name in _SPREAD else Spread(row.figures[name].mean)
            bound = f" (±{row.bounds[name]:.3f})" if name in row.bounds else ""
            cells.append(_cell(spread, columns[name][1]) + bound + star)
        cells += [str(row.failed or "")] if failed else []
        table.add_row(*cells, style="bold" if row is chosen else "")
    return table


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """The rows, atomically; an empty cell where there is no figure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = list(rows[0].settings)
    spreads = [f"{name}_{part}" for name in FIGURES for part in ("mean", "std")]
    writer.writerow([*keys, "primary", "complete", "failed", *spreads])
    for row in rows:
        cells = [shown(row.settings[key]) for key in keys]
        numbers = [
            "" if value is None else repr(value)
            for name in FIGURES
            for value in (row.figures[name].mean, row.figures[name].deviation)
        ]
        writer.writerow([*cells, row.primary, row.complete, row.failed, *numbers])
    write_atomically(path, text.getvalue().encode())


def _spread(values: Sequence[float | None]) -> Spread:
    known = [float(value) for value in values if value is not None]
    if not known:
        return Spread()
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), deviation)


def _cell(spread: Spread, text: Callable[[float], str]) -> str:
    if spread.mean is None:
        return "-"
    if spread.deviation is None:
        return text(spread.mean)
    return f"{text(spread.mean)} ± {text(spread.deviation)}"
