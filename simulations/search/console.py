"""What sweeps and tuning look like in a terminal: a line per run, a table at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from wardround.server.display.console import number, shown_path
from wardround.simulations.search.combination import Combination
from wardround.simulations.search.sweep import SweepObserver
from wardround.simulations.search.tune import TuneObserver, TuneResult, ranked
from wardround.simulations.search.values import brief, label

if TYPE_CHECKING:
    from wardround.simulations.search.study import Trial

_BEST = 10


class SweepLines(SweepObserver):
    """One line per combination: which, k of n, result, seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def finished(self, combination: Combination, total: int, seconds: float | None) -> None:
        what = f"{label(combination.settings)} seed {combination.seed}".strip()
        took = "done before" if seconds is None else f"{seconds:.1f} s"
        line = f"{combination.number}/{total}  {what}  "
        if (found := combination.figures) is None:
            self._console.print(Text(f"{line}failed: {combination.reason}  {took}", style="red"))
            return
        splits = {"validation": found.validation, "test": found.test}
        known = [
            f"{part} {number(value, 4)}" for part, value in splits.items() if value is not None
        ]
        self._console.print(Text(f"{line}{found.primary} {', '.join(known) or '-'}  {took}"))


class TuneLines(TuneObserver):
    """One line per trial, without a figure on test rows: it would tempt to choose by it."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def finished(self, trial: Trial, total: int, seconds: float) -> None:
        line = f"{trial.number}/{total}  {label(trial.settings)}  "
        if trial.score is None:
            text = Text(f"{line}{_why(trial)}  {seconds:.1f} s", style="red")
        else:
            text = Text(f"{line}validation {number(trial.score, 4)}  {seconds:.1f} s")
        self._console.print(text)


def show_tuning(console: Console, result: TuneResult) -> None:
    """The best trials, the best one's figure on test rows, and how to run it."""
    plan, folder = result.plan, shown_path(result.folder)
    best = ranked(result.trials, plan.figure)
    table = Table(title=f"Best of {len(result.trials)} trials", title_justify="left")
    table.add_column("trial", justify="right")
    for key in plan.params:
        table.add_column(escape(key.replace(".", ".\n")))
    table.add_column(f"{plan.primary}\nvalidation", justify="right")
    table.add_column("round", justify="right")
    for one in best[:_BEST]:
        values = [escape(brief(value)) for value in one.settings.values()]
        table.add_row(str(one.number), *values, number(one.score, 4), str(one.round))
    console.print(table)
    if others := len(result.trials) - len(best):
        console.print(Text(f"{others} without a score: {folder}/trials.csv says why"))
    console.print(
        Text(
            f"{plan.primary} of trial {result.best.number} on test rows, which chose nothing: "
            f"{number(result.test, 4)}\n"
            f"run it: wardround simulate {folder}/best.toml"
        )
    )


def _why(trial: Trial) -> str:
    reason = trial.reason or ""
    return reason if trial.status == "pruned" else f"failed: {reason}"
