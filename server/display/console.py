"""What a run looks like in a terminal: a live table, or plain lines, and one table at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from wardround.common.figures.compared import compared, intervals, mean_over, same_hospitals
from wardround.common.figures.figure import BOUND_SENTENCE, MEAN, Figure, is_number, with_bound
from wardround.common.figures.noised import NOT_MEASURABLE
from wardround.common.figures.records import model_bound, model_figure
from wardround.common.run.report.grouping import hospitals_of
from wardround.common.run.traffic import human_bytes
from wardround.server.members.member import Member
from wardround.server.observer import Observer

_ROWS = 12
_MUCH_CLIPPED = 0.01
_REDRAW_S = 0.1  # a thousand quick clients must not wait for the display

_SIZES = {
    "none": ", {} rows to train on",
    "example": ", about {} rows to train on, as announced with noise",
    "patient": ", about {} patients to train on, as announced with noise",
    "hospital": "; how many rows they train on isn't announced",
}


class Progress(Observer):
    """Shows a run as it happens. Use as a context manager.

    unit : what privacy protects (``privacy.unit``), which shapes the sizes that are announced
    """

    def __init__(self, console: Console, rounds: int, primary: Figure, unit: str = "none") -> None:
        self._console, self._rounds, self._primary = console, rounds, primary
        self._unit = unit
        self._rows: list[dict[str, Any]] = []
        self._status = ""
        self._started = time.monotonic()
        self._done = 0
        self._told_coarse = False
        self._drawn = 0.0
        live = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, refresh_per_second=8, transient=True) if live else None

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()
            if self._rows:
                self._console.print(self._table())

    # --- Observer --------------------------------------------------------------------------
    def begins(self, lines: list[str]) -> None:
        for line in lines:
            self._print(line)

    def progress(self, text: str) -> None:
        self._say(text)

    def members(self, members: list[Member], refused: list[dict[str, str]]) -> None:
        count = sum(member.sizes["train"] for member in members)
        rows = _SIZES[self._unit].format(count)
        rest = [member.name for member in members if not member.trains]
        only = f"; in evaluations only: {', '.join(rest)}" if rest else ""
        self._print(f"{len(members)} hospitals{rows}{only}")
        self.warnings([line for member in members for line in member.warnings])
        for row in refused:
            self._print(f"{row['hospital']} can't take part: {row['reason']}", "red")

    def population(self, clients: int, sizes: Mapping[str, int] | None) -> None:
        each = f", each with {sizes['train']} rows to train on" if sizes else ""
        self._print(f"{clients} virtual clients{each}")

    def warnings(self, lines: list[str]) -> None:
        for line in lines:
            self._print(f"note: {line}", "yellow")

    def round_started(self, server_round: int, cohort: list[str], attempt: int) -> None:
        self._done = 0
        again = f", attempt {attempt}" if attempt > 1 else ""
        self._status = f"round {server_round} of {self._rounds}{again}"
        self._refresh(f"{self._status}: {len(cohort)} hospitals")

    def replied(self, hospital: str, step: str, reason: str | None) -> None:
        self._done += step in ("train", "evaluate")
        if reason:
            where = self._status or "set-up"
            self._print(f"{where}: {hospital} refused ({step}): {reason}", "red")
        self._refresh(f"{self._status}: {self._done} replies")

    def round_failed(self, server_round: int, attempt: int, reason: str) -> None:
        what = f"round {server_round}" if server_round else "data preparation"
        self._print(f"{what}, attempt {attempt} failed: {reason}", "red")

    def round_evaluated(self, row: dict[str, Any]) -> None:
        self._rows = self._rows[:-1]
        self._show_row(row)

    def round_committed(self, row: dict[str, Any]) -> None:
        self._show_row(row)
        if (clipped := row.get("clipped")) and clipped > _MUCH_CLIPPED:
            self._print(
                f"note: round {row['round']}: {clipped:.1%} of the updates' coordinates were "
                "clipped; raise secure_aggregation.clip or lower training.lr",
                "yellow",
            )
        if (found := row.get("resolution")) is not None and found < 1 and not self._told_coarse:
            self._told_coarse = True
            self._print(
                f"note: round {row['round']}: the update is smaller than its rounding in secure "
                "aggregation, so the model moves by chance; lower secure_aggregation.clip, to some "
                "times the largest change of a weight in a round, or set bits = 32",
                "yellow",
            )

    # --- drawing -----------------------------------------------------------------------------
    def _show_row(self, row: dict[str, Any]) -> None:
        self._rows.append(self._cells(row))
        if self._live is None:
            self._console.print("  ".join(f"{k} {v}" for k, v in self._rows[-1].items()))
        self._refresh(self._status)

    def _cells(self, row: dict[str, Any]) -> dict[str, str]:
        split = "test" if row["overall"].get("test") else "validation"
        figures = row["overall"].get(split) or {}
        cells = {
            "round": f"{row['round']}/{self._rounds}",
            "hospitals": hospitals_of(row),
        }
        claims = row.get("privacy") or {}
        if claims:
            spent = [claim["epsilon"] for claim in claims.values()]
            cells["epsilon"] = number(max(spent, key=lambda e: -1.0 if e is None else e))
        else:
            cells["train loss"] = number(row["train_loss"], 4)
        cells["loss"] = number(figures.get("loss"), 4)
        if self._primary.name != "loss":
            value = model_figure(row, split, self._primary)
            bound = model_bound(row, split, self._primary)
            text = with_bound(number(value, 4), bound)
            cells[self._primary.name] = with_span(text, row, split, self._primary.name)
        size = row["bytes_down"] + row["bytes_up"]
        return cells | {"bytes": human_bytes(size), "seconds": f"{row['seconds']['total']:.2f}"}

    def _table(self, caption: str | None = None) -> Table:
        table = Table(caption=caption, caption_justify="left", title_justify="left")
        for name in self._rows[-1] if self._rows else ["round"]:
            table.add_column(name, justify="right")
        for cells in self._rows[-_ROWS:]:
            table.add_row(*cells.values())
        return table

    def _refresh(self, caption: str) -> None:
        now = time.monotonic()
        if self._live and now - self._drawn > _REDRAW_S:
            self._drawn = now
            seconds = now - self._started
            self._live.update(self._table(f"{caption}  ({seconds:.0f} s)"))

    def _say(self, text: str) -> None:
        if self._live:
            self._refresh(text)
        else:
            self._print(text)

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style))


def comparison_table(comparison: list[dict[str, Any]], figure: Figure) -> Table:
    """Local, federated and pooled figures per hospital; what is best beyond chance is bold and
    starred.

    Error bounds stand beside figures where they matter, and below them how far the mean may be off.
    """
    kinds = [kind for kind in ("local", "federated", "pooled") if kind in comparison[0]]
    table = Table(title=f"{figure.name} on test rows", title_justify="left")
    table.add_column("hospital")
    for kind in kinds:
        table.add_column(kind, justify="right")
    bounded = False
    for index, row in enumerate(comparison):
        found = compared(row, kinds, figure, number, comparison)
        if row["hospital"] == MEAN and not same_hospitals(comparison, kinds, figure):
            found = [(text, False) for text, _ in found]
        bounded |= any("±" in text for text, _ in found)
        cells = [f"[bold]{text}*[/bold]" if star else f"{text} " for text, star in found]
        name = figure.name_of(row.get("title", row["hospital"]))
        table.add_row(escape(name), *cells)
        if index == len(comparison) - 3:
            table.add_section()
    notes = [BOUND_SENTENCE] if bounded else []
    if spans := intervals(comparison, kinds, figure):
        notes.insert(0, f"95 % interval of the mean over hospitals: {spans}")
    if over := mean_over(comparison, kinds, figure):
        notes.insert(0, over)
    table.caption, table.caption_justify = "\n".join(notes) or None, "left"
    return table


def number(value: Any, digits: int = 3) -> str:
    """A figure for a table cell; '-' where it is undefined."""
    return f"{value:.{digits}f}" if is_number(value) else "-"


def with_span(text: str, row: dict[str, Any], split: str, name: str) -> str:
    """A figure's text; one with noise has its interval, or is said not to be measurable."""
    if row.get("intervals") is None or name not in row["overall"].get(split, {}):
        return text
    span = row["intervals"].get(split, {}).get(name)
    return f"{text} ({span[0]:.2f} to {span[1]:.2f})" if span else NOT_MEASURABLE


def shown_path(path: Path) -> str:
    """A path as short as it can be typed from here."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
