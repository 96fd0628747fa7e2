"""What a hospital's own figures of a study are, as ``own/figures.json`` has them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wardround.common.durable.versioned import Format
from wardround.common.errors import ResultsRefused

Figures = dict[str, float | None]
"""By name; None where one is undefined."""
OWN, FIGURES, REPORT = "own", "figures.json", "report.html"


def _with_curves(values: Any) -> dict[str, Any]:
    """Version 2 has intervals and curves."""
    return {**values, "intervals": {}, "curves": {}}


FORMAT = Format(
    "own figures",
    "remove the folder 'own': it is made of what else lies there",
    upgrades=(_with_curves,),
)


@dataclass(frozen=True)
class OwnFigures:
    """What this hospital's rows say of the model.

    rows : this hospital's, by split
    all_rows : of all hospitals together, as they announced them; empty where that isn't told
    figures : by split
    federation : by split, then 'mean' (of hospitals) and 'overall' (all rows together)
    notes : sentences: what couldn't be had, and why
    intervals : of this hospital's figures, by split and name: [low, high]
    curves : what ``page.py`` draws, by split: this hospital's score groups, of two classes only
        (``common/figures/curves.py``)
    """

    study: str
    run: str
    hospital: str
    round: int
    primary: str
    rows: dict[str, int]
    all_rows: dict[str, int]
    figures: dict[str, Figures]
    federation: dict[str, dict[str, Figures]]
    notes: list[str] = field(default_factory=list)
    intervals: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)


def read_own(folder: Path) -> OwnFigures:
    """What ``own/figures.json`` says. Raises ResultsRefused."""
    path = folder / OWN / FIGURES
    try:
        stored = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        raise ResultsRefused("can't be read", who=str(path), mend=FORMAT.mend) from None
    return FORMAT.make(OwnFigures, stored, ResultsRefused, str(path))


def share(found: OwnFigures, split: str) -> float:
    """This hospital's share of all rows of a split; NaN where that isn't known."""
    total = found.all_rows.get(split, 0)
    return found.rows.get(split, 0) / total if total else math.nan
