"""A judgement for people: tables of plain texts, which a card, a report or a page sets as it does.

for table in judged_tables(read_judgement(folder / "judgement.json")): ...
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wardround.common.errors import ModelRefused
from wardround.common.figures.figure import BOUND_SENTENCE, KNOWN, is_number, with_bound
from wardround.common.judgement.judge import FORMAT

_WORDS = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "PPV",
    "selection_rate": "selected",
    "calibration_in_the_large": "predicted less observed",
    "brier": "Brier",
    "rmse": "RMSE",
    "mae": "MAE",
    "bias": "bias",
    "c_index": "c-index",
}
"""Figures that a table shows, in its order; others stand in the file."""
_GAPS = {
    "demographic_parity_difference": "demographic parity (shares selected)",
    "equal_opportunity_difference": "equal opportunity (sensitivities)",
    "equalized_odds_difference": "equalised odds (sensitivities or false positive rates)",
    "auc_difference": "AUC",
    "accuracy_difference": "accuracy",
    "mae_difference": "MAE",
    "c_index_difference": "c-index",
}


@dataclass(frozen=True)
class JudgedTable:
    """What is shown of a column's groups; all texts are plain, and nobody's markup.

    title : the column
    head, rows : a table's; the first column has the groups' names
    notes : lines below it
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def read_judgement(path: Path) -> dict[str, Any] | None:
    """The values of a ``judgement.json``; None where there is no such file. Raises ModelRefused."""
    try:
        stored = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        raise ModelRefused("can't be read", who=str(path), mend=FORMAT.mend) from None
    return FORMAT.read(stored, ModelRefused, str(path))


def judged_tables(found: Mapping[str, Any]) -> list[JudgedTable]:
    """A table for each column of a judgement."""
    return [_table(column, found) for column in found["columns"]]


def judged_notes(found: Mapping[str, Any]) -> list[str]:
    """What is to be known of all its tables."""
    least, count = found["smallest_cell"], found["hospitals"]
    which = {"held_out": "held-out", "all": "all"}.get(found["split"], found["split"])
    said = [
        f"Of {which} rows of {count} hospitals, as sums over them. Groups are put together until "
        f"nothing shown tells of fewer than {least} persons; intervals are of 95 %.",
        "A gap is the largest difference between two groups, of chance too; where outcomes are "
        "more frequent in one group, no model has every gap at zero.",
    ]
    if "threshold" in found:
        said.append(f"Rows count as predicted from a probability of {found['threshold']:g} on.")
    return said


def _table(column: Mapping[str, Any], found: Mapping[str, Any]) -> JudgedTable:
    blocks = column["figures"]
    shown = [name for name in _WORDS if blocks and name in blocks[0]]
    rows = [
        (block["name"], f"{block['rows']:,}", *(_cell(block, name) for name in shown))
        for block in blocks
    ]
    notes = []
    if not blocks:
        shown = []
        few = f"fewer than {found['smallest_cell']} persons"
        notes.append(
            f"No figures: in all groups together {few} have one of the outcomes and predictions."
            if column["rows"]
            else f"Nothing is shown: {few}."
        )
        rows = [(one["name"], f"{one['rows']:,}") for one in column["rows"]]
    elif len(blocks) == 1 < len(column["rows"]):
        notes.append("Figures are of all groups together: by themselves too few persons have them.")
    if any("±" in cell for row in rows for cell in row[2:]):
        notes.append(f"{BOUND_SENTENCE}.")
    for name, value in column["gaps"].items():
        notes.append(f"Largest gap of {_GAPS.get(name, name)}: {value:.3f}")
    head = ("group", "rows", *(_WORDS[name] for name in shown))
    return JudgedTable(str(column["column"]), head, tuple(rows), tuple(notes))


def _cell(block: Mapping[str, Any], name: str) -> str:
    value, span = block.get(name), block.get(f"{name}_interval")
    if not is_number(value):
        return "undefined"
    text = f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"
    if span is not None and all(map(is_number, span)):
        text += f" ({span[0]:.3f} to {span[1]:.3f})"
    return with_bound(text, KNOWN[name].bound_in(block))
