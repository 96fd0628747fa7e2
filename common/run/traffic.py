"""What a run's rounds sent, of one hospital, and how sizes are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MOST, _MANY = 0.8, 20
"""A share beside training, in so many rounds, from which on it is worth a word."""


def training_bytes(rounds: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Bytes of one hospital and one round's training, ``up`` from it and ``down`` to it: the mean
    over the rounds of ``metrics.jsonl`` that somebody answered; {} where none says it.

    >>> training_bytes([{"training_bytes": {"up": 2, "down": 4}}, {"round": 2}])
    {'up': 2, 'down': 4}
    """
    found = [one for row in rounds if (one := row.get("training_bytes", {})).get("up")]
    return {way: sum(one[way] for one in found) // len(found) for way in found[0]} if found else {}


def human_bytes(size: float) -> str:
    """Bytes in the unit that reads best, powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def beside_training(rounds: Sequence[Mapping[str, Any]]) -> float | None:
    """The share of what hospitals sent in the rounds that wasn't training: figures, and the keys of
    masked sums. None where no round says it.

    >>> beside_training([{"training_bytes": {"up": 2}, "accepted": ["a", "b"], "bytes_up": 40}])
    0.9
    """
    known = [row for row in rounds if row.get("training_bytes", {}).get("up")]
    sent = sum(row["bytes_up"] for row in known)
    if not sent:
        return None
    trained = sum(row["training_bytes"]["up"] * len(row["accepted"]) for row in known)
    return max(0.0, 1 - float(trained) / float(sent))


def traffic_notes(rounds: Sequence[Mapping[str, Any]], every: int) -> list[str]:
    """What to know where figures are most of what hospitals send.

    every : rounds between evaluations
    """
    share = beside_training(rounds)
    if share is None or share < _MOST or every > 1 or len(rounds) < _MANY:
        return []
    return [
        f"Of what hospitals sent in the rounds {share:.0%} wasn't training: figures of every round "
        "(histograms of task.bins scores), and keys. evaluation.every = 10 sends a tenth of them."
    ]
