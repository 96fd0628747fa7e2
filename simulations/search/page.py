"""``sweep.html``: a sweep as one page that opens offline: figures over the swept values, and words.

The first axis is the swept number with the most values; every other setting is a line of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wardround.common.figures.figure import is_number
from wardround.common.run.report.page import number, write_figures
from wardround.common.run.report.plots import PALETTE, Figure
from wardround.simulations.search.summary import Row, Spread, best, primary_of
from wardround.simulations.search.values import Settings, label, overrides, shown

_DASHES = ("solid", "dash", "dot", "dashdot")
_WIDE = 20
"""From this ratio of largest to smallest value on, an axis is logarithmic."""
CHOOSE = (
    "Choose by validation rows. A figure on test rows is an honest estimate only of a setting that "
    "was not chosen by it."
)


def write_page(rows: Sequence[Row], title: str, path: Path) -> None:
    """Write the page, atomically."""
    primary = primary_of(rows)
    figures: dict[str, Figure] = {}
    for split in ("validation", "test"):
        if any(row.figures[split].mean is not None for row in rows):
            figures[f"{primary} on {split} rows"] = grid_figure(rows, split, primary)
    if any(row.figures["epsilon"].mean is not None for row in rows):
        figures["Epsilon spent"] = grid_figure(rows, "epsilon", "epsilon")
    sections = {"Results": [_line(row) for row in rows], "Notes": _notes(rows)}
    write_figures(figures, title, path, sections)


def grid_figure(rows: Sequence[Row], name: str, title: str) -> Figure:
    """Means (bars: standard deviation over seeds) over the first axis, a line per other setting."""
    axis = _axis(rows)
    numeric = axis is not None and all(_is_plain_number(row.settings[axis]) for row in rows)
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(" ".join(overrides(_without(row.settings, axis))), []).append(row)
    traces = []
    for index, points in enumerate(lines.values()):
        line = label(_without(points[0].settings, axis)) or primary_of(rows)
        if numeric:
            points = sorted(points, key=lambda row: float(row.settings[axis or ""]))
        values = [row.settings[axis] if axis else "as configured" for row in points]
        x = values if numeric else [shown(value) for value in values]
        traces.append(_trace(index, line, x, [row.figures[name] for row in points]))
    xaxis: dict[str, Any] = {"title": {"text": axis or ""}, "automargin": True}
    xaxis["type"] = _scale([row.settings[axis or ""] for row in rows]) if numeric else "category"
    layout = {
        "margin": {"l": 56, "r": 12, "t": 12, "b": 44},
        "xaxis": xaxis,
        "yaxis": {"title": {"text": title}, "automargin": True},
        "legend": {"orientation": "h", "y": -0.22},
        "height": 420,
        "showlegend": len(traces) > 1,
    }
    return {"data": traces, "layout": layout}


def _trace(index: int, name: str, x: list[Any], spreads: Sequence[Spread]) -> dict[str, Any]:
    color = PALETTE[index % len(PALETTE)]
    dash = _DASHES[index // len(PALETTE) % len(_DASHES)]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": x,
        "y": [one.mean for one in spreads],
        "error_y": {"type": "data", "array": [one.deviation or 0.0 for one in spreads]},
        "line": {"color": color, "dash": dash, "width": 1.5},
    }


def _without(settings: Settings, axis: str | None) -> Settings:
    return {key: value for key, value in settings.items() if key != axis}


def _axis(rows: Sequence[Row]) -> str | None:
    """The numeric key with the most values, or else any key with the most."""
    counts = {key: len({shown(row.settings[key]) for row in rows}) for key in rows[0].settings}
    numeric = [k for k in counts if all(_is_plain_number(row.settings[k]) for row in rows)]
    several = [key for key in numeric if counts[key] > 1]
    return max(several or list(counts), key=lambda key: counts[key], default=None)


def _scale(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return "log" if low > 0 and high / low >= _WIDE else "linear"


def _is_plain_number(value: Any) -> bool:
    return is_number(value) and not isinstance(value, bool)


def _line(row: Row) -> str:
    parts = [f"{name} {_words(row.figures[name])}" for name in ("validation", "test")]
    if row.figures["epsilon"].mean is not None:
        parts.append(f"epsilon {row.figures['epsilon'].mean:.3g}")
    failed = f"; {row.failed} failed" if row.failed else ""
    runs = f"{row.complete} run{'s' if row.complete != 1 else ''}{failed}"
    return f"{label(row.settings) or 'as configured'}: {', '.join(parts)} ({runs})"


def _words(spread: Spread) -> str:
    text = number(spread.mean)
    return text if spread.deviation is None else f"{text} ± {number(spread.deviation)}"


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = [CHOOSE, "Bars, and ±, are the standard deviation over seeds."]
    if (chosen := best(rows)) is not None and chosen.settings:
        notes.insert(0, f"Best on validation rows: {label(chosen.settings)}.")
    return notes
