"""What the terminal says of sizes and error bounds is what they are."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from wardround.common.figures.figure import Figure
from wardround.server.display.console import Progress, comparison_table
from wardround.server.members.member import Member

AUC = Figure("auc", "higher", bound="auc_error_bound")


def member(name: str, train: int) -> Member:
    return Member(name, 1, {"train": train, "validation": 0, "test": 9})


@pytest.mark.parametrize(
    ("unit", "says"),
    [
        ("none", "2 hospitals, 9 rows to train on"),
        ("example", "2 hospitals, about 9 rows to train on, as announced with noise"),
        ("patient", "2 hospitals, about 9 patients to train on, as announced with noise"),
        ("hospital", "2 hospitals; how many rows they train on isn't announced"),
    ],
)
def test_sizes_are_what_was_announced(unit: str, says: str) -> None:
    told = io.StringIO()
    progress = Progress(Console(file=told, width=200), 1, AUC, unit)
    progress.members([member("a", 5), member("b", 4)], [])
    assert told.getvalue().strip() == says


@pytest.mark.parametrize(("bound", "told"), [(0.02, True), (0.0, False)])
def test_an_error_bound_is_explained_where_it_is_shown(bound: float, told: bool) -> None:
    shown = io.StringIO()
    figures = {"auc": 0.7, "auc_error_bound": bound}
    rows = [{"hospital": name, "federated": figures} for name in ("a", "mean", "overall")]
    Console(file=shown, width=200).print(comparison_table(rows, AUC))
    text = shown.getvalue()
    assert ("0.700 ±0.020" in text, "± is how far" in text) == (told, told)
