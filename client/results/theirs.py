"""What the server's package says of all hospitals: read as a stranger's, and for numbers only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wardround.client.results.figures import Figures
from wardround.common.errors import RunDirectoryError
from wardround.common.figures.curves import Groups
from wardround.common.figures.figure import MEAN, OVERALL, is_number
from wardround.common.figures.records import evaluation_of, model_rows
from wardround.common.protocol.names import HELD_OUT, SPLITS
from wardround.common.run.curves import curves_of
from wardround.common.run.directory import RunDirectory
from wardround.common.text import one_line

_MOST_ROWS = 2**53
_MOST_POINTS = 2000


def plain(figures: Mapping[str, Any]) -> Figures:
    """Finite numbers, None for all others."""
    return {str(k): float(v) if is_number(v) else None for k, v in figures.items()}


@dataclass(frozen=True)
class Theirs:
    """Of all hospitals together.

    round : whose model it is
    rows : as they announced them, by split; empty where that isn't told
    figures : by split, then 'mean' (of hospitals) and 'overall' (all rows together)
    curves : score groups of all hospitals' rows together, of two classes, by split
    purpose : what the study is for, in its researcher's words; '' where that isn't told
    """

    round: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    figures: dict[str, dict[str, Figures]] = field(default_factory=dict)
    purpose: str = ""
    curves: dict[str, Groups] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Theirs:
        """Of the files in a results folder; what can't be read says nothing."""
        run = RunDirectory(folder)
        try:
            summary, rounds = run.summary(), run.rounds()
            chosen = int(summary.get("chosen_round", 0))
            evaluation = evaluation_of(rounds, chosen)
            figures = {}
            for split in HELD_OUT:
                rows = {row["hospital"]: row["federated"] for row in model_rows(evaluation, split)}
                if rows:
                    figures[split] = {name: plain(rows[name]) for name in (MEAN, OVERALL)}
            told = summary.get("rows", {})
            counts = {split: told[split] for split in SPLITS if _is_count(told.get(split))}
            purpose = one_line(str(summary.get("purpose") or " "), 2000)
            return cls(chosen, counts, figures, purpose, _curves(folder, figures))
        except (OSError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return cls()


def _curves(folder: Path, figures: Mapping[str, Any]) -> dict[str, Groups]:
    """Those that can be drawn; what can't be read says nothing."""
    try:
        curves = curves_of(folder, figures)
    except RunDirectoryError:
        return {}
    found = {split: one.groups[""] for split, one in curves.items() if "" in one.groups}
    return {split: one for split, one in found.items() if len(one.low) <= _MOST_POINTS}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_ROWS
