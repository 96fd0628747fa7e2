"""Studies as tables: of a terminal, and of a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from wardround.common.study import frames as f
from wardround.common.text import one_line

HEADINGS = ("id", "study", "submitted", "researcher", "state", "hospitals")
_SHORT = 40
"""Characters of a reason in a table; ``study show`` has all of it."""
_STYLES = {
    "complete": "green",
    "running": "cyan",
    "failed": "red",
    "aborted": "red",
    "expired": "red",
}


def clock(seconds: float) -> str:
    """A time of the database's clock, for people."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def standing(line: f.Line, most: int = 200) -> str:
    """Where a study stands, in a few words; of a reason so many characters."""
    if line.state in ("submitted", "waiting") and line.waiting_for:
        return f"waiting for {', '.join(line.waiting_for)}"
    if line.state == "waiting":
        return "waiting: too few hospitals have accepted"
    if line.state == "running" and line.rounds:
        return f"running, round {line.round} of {line.rounds}"
    reason = f": {one_line(line.reason, most)}" if line.reason else ""
    return f"{line.state}{reason}"


def cells(line: f.Line) -> tuple[str, ...]:
    """A row under ``HEADINGS``."""
    return (
        line.id[:12],
        line.name,
        clock(line.submitted)[:10],
        line.researcher,
        standing(line, _SHORT),
        ", ".join(line.hospitals),
    )


def table(lines: Sequence[f.Line]) -> Table:
    """A terminal's."""
    shown = Table(box=None, header_style="bold underline")
    for heading in HEADINGS:
        fixed = heading in ("id", "researcher", "submitted")
        shown.add_column(heading, overflow="fold", no_wrap=fixed)
    for line in lines:
        style = _STYLES.get(line.state, "")
        row = [Text(cell) for cell in cells(line)]
        row[4].stylize(style)
        shown.add_row(*row)
    return shown


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A notebook's."""
    head = "".join(f"<th>{html.escape(one)}</th>" for one in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f"<table>{top}<tbody>{body}</tbody></table>"
