"""What a card says beside the run's own facts: groups by the judgement, thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wardround.common.calibration.thresholds import read_thresholds
from wardround.common.card.items import FIGURES, GROUPS
from wardround.common.judgement.words import judged_notes, judged_tables, read_judgement

_JUDGEMENT = "judgement.json"


def card_notes(folder: Path) -> dict[str, list[str]]:
    """Lines by heading, of what lies in a model folder. Raises ModelRefused."""
    found = {GROUPS: _groups(folder / _JUDGEMENT), FIGURES: _thresholds(folder)}
    return {heading: lines for heading, lines in found.items() if lines}


def _groups(path: Path) -> list[str]:
    judged = read_judgement(path)
    if judged is None:
        return []
    lines = [line for note in judged_notes(judged) for line in (note, "")]
    for table in judged_tables(judged):
        lines += [f"By `{_cell(table.title)}`:", "", _row(table.head)]
        lines += ["|---" * len(table.head) + "|", *map(_row, table.rows), ""]
        lines += [f"- {note}" for note in table.notes]
        lines.append("")
    return lines


def _thresholds(folder: Path) -> list[str]:
    found = read_thresholds(folder)
    if not found:
        return []
    head = ("rule", "probability from", "sensitivity", "specificity")
    rows = [
        (str(one["rule"]), f"{one['threshold']:.3g}", *(_share(one, name) for name in head[2:]))
        for one in found
    ]
    return [
        *("", "Thresholds (`thresholds.json`), chosen by the rows that these figures are of:", ""),
        *(_row(head), "|---" * len(head) + "|", *map(_row, rows)),
    ]


def _share(one: dict[str, Any], name: str) -> str:
    value, low, high = one["figures"].get(name) or (None, None, None)
    return "" if value is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|").replace("<", "&lt;")
