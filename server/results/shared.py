"""What of a run's record may be shown to all that took part in it, field by field.

Named are fields that stay, never ones that go: what a later version writes into ``metrics.jsonl``
or ``run.json`` is in no package until somebody has thought about it here. Numbers are sums or means
over hospitals. Of two hospitals each could take its own off and have the other's, so:

- under masks a figure is of at least two, as ``min_cohort`` of each hospital allowed its opening;
- in a plain run it is of at least three;
- curves are of the chosen model's sums, over the hospitals of its shown figures, and no step of one
  is of fewer than ``SMALLEST`` rows of either class;
- of two evaluations of one model, over other hospitals, only the first is shown; and of all rounds
  only those that the same hospitals evaluated as the chosen one: what counts differ by when one
  joins or leaves is that one's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wardround.common.figures.within import of_enough
from wardround.common.protocol.names import SPLITS
from wardround.common.run.curves import Curves, sealed
from wardround.common.run.directory import DEPLOYED
from wardround.common.run.sums import KeptSums
from wardround.common.settings import DESCRIBE

FEWEST = 3
"""Hospitals whose numbers are shown as one, in a run where nothing else says how many there must
be."""
FEWEST_MASKED = 2
SMALLEST = 5
"""Rows of either class in a step of a curve: what a description shows no smaller count than."""
_LOST = "its sum could not be opened"
_EARLY = "no further round was made"
_ROUND = ("round", "attempt", "hidden", "clipped", "resolution", "clipping_norm", "factors_error")
_TRAFFIC = ("bytes_down", "bytes_up", "seconds")
_SUMMARY = (
    *("name", "purpose", "status", "strategy", "primary", "figures", "chosen_round"),
    *("not_chosen", "falling", "procedure"),
)


def shared_rounds(rounds: Sequence[Mapping[str, Any]], chosen: int) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``, without what is one hospital's.

    chosen : the round whose model the run leaves
    """
    evaluated = [row for row in rounds if row.get("overall")]
    one = next((row for row in evaluated if row["round"] == chosen), None)
    over = (one or (evaluated[-1] if evaluated else {})).get("over", {})
    return [shared_round(row, over) for row in rounds]


def shared_round(row: Mapping[str, Any], over: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """One line; it has ``asked``, ``contributed`` and ``evaluated`` (numbers of hospitals) for the
    names.

    over : by split, of which hospitals figures are shown
    """
    trained = len(row.get("accepted", ()))
    fewest = FEWEST_MASKED if row.get("hidden") else FEWEST
    # of a round that is lost the model is the one before: it was evaluated there
    evaluated = {} if row.get("lost") else _evaluated(row, over)
    shown = {split: count for split, count in evaluated.items() if count >= fewest}
    line = {key: row[key] for key in (*_ROUND, *_TRAFFIC) if key in row}
    line |= {
        "asked": len(row.get("cohort", ())),
        "contributed": trained,
        "evaluated": shown,
        "train_loss": row.get("train_loss") if trained >= fewest else None,
        "overall": {split: dict(row["overall"][split]) for split in shown},
        "within": {
            split: of_enough(row.get("within", {}).get(split, {}), count)
            for split, count in shown.items()
        },
        "hospitals": {},
        "refused": [],
    }
    if "intervals" in row:  # of figures with noise, which are all of the sums of many
        line["intervals"] = {split: row["intervals"].get(split, {}) for split in shown}
    return line | ({"lost": _LOST} if row.get("lost") else {})


def shared_curves(
    kept: KeptSums | None,
    rounds: Sequence[Mapping[str, Any]],
    shown: Sequence[Mapping[str, Any]],
) -> dict[str, Any] | None:
    """What ``curves.json`` holds, of splits whose figures of this model are shown; None if nothing.

    kept : the sums of the model that the run leaves. ``shown``: the lines that are shared
    """
    if kept is None:
        return None
    row = next((row for row in rounds if row["round"] == kept.round), {})
    line = next((row for row in shown if row["round"] == kept.round), {})
    curves = {
        split: Curves.of(kept, split, figures, SMALLEST)
        for split, figures in line.get("overall", {}).items()
        # where it was evaluated again, over others, these are other sums
        if split in kept.over and set(kept.over[split]) == set(row["over"][split])
    }
    found = {split: one for split, one in curves.items() if one.groups or one.intervals}
    return sealed(found, SMALLEST) if found else None


def _evaluated(row: Mapping[str, Any], over: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Of how many hospitals a round's figures are, by split, where they are of these."""
    theirs = row.get("over", {})
    return {
        split: len(theirs[split])
        for split in row.get("overall", {})
        if split in theirs and set(theirs[split]) == set(over.get(split, ()))
    }


def shared_answers(summary: Mapping[str, Any], masked: bool) -> list[str]:
    """Files that a procedure has published and all may have: no exact figures where too few have
    answered; a description rounds by itself what it tells."""
    fewest = FEWEST_MASKED if masked else FEWEST
    enough = summary["procedure"] == DESCRIBE or len(summary.get("answered", ())) >= fewest
    return list(summary["published"]) if enough else []


def shared_summary(
    summary: Mapping[str, Any],
    rounds: Sequence[Mapping[str, Any]],
    shown: Sequence[Mapping[str, Any]],
    answers: bool = True,
) -> dict[str, Any]:
    """``run.json`` without what is one hospital's or this machine's; ``rows``: of all hospitals
    together, by split, as they were announced.

    shown : the lines that are shared; ``answers``: whether what a procedure has published is
    """
    found = {key: summary[key] for key in _SUMMARY if key in summary}
    found |= {"kind": DEPLOYED, "hospitals": [], "absent": []}
    if "ended_early" in summary:
        found["ended_early"] = _EARLY
    sizes = summary.get("hospitals", [])
    found["members"] = len(sizes)
    if len(sizes) >= FEWEST and "procedure" not in summary:  # there rows are shown rounded
        found["rows"] = {
            split: total
            for split in SPLITS
            if (total := sum(one.get(split, 0) for one in sizes))
            and sum(one.get(split, 0) > 0 for one in sizes) >= FEWEST
        }
    hidden = any(row.get("overall") for row in rounds) and not any(row["overall"] for row in shown)
    if hidden or not answers:
        found |= {"too_few": True, "left_out": [TOO_FEW]}
    return found


TOO_FEW = (
    f"Figures of fewer than {FEWEST} hospitals are in no results: each could take its own off, and "
    "have another's."
)
