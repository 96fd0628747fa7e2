"""One line that says where a run is: in a notebook's cell, or on a terminal."""

from __future__ import annotations

import math
import sys
import time
from html import escape
from types import TracebackType
from typing import Any, TextIO

from wardround.common.figures.figure import Figure
from wardround.common.figures.records import model_figure
from wardround.common.text import one_line
from wardround.server.observer import Observer

_REDRAW_S = 0.1
_PLAIN_S = 2.0
_WIDTH = 100
_MOST_NOTES = 20


def shown_line(progress: bool | None, rounds: int, primary: Figure) -> Line | None:
    """The line for where this runs; None where nothing is to be shown.

    progress : False never shows it, True always; None where a person looks at what comes: in a
        notebook, or at a prompt
    """
    if progress is False:
        return None
    if (display := _notebook()) is not None:
        return Line(rounds, primary, InNotebook(display))
    at_prompt = hasattr(sys, "ps1") and sys.stderr.isatty()
    if progress or at_prompt:
        return Line(rounds, primary, OnTerminal(sys.stderr))
    return None


def _notebook() -> Any:
    """IPython's ``display`` where a kernel runs this; None elsewhere. Imports nothing."""
    shells = sys.modules.get("IPython")
    shell = shells.get_ipython() if shells is not None else None
    if shell is None or type(shell).__name__ != "ZMQInteractiveShell":
        return None
    from IPython.display import display

    return display


class OnTerminal:
    """Where a line is written over, with notes above it; plain lines where none can be."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._live, self._last = stream, stream.isatty(), ""
        self._printed = -math.inf

    def line(self, text: str) -> None:
        """Show the line; where none can change, one now and then."""
        self._last, now = text, time.monotonic()
        if self._live:
            print(f"\r\x1b[2K{text[:_WIDTH]}", end="", file=self._stream, flush=True)
        elif now - self._printed > _PLAIN_S:
            self._printed = now
            print(text, file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Show a note, which stays."""
        print(f"\r\x1b[2K{text}" if self._live else text, file=self._stream)
        if self._live:
            self.line(self._last)

    def end(self, text: str) -> None:
        """What stays."""
        print(f"\r\x1b[2K{text}" if self._live else text, file=self._stream, flush=True)


class InNotebook:
    """The output of a cell: one line, and the notes folded away below it."""

    def __init__(self, display: Any) -> None:
        self._display, self._handle = display, None
        self._text, self._notes = "", list[str]()

    def line(self, text: str) -> None:
        """Show the line."""
        self._text = text
        self._show()

    def note(self, text: str) -> None:
        """Add a note."""
        self._notes.append(text)
        self._show()

    def end(self, text: str) -> None:
        """What stays."""
        self.line(text)

    def _show(self) -> None:
        shown = {"text/html": self._html(), "text/plain": self._text}
        if self._handle is None:
            self._handle = self._display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)

    def _html(self) -> str:
        notes = "".join(f"<li>{escape(one)}</li>" for one in self._notes[:_MOST_NOTES])
        more = len(self._notes) - _MOST_NOTES
        notes += f"<li>and {more} more: result.notes</li>" if more > 0 else ""
        count = f"{len(self._notes)} note{'s' * (len(self._notes) != 1)}"
        below = f"<details><summary>{count}</summary><ul>{notes}</ul></details>" if notes else ""
        return f"<code>{escape(self._text)}</code>{below}"


class Line(Observer):
    """The line itself. Use as a context manager.

    rounds : that the run will have
    primary : the figure that is shown
    """

    def __init__(self, rounds: int, primary: Figure, place: OnTerminal | InNotebook) -> None:
        self._rounds, self._primary, self._place = rounds, primary, place
        self._started, self._drawn, self._reached = time.monotonic(), 0.0, ""

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._reached:
            self._place.end(self._timed(self._reached))

    # --- Observer --------------------------------------------------------------------------
    def begins(self, lines: list[str]) -> None:
        self.warnings(lines)

    def progress(self, text: str) -> None:
        self._show(text, now=True)

    def warnings(self, lines: list[str]) -> None:
        for line in lines:
            self._place.note(one_line(line, limit=2000))

    def round_started(self, server_round: int, cohort: list[str], attempt: int) -> None:
        again = f", attempt {attempt}" if attempt > 1 else ""
        self._show(f"round {server_round}/{self._rounds}{again}: {len(cohort)} hospitals")

    def round_failed(self, server_round: int, attempt: int, reason: str) -> None:
        what = f"round {server_round}" if server_round else "data preparation"
        self._place.note(f"{what}, attempt {attempt} failed: {reason}")

    def replied(self, hospital: str, step: str, reason: str | None) -> None:
        if reason:
            self._place.note(f"{hospital} refused ({step}): {reason}")

    def round_committed(self, row: dict[str, Any]) -> None:
        split = "test" if row["overall"].get("test") else "validation"
        value = model_figure(row, split, self._primary) if row["overall"].get(split) else None
        figure = f"  {split} {self._primary.name} {value:.4f}" if value is not None else ""
        self._reached = f"round {row['round']}/{self._rounds}{figure}"
        self._show(self._reached)

    def _show(self, text: str, now: bool = False) -> None:
        seconds = time.monotonic()
        if now or seconds - self._drawn > _REDRAW_S:
            self._drawn = seconds
            self._place.line(self._timed(text))

    def _timed(self, text: str) -> str:
        return f"{text}  ({time.monotonic() - self._started:.0f} s)"
