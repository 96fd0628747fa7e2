"""What a run's rounds sent, of one hospital, and how sizes are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


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
