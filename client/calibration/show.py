"""A calibration in words and a table, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from wardround.client.calibration.calibrate import Calibrated
from wardround.common.calibration.compared import Figure
from wardround.common.calibration.correction import ISOTONIC
from wardround.common.text import one_line

_WORDS = {
    "brier": "Brier score",
    "log_loss": "log loss",
    "in_the_large": "outcome minus prediction, mean",
    "slope": "calibration slope",
    "calibration_error": "calibration error",
    "auc": "AUC",
    "c_index": "c-index",
    "accuracy": "accuracy",
    "rmse": "RMSE",
}
_NONE = "–"


def lines_of(found: Calibrated) -> Iterator[str]:
    """What it is, its thresholds, its notes, a line each."""
    made = found.calibration
    yield one_line(f"{made.run}: {_how(found)}, by {made.rows:,} rows")
    for one in made.thresholds:
        shown = ", ".join(f"{name} {number(value)}" for name, value in one["figures"].items())
        yield one_line(f"threshold {one['rule']}: {one['threshold']:.3g} ({shown})", 1000)
    yield from made.notes


def figure_rows(found: Calibrated) -> Table:
    """Before and after, each figure with its interval."""
    table = Table("on rows that it didn't see", "before", "after", box=None)
    for name, before in found.before.items():
        table.add_row(_WORDS.get(name, name), number(before), number(found.after[name]))
    if found.gain is not None:
        table.add_row("squared error falls by", "", number(found.gain))
    return table


def number(figure: Figure | list[Any]) -> str:
    """A figure, with its interval where it has one.

    >>> number([0.25, 0.2, 0.31]), number([None, None, None])
    ('0.250 [0.200, 0.310]', '–')
    """
    value, low, high = figure
    if value is None:
        return _NONE
    return f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")


def _how(found: Calibrated) -> str:
    made = found.calibration
    if made.method == ISOTONIC:
        return f"a curve of {len(made.knots)} points"
    if made.kind == "multiclass":
        return f"temperature {1 / made.slope:.3f}"
    if made.kind == "survival":
        return f"slope {made.slope:.3f}"
    return f"intercept {made.intercept:.3f}, slope {made.slope:.3f}"
